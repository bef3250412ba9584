"""The long fault run: processes and the broker are killed by a seed while events flow; then every window is compared.

    python -m benchmarks.faults --kills 200 --results benchmarks/faults/results.md

Apache Kafka (a broker of its own), three aggregators, one controller. Plain Faust with a windowed table goes through
the same kind of kills on the same broker, and its losses and doubles stand beside.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import platform
import random
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from kafka import KafkaAdminClient

from benchmarks.faults import plain_faust
from pipeline.config.settings import Settings
from pipeline.events.codecs.registry import AUTO
from pipeline.store.store import Store
from tests.faults.dialects import DIALECTS
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, all_stored, deltas_written, fault_settings, ready, stored, truth
from tests.kafka_servers import KAFKA_VERSION, ApacheKafka
from tests.waiting import eventually

AGGREGATORS = 2
PARTITIONS = 6
#: How often each fault is drawn; broker faults come on top, at fixed distances.
WEIGHTS = {
    "kill an aggregator": 15,
    "kill the controller": 15,
    "kill all": 20,
    "kill one five times in a row": 35,
    "leave and join": 10,
    "zombie": 5,
}
ZOMBIE_SECONDS = 9.0  # longer than the session of 6 s


@dataclass
class Report:
    """What happened, and what came out."""

    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    ready_seconds: list[float] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    lost: int = 0
    doubled: int = 0
    seconds: float = 0.0
    drained_seconds: float = 0.0


async def works(settings: Settings, fleet: Fleet) -> float:
    """Wait until deltas are written and stored again and the service is ready; how long that took.

    Members that ended (a broker that goes away may end them) are started again, as a supervisor does.
    """
    written, applied = await deltas_written(settings), await stored(settings)

    async def moved() -> bool:
        for name in list(fleet.members):
            await fleet.revive(name)
        return (
            await ready(settings)
            and await stored(settings) > max(applied, 0)
            and await deltas_written(settings) > max(written, 0)
        )

    return await eventually(moved, 5 * READY_SECONDS, "the pipeline works")


async def hurt(
    fleet: Fleet,
    broker: ApacheKafka,
    settings: Settings,
    report: Report,
    kills: int,
    broker_every: int,
    rng: random.Random,
    minutes: float,
) -> None:
    """Draw faults until ``kills`` processes were killed; after each wait until everything works again."""
    names = [f"aggregate-{i}" for i in range(AGGREGATORS)]
    drawn = 0
    until = time.monotonic() + 60 * minutes
    while fleet.kills < kills and time.monotonic() < until:
        for name in list(fleet.members):
            await fleet.revive(name)
        drawn += 1
        fault = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if drawn % broker_every == 0:
            fault = "restart the broker" if drawn // broker_every % 2 else "kill the broker"
        victim = rng.choice(names)
        if fault == "kill an aggregator":
            fleet.restart(victim)
        elif fault == "kill the controller":
            fleet.restart("control")
        elif fault == "kill all":
            for name in [*names, "control"]:
                fleet.restart(name)
        elif fault == "kill one five times in a row":
            name = rng.choice([*names, "control"])
            for _ in range(5):
                fleet.restart(name)
                await asyncio.sleep(rng.uniform(0.0, 2.5))  # while it starts, too
        elif fault == "leave and join":
            await fleet.leave(victim)
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            fleet.start(victim)
        elif fault == "zombie":
            fleet.pause(victim)
            await asyncio.sleep(ZOMBIE_SECONDS)
            fleet.resume(victim)
        else:
            await asyncio.to_thread(broker.kill if fault == "kill the broker" else broker.stop)
            await asyncio.sleep(2.0)
            await asyncio.to_thread(broker.start)
        report.faults[fault] += 1
        report.ready_seconds.append(await works(settings, fleet))
        print(f"{fleet.kills} kills, {drawn} faults: {fault}, ready after {report.ready_seconds[-1]:.1f} s", flush=True)
        await asyncio.sleep(rng.uniform(0.0, 0.8))


async def tokentide(
    broker: ApacheKafka, folder: Path, kills: int, broker_every: int, seed: int, minutes: float, codec: str
) -> Report:
    """Run it, and compare."""
    settings = fault_settings(broker.bootstrap, folder, PARTITIONS, stream={"codec": codec})
    fleet, feed, report = Fleet(settings, folder), Feed(settings, seed, mixed=codec == AUTO), Report()
    feeding = asyncio.create_task(feed.run(batch=100, pause_seconds=0.2))
    began = time.monotonic()
    try:
        for i in range(AGGREGATORS):
            fleet.start(f"aggregate-{i}")
        fleet.start("control")
        await works(settings, fleet)
        await hurt(fleet, broker, settings, report, kills, broker_every, random.Random(seed), minutes)
        feed.stopping = True
        await feeding
        report.seconds = time.monotonic() - began
        report.drained_seconds = await all_stored(settings, 5 * READY_SECONDS)
    finally:
        statuses = fleet.stop()
    print(f"stopped: {statuses}", flush=True)
    report.kills, report.ended = fleet.kills, fleet.ended_by_themselves
    oracle = await truth(settings, feed)
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        report.differences = oracle.differences(store)
        ledger = store.ledger()
        counts = (
            store.cursor().execute("SELECT (SELECT count(*) FROM windows), (SELECT count(*) FROM steps)").fetchone()
        )
        deltas = store.delta_ledger()
        query = "SELECT window_start, model, pool, requests FROM windows JOIN keys USING (key_id)"
        found = {(int(w), model, pool): int(n) for w, model, pool, n in store.cursor().execute(query).fetchall()}
    for key in found.keys() | oracle.rows.keys():
        excess = found.get(key, 0) - oracle.rows[key]["requests"]
        report.doubled += max(0, excess)
        report.lost += max(0, -excess)
    report.totals = {
        **{
            name: sum(row[name] for row in ledger)
            for name in ("records", "events", "ignored", "duplicates", "dead_letters", "late")
        },
        "(window, key) rows": counts[0],
        "windows closed": counts[1],
        "deltas applied": sum(row["applied"] for row in deltas),
        "deltas dropped as repeated": sum(row["dropped"] for row in deltas),
    }
    return report


async def faust_itself(broker: ApacheKafka, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Plain Faust under ``kills`` kills and as many clean restarts; its counts against the truth."""
    settings = fault_settings(broker.bootstrap, folder, PARTITIONS)
    feed, rng = Feed(settings, seed, hostile=False), random.Random(seed)
    group = f"plain-{uuid.uuid4().hex[:8]}"
    context = multiprocessing.get_context("spawn")
    arguments = (broker.bootstrap, group, settings.kafka.requests_topic, PARTITIONS, folder / "plain.log")

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    changelog = {"num_partitions": PARTITIONS, "replication_factor": 1, "configs": {"cleanup.policy": "compact"}}
    admin.create_topics({plain_faust.changelog(group): changelog})
    admin.close()

    def start() -> Any:
        child = context.Process(target=plain_faust.worker, args=arguments, daemon=True)
        child.start()
        return child

    async def total() -> int:
        return sum((await plain_faust.counted(broker.bootstrap, group, PARTITIONS)).values())

    feeding = asyncio.create_task(feed.run(batch=100, pause_seconds=0.2))
    child = start()
    try:
        for turn in range(kills):
            before = await total()

            async def moved(before: int = before) -> bool:
                return await total() > before

            await eventually(moved, 5 * READY_SECONDS, "plain Faust works")
            await asyncio.sleep(rng.uniform(1.0, 4.0))
            child.kill()
            child.join()
            print(f"plain Faust: {turn + 1} kills", flush=True)
            child = start()
        feed.stopping = True
        await feeding
        oracle = await truth(settings, feed)
        last, since = -1, time.monotonic()
        # A worker that is killed is missed by the group for a minute, and then reads its changelog: what is not yet
        # counted is not lost.
        while time.monotonic() - since < (15 if last >= oracle.events else 300):
            now = await total()
            if now != last:
                last, since = now, time.monotonic()
            await asyncio.sleep(1.0)
    finally:
        child.kill()
        child.join()
    wanted: Counter[tuple[str, int]] = Counter()
    for (start_of, model, _), row in oracle.rows.items():
        wanted[model, start_of] += row["requests"]
    found = await plain_faust.counted(broker.bootstrap, group, PARTITIONS)
    keys = wanted.keys() | found.keys()
    return {
        "events": oracle.events,
        "kills": kills,
        "cells": len(keys),
        "wrong": sum(wanted[k] != found[k] for k in keys),
        "doubled": sum(max(0, found[k] - wanted[k]) for k in keys),
        "lost": sum(max(0, wanted[k] - found[k]) for k in keys),
    }


