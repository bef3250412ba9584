"""Replays the Azure LLM traces through broker, aggregator and controller and compares DuckDB with the traces.

    python benchmarks/replay/azure.py --traces FOLDER [--day-requests N] [--speed S] [--kills N]

FOLDER holds ``azure_llm_2023/{conv,code}_requests.parquet`` (per request) and
``azure_llm_2024/conv_10s_counts.parquet`` (counts; its first day is expanded to requests, arrivals and token lengths
drawn with a seed, lengths from the 2023 conversation trace). With ``--kills`` aggregator and controller are each
killed with SIGKILL that many times while events are sent, and started again; ``--speed`` (event seconds per second,
0: as fast as the broker takes them) then gives the kills time to hit. Exit status 0 and the word EXACT: requests, input
and output tokens of every trace are the same in DuckDB as in the trace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipeline.config.settings import Settings, load, to_environment
from pipeline.kafka.embedded_broker import EmbeddedBroker, free_port
from pipeline.kafka.topics import ensure_topics
from pipeline.replay.to_kafka import ReplayTotals, replay_trace
from pipeline.replay.trace import Trace
from pipeline.store.store import Store

DAY_SECONDS = 86_400
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Expected:
    """What a trace file itself says. Tokens are None where the file holds counts only."""

    model: str
    trace: Trace
    limit: int
    requests: int
    input_tokens: int | None
    output_tokens: int | None
    span_seconds: float


def expectations(folder: Path, day_requests: int | None) -> list[Expected]:
    """Read the totals from the files, by SQL and not by our own reader."""
    found = []
    for name in ("conv", "code"):
        path = folder / "azure_llm_2023" / f"{name}_requests.parquet"
        row = duckdb.execute(
            "SELECT count(*), sum(prompt_tokens), sum(output_tokens), epoch(max(timestamp)) - epoch(min(timestamp)) "
            f"FROM '{path}'"
        ).fetchone()
        found.append(Expected(f"azure-2023-{name}", Trace.open(path), row[0], row[0], int(row[1]), int(row[2]), row[3]))
    path = folder / "azure_llm_2024" / "conv_10s_counts.parquet"
    day = duckdb.execute(
        f"SELECT sum(requests)::BIGINT FROM '{path}' "
        f"WHERE timestamp < (SELECT min(timestamp) FROM '{path}') + INTERVAL 1 DAY"
    ).fetchone()[0]
    requests = min(day, day_requests or day)
    trace = Trace.open(path, lengths=folder / "azure_llm_2023" / "conv_requests.parquet")
    found.append(Expected("azure-2024-conv-day", trace, requests, requests, None, None, DAY_SECONDS * requests / day))
    return found


class Processes:
    """The two roles as an operator runs them, each started again when it was killed."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._environment = os.environ | to_environment(settings)
        self._log = log
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, stage: str) -> None:
        with self._log.open("ab") as sink:
            self._running[stage] = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "--stage", stage],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

    def kill_and_restart(self, stage: str) -> None:
        process = self._running[stage]
        if process.poll() is not None:
            raise SystemExit(f"{stage} ended by itself with {process.returncode}; see {self._log}")
        process.kill()
        process.wait()
        self.start(stage)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(40)


def counted(port: int) -> int:
    """Events that the controller has stored so far; 0 while it does not answer."""
    with (
        suppress(OSError, ValueError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=2) as answer,
    ):
        return int(json.load(answer)["ledger"]["events"])
    return 0


def stored(path: Path, settings: Settings) -> dict[str, tuple[int, int, int]]:
    """(requests, input tokens, output tokens) per model, from the windows in DuckDB."""
    with Store.open(path, settings.store, settings.windows) as store:
        rows = store.cursor().execute(
            "SELECT model, sum(requests), sum(input_tokens), sum(output_tokens) "
            "FROM windows JOIN keys USING (key_id) GROUP BY model"
        )
        return {model: (int(n), int(i), int(o)) for model, n, i, o in rows.fetchall()}


def run(options: argparse.Namespace) -> int:
    """Replay, wait, compare, print."""
    expected = expectations(options.traces, options.day_requests)
    rng = random.Random(options.seed)
    sent: dict[str, ReplayTotals] = {}
    with tempfile.TemporaryDirectory(prefix="tokentide-azure-") as folder, EmbeddedBroker() as broker:
        settings = load(
            kafka={"bootstrap": broker.bootstrap, "partitions": 4, "session_timeout_seconds": 10.0},
            stream={"instance_id": "replay"},
            store={"path": Path(folder) / "azure.duckdb", "retention_base_seconds": 100 * 365 * DAY_SECONDS},
            publish={"port": free_port()},
        )
        ensure_topics(settings.kafka)
        processes = Processes(settings, Path(folder) / "pipeline.log")
        for stage in ("aggregate", "control"):
            processes.start(stage)

        produced = [0]

        async def replay() -> None:
            for item in expected:
                done = sum(totals.events for totals in sent.values())

                def progress(totals: ReplayTotals, done: int = done) -> None:
                    produced[0] = done + totals.events

                sent[item.model] = await replay_trace(
                    settings, item.trace, item.model, speed=options.speed, seed=7, limit=item.limit, progress=progress
                )

        producer = threading.Thread(target=lambda: asyncio.run(replay()), daemon=True)
        total = sum(item.requests for item in expected)
        points = sorted(rng.uniform(0.05, 0.9) for _ in range(options.kills))
        began = progressed = time.monotonic()
        producer.start()
        seen = kills = 0
        try:
            while seen < total:
                time.sleep(0.1)
                now = counted(settings.publish.port)
                if now > seen:
                    seen, progressed = now, time.monotonic()
                if time.monotonic() - progressed > PATIENCE_SECONDS:
                    print((Path(folder) / "pipeline.log").read_text()[-3000:], file=sys.stderr)
                    raise SystemExit(f"no progress after {seen:,} of {total:,} events")
                if points and produced[0] >= points[0] * total:
                    points.pop(0)
                    for stage in rng.sample(("aggregate", "control"), 2):
                        processes.kill_and_restart(stage)
                        kills += 1
                        time.sleep(rng.uniform(0.0, 2.0))
            wall = time.monotonic() - began
            producer.join(30)
        finally:
            processes.stop()
        exact = report(expected, sent, stored(settings.store.path, settings))
    print(
        f"\n{total:,} events through broker, aggregator, controller and DuckDB in {wall:.0f} s "
        f"({total / wall:,.0f} events/s, {sum(e.span_seconds for e in expected) / wall:,.0f} times real time), "
        f"{kills} processes killed; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}"
    )
    print("EXACT" if exact and kills == 2 * options.kills else "MISMATCH")
    return 0 if exact and kills == 2 * options.kills else 1


def report(expected: list[Expected], sent: dict[str, ReplayTotals], found: dict[str, tuple[int, int, int]]) -> bool:
    """Print a row per trace and quantity; tell whether all agree."""
    exact = set(found) == {item.model for item in expected}
    print("| trace | quantity | in the trace | in DuckDB |\n|---|---|---|---|")
    for item in expected:
        drawn = sent[item.model]  # counts have no tokens of their own: what was drawn and sent is the truth
        truths = (
            item.requests,
            drawn.input_tokens if item.input_tokens is None else item.input_tokens,
            drawn.output_tokens if item.output_tokens is None else item.output_tokens,
        )
        values = found.get(item.model, (0, 0, 0))
        for quantity, truth, value in zip(("requests", "input tokens", "output tokens"), truths, values, strict=True):
            exact &= truth == value
            print(f"| {item.model} | {quantity} | {truth:,} | {value:,} |")
    return exact


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--day-requests", type=int, default=None, help="cut the expanded day after so many requests")
    parser.add_argument("--speed", type=float, default=0.0)
    parser.add_argument("--kills", type=int, default=0, help="times each process is killed")
    parser.add_argument("--seed", type=int, default=5)
    raise SystemExit(run(parser.parse_args()))