def per_kill(events: int, kills: int) -> str:
    return f"{events / max(1, kills):,.0f}"


def page(ours: Report, plain: dict[str, Any] | None, command: str, codec: str) -> str:
    """The results as Markdown."""
    ready_sorted = sorted(ours.ready_seconds)
    formats = "native events" if codec != AUTO else f"records in turn of {', '.join(DIALECTS)} (codec `auto`)"
    lines = [
        "# Faults: the long run",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores shared with other work, "
        f"Python {platform.python_version()}, "
        f"DuckDB {version('duckdb')}, faust-streaming {version('faust-streaming')}, aiokafka {version('aiokafka')}, "
        f"Apache Kafka {KAFKA_VERSION}.",
        "",
        f"```\n{command}\n```",
        "",
        f"{AGGREGATORS} aggregators, 1 controller, {PARTITIONS} partitions, events for {ours.seconds:.0f} s, "
        f"{formats}. Afterwards every (window, key), all token sums and moments, every histogram bucket, duplicates, "
        "dead letters, late and lost are compared with the truth that is read straight from the topic.",
        "",
        "| | |",
        "|---|---|",
        f"| processes killed with SIGKILL | {ours.kills} |",
        f"| processes that ended by themselves and were started again | {ours.ended} |",
        f"| faults | {sum(ours.faults.values())} |",
        *(f"| … {name} | {n} |" for name, n in sorted(ours.faults.items())),
        *(f"| {name} | {n:,} |" for name, n in ours.totals.items()),
        f"| working again after a fault, median / p95 / longest | {median(ready_sorted):.1f} / "
        f"{ready_sorted[int(0.95 * (len(ready_sorted) - 1))]:.1f} / {ready_sorted[-1]:.1f} s |",
        f"| **mismatches** | **{len(ours.differences)}** |",
        "",
    ]
    if ours.differences:
        lines += ["```", *ours.differences[:50], "```", ""]
    if plain is not None:
        lines += [
            "## Plain Faust in the same harness",
            "",
            "One worker, a tumbling table of 10 s relative to the event's own time, in-memory store with changelog, "
            "at least once (`benchmarks/faults/plain_faust.py`); the same feed without retries and poison, which it "
            "would count too, and each model in one partition, which its table needs.",
            "",
            "| | Tokentide | plain Faust |",
            "|---|---|---|",
            f"| kills | {ours.kills} | {plain['kills']} |",
            f"| events | {ours.totals['events']:,} | {plain['events']:,} |",
            f"| (window, key) cells | {ours.totals['(window, key) rows']:,} | {plain['cells']:,} |",
            f"| wrong cells | {len(ours.differences)} | {plain['wrong']:,} |",
            f"| events lost | {ours.lost} | {plain['lost']:,} |",
            f"| events counted more than once | {ours.doubled} | {plain['doubled']:,} |",
            f"| lost or doubled per kill | {per_kill(ours.lost + ours.doubled, ours.kills)} | "
            f"{per_kill(plain['lost'] + plain['doubled'], plain['kills'])} |",
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--broker-every", type=int, default=25, help="every so many faults the broker is the victim")
    parser.add_argument("--faust-kills", type=int, default=10, help="kills of plain Faust; 0 leaves it out")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop killing after so long, however few it were")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--codec", choices=["native", AUTO], default=AUTO, help=f"auto: records of {len(DIALECTS)} formats in turn"
    )
    parser.add_argument("--results", type=Path, help="write the report here as well")
    arguments = parser.parse_args()

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # while the broker is away it says so without end

    async def run() -> int:
        with tempfile.TemporaryDirectory(prefix="tokentide-faults-") as name, ApacheKafka() as broker:
            folder = Path(name)
            ours = await tokentide(
                broker,
                folder,
                arguments.kills,
                arguments.broker_every,
                arguments.seed,
                arguments.minutes,
                arguments.codec,
            )
            plain = None
            if arguments.faust_kills:
                plain = await faust_itself(broker, folder, arguments.faust_kills, arguments.seed)
        command = "python -m benchmarks.faults " + " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in vars(arguments).items() if value is not None
        )
        text = page(ours, plain, command, arguments.codec)
        print(text)
        if arguments.results:
            arguments.results.write_text(text)
        return 1 if ours.differences else 0

    return asyncio.run(run())


if __name__ == "__main__":
    raise SystemExit(main())
