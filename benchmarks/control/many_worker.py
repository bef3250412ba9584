"""One run of ``benchmarks.control.many``: some pools, through the controller as it runs live, in this process.

    python -m benchmarks.control.many_worker warm FOLDER --minutes 60
    python -m benchmarks.control.many_worker seed FOLDER --minutes 60 --pools 1000
    python -m benchmarks.control.many_worker run FOLDER --pools 1000 --steps 8
    python -m benchmarks.control.many_worker restart FOLDER --pools 1000

``warm`` lets the engine learn some time of a few pools. ``seed`` gives every pool the state of one of these under a
name of its own, ``run`` closes ``steps`` minutes, ``restart`` starts again on the store that it left. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import shutil
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from aiohttp import ClientSession
from faust.types import TP

from benchmarks.control.meter import Meter
from benchmarks.control.traffic import MINUTE, START, Traffic
from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.pool_advisor import PoolAdvisor
from pipeline.engine.types import StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import SeriesKey, Signal
from pipeline.kafka.embedded_broker import EmbeddedBroker
from pipeline.kafka.topics import ensure_topics
from pipeline.packing import pack, unpack
from pipeline.publish.api import create_app
from pipeline.publish.exporter import Exporter
from pipeline.publish.http.server import HttpServer
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.sinks.kafka import KafkaSink
from pipeline.sinks.live import LiveStateSink
from pipeline.store.store import Store
from pipeline.stream.controller.controller import Controller
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.process.memory import trim_heap
from pipeline.stream.process.tuning import tune_process
from pipeline.windows.delta import encode
from pipeline.windows.types import PoolKey

WARM_POOLS = 20
#: Steps before measuring begins: the first one keeps every pool's state, and queries are planned.
UNMEASURED = 2
REPORT_SECONDS = 15.0
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def settings_of(pools: int, **sections: Any) -> Settings:
    """Settings of so many pools; their names have one length, so that one can stand for another in a pickle."""
    named = tuple(
        PoolSettings(model=MODEL, pool=f"p{i:05d}", profile="llama-3.1-8b", accelerator="L40S") for i in range(pools)
    )
    kafka = {"partitions": 1} | sections.pop("kafka", {})
    return load(None, kafka=kafka, windows={"max_pools": max(1_000, pools)}, **sections).model_copy(
        update={"pools": named}
    )


class Reports:
    """What fleets report every 15 seconds: four replicas, and the requests by their routers' own count."""

    def __init__(self, settings: Settings, traffic: Traffic, book: ReplicaBook, at: float) -> None:
        self._settings, self._traffic, self._book, self._at = settings, traffic, book, at
        self._totals = [1_000_000.0] * len(settings.pools)

    def until(self, end: float) -> None:
        """Report up to ``end``, epoch seconds."""
        while self._at + REPORT_SECONDS <= end:
            self._at += REPORT_SECONDS
            for number, (pool, rate) in enumerate(
                zip(self._settings.pools, self._traffic.expected_per_second(self._at), strict=True)
            ):
                self._totals[number] += REPORT_SECONDS * rate
                self._book.add(
                    ReplicaStatus(
                        model=pool.model,
                        pool=pool.pool,
                        at=self._at,
                        current=4,
                        ready=4,
                        queued_requests=0,
                        running_requests=round(4.0 * rate),
                        requests_total=round(self._totals[number]),
                    )
                )


def warm(folder: Path, minutes: int) -> dict[str, Any]:
    """Learn, and keep the states of the pools; measure what four of their forecasters cost."""
    settings = settings_of(WARM_POOLS)
    lateness = settings.windows.allowed_lateness_seconds
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        book, traffic = ReplicaBook(), Traffic(settings)
        reports = Reports(settings, traffic, book, float(START - MINUTE))
        closer = WindowCloser(settings, store, Advisor(settings), book)
        for number in range(minutes):
            start = START + number * MINUTE
            delta = traffic.delta(start)
            # As in ``run``: event time has passed the window when it closes, so it is complete and teaches a load.
            delta.max_event_at = start + MINUTE + lateness + 1.0
            store.apply([(0, number, delta)])
            reports.until(start + MINUTE + lateness)
            closer.close_next(start + MINUTE + lateness)
        state = closer.state()
    assert state is not None
    states = pickle.dumps((state.as_of, list(state.pools.values())))
    (folder / f"warm.{minutes}.pickle").write_bytes(states)
    return {"minutes": minutes, "state_bytes": statistics.mean(map(len, state.pools.values()))}


def four_forecasters(learned: int = 60, windows: int = 20) -> float:
    """CPU seconds that the forecasters of a pool's four signals need for a window, alone and one after another."""
    settings = settings_of(WARM_POOLS)
    forecasters = [
        SeriesForecaster(
            SeriesKey(pool.model, pool.pool, signal),
            settings.forecast.horizons_seconds,
            settings.windows.grain_seconds,
            settings.forecast.season_seconds,
            suspect_silence=False,
        )
        for pool in settings.pools
        for signal in Signal
    ]
    rng = np.random.default_rng(5)
    rates = rng.gamma(20.0, 1.0, (learned + windows, len(forecasters)))
    began = 0.0
    for number in range(learned + windows):
        if number == learned:
            began = time.thread_time()
        at = float(START + MINUTE * (number + 1))
        for forecaster, rate in zip(forecasters, rates[number].tolist(), strict=True):
            forecaster.step(at, rate, ())
            forecaster.scores()
    return (time.thread_time() - began) / windows / len(settings.pools)


def _renamed(body: bytes, name: bytes, other: bytes) -> bytes:
    """The state of a pool under a name of the same length; the models of its outlooks are packed within it."""
    pool: PoolAdvisor = pickle.loads(body.replace(name, other))
    outlooks = pool._outlooks
    outlooks._model = pack(pickle.loads(pickle.dumps(unpack(outlooks._model), protocol=4).replace(name, other)))
    return pack(pool)


def seed_store(path: Path, settings: Settings, folder: Path, minutes: int) -> int:
    """A store whose last step lies at the end of the warm time, with a state for every pool; returns that time."""
    as_of, bodies = pickle.loads((folder / f"warm.{minutes}.pickle").read_bytes())
    plain = [pickle.dumps(unpack(body), protocol=4) for body in bodies]
    advisor = Advisor(settings)
    advisor.as_of = as_of
    pools = {}
    for number, pool in enumerate(settings.pools):
        body, name = plain[number % WARM_POOLS], f"p{number % WARM_POOLS:05d}"
        pools[PoolKey(pool.model, pool.pool)] = _renamed(body, name.encode(), pool.pool.encode())
    advisor._named_at = dict.fromkeys(pools, as_of)
    with Store.open(path, settings.store, settings.windows) as store:
        store.record_step(StepOutput(as_of))
        store.save_snapshots(as_of, advisor.shared_snapshot(), pools, as_of)
    return int(as_of)


class Live:
    """The parts of a controller around one store, with a broker for its results and its HTTP server."""

    def __init__(self, settings: Settings, store: Store, now: float) -> None:
        self.settings, self.store = settings, store
        self.clock = ManualClock(now)
        self.live = LiveState(self.clock, settings.pools, settings.config_hash())
        self.results, exporter = KafkaSink(settings), Exporter(self.live)
        shown = LiveStateSink(self.live, lambda finished: self.controller.show_metrics(finished=finished))
        self.sinks = SinkFanout([shown, self.results])
        self.offset = 0
        self.controller = Controller(
            settings,
            self.clock,
            store,
            Advisor(settings),
            self.live,
            self.sinks,
            1,
            lambda: SimpleNamespace(highwater=lambda _: self.offset),
            exporter,
        )
        self.tp = TP(settings.kafka.deltas_topic, 0)
        self.controller.intake._epochs = {self.tp: 1}
        self.http = HttpServer(create_app(self.live, store, settings.publish, self.clock, exporter), settings.publish)

    async def start(self) -> None:
        for part in (self.http, self.sinks, self.controller):
            await part.start()

    async def stop(self) -> None:
        for part in (self.controller, self.sinks, self.http):
            await part.stop()

    def batch(self, value: bytes) -> RecordBatch:
        batch = RecordBatch(self.tp, self.offset)
        batch.values, batch.timestamps, batch._offsets, batch.epoch = [value], [-1], [self.offset], 1
        self.offset = batch.next_offset = self.offset + 1
        return batch


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def buffers_bytes(store: Store) -> int:
    query = "SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()"
    return int(store.cursor().execute(query).fetchone()[0])


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(seconds, q)) for q in (50, 99)} | {"max": max(seconds)}


async def scrapes(live: Live, count: int = 10) -> dict[str, float]:
    took, cpu = [], time.process_time()
    async with ClientSession() as client:
        for _ in range(count):
            began = time.monotonic()
            async with client.get(f"http://127.0.0.1:{live.http.port}/metrics") as response:
                text = await response.read()
            took.append(time.monotonic() - began)
    found = {"bytes": len(text), "lines": text.count(b"\n"), "cpu": (time.process_time() - cpu) / count}
    return found | percentiles(took)


async def run(settings: Settings, path: Path, steps: int, settle_seconds: float) -> dict[str, Any]:
    """Close so many minutes of a seeded store as they fall due, each delivered as one delta.

    Memory is sampled after each, and once more after ``settle_seconds`` (0: not at all).
    """
    tune_process()
    base = anonymous_bytes()
    meter = Meter()
    with Store.open(path, settings.store, settings.windows) as store:
        as_of = store.last_closed()
        assert as_of is not None
        live = Live(settings, store, float(as_of))
        await live.start()
        controller = live.controller
        assert controller._restored is not None
        await controller._restored
        traffic = Traffic(settings)
        reports = Reports(settings, traffic, controller.replicas, float(as_of - MINUTE))
        lateness = settings.windows.allowed_lateness_seconds
        every = settings.advise.revise_every_seconds
        meter.watch(controller, live.results)
        found: dict[str, Any] = {"memory": []}
        cpu = wall = loop = revised = 0.0
        closed: list[float] = []
        for number in range(UNMEASURED + steps):
            start = as_of + number * MINUTE
            delta = traffic.delta(start)
            delta.base_delta_offset = live.offset - 1
            delta.max_event_at = start + MINUTE + lateness + 1.0
            value = encode(delta)
            del delta
            reports.until(start + MINUTE + lateness)
            live.clock.set(start + MINUTE + lateness + 2.0)
            if number == UNMEASURED:
                meter.cpu.clear()
                meter.closed_to_published.clear()
                meter.due_to_published.clear()
                closed.clear()
                cpu = wall = loop = revised = 0.0
            began, wall_began, loop_began = time.process_time(), time.monotonic(), time.thread_time()
            meter.due_at = wall_began
            await controller.take(live.batch(value))
            await controller.close_due()
            cpu += time.process_time() - began
            loop += time.thread_time() - loop_began
            wall += time.monotonic() - wall_began
            closed.append(time.monotonic() - wall_began)
            assert store.last_closed() == start + MINUTE, (store.last_closed(), start)
            for after in range(every, MINUTE, every) if every else ():
                reached = start + MINUTE + lateness + after
                reports.until(reached)
                live.clock.set(reached + 1.0)
                controller.intake.event_time._reached = reached
                began = time.process_time()
                await controller._revise()
                revised += time.process_time() - began
            trim_heap()
            found["memory"].append({"anonymous": anonymous_bytes() - base, "buffers": buffers_bytes(store)})
        if settle_seconds:
            await asyncio.sleep(settle_seconds)
            trim_heap()
            found["settled"] = anonymous_bytes() - base - buffers_bytes(store)
        windows = steps * len(settings.pools)
        found |= {
            "cpu": (cpu + revised) / windows,
            "revised": {"cpu": revised / windows, "raised": sum(live.live.counters().revisions.values())},
            "wall_per_step": wall / steps,
            "stages": {name: spent / windows for name, spent in meter.cpu.items()},
            "loop": loop / windows,
            "closed_to_published": percentiles(meter.closed_to_published),
            "due_to_published": percentiles(meter.due_to_published),
            "scrape": await scrapes(live),
        }
        began, wall_began = time.process_time(), time.monotonic()
        kept = store.snapshots()
        assert kept is not None
        shutil.copy(path, path.with_suffix(".crashed"))
        wal = path.with_name(f"{path.name}.wal")
        if wal.exists():
            shutil.copy(wal, path.with_name(f"{path.stem}.crashed.wal"))
        began, wall_began = time.process_time(), time.monotonic()
        await live.stop()
        found["end"] = {"cpu": time.process_time() - began, "wall": time.monotonic() - wall_began}
        kept = store.snapshots()
        assert kept is not None
        found["snapshot_bytes"] = sum(len(body) for _, body in kept.pools.values()) + len(kept.shared)
    found["file_bytes"] = path.stat().st_size
    return found


async def restart(settings: Settings, path: Path) -> dict[str, Any]:
    """Seconds until the stored advice is shown and published, and until the engine is where the store is."""
    tune_process()
    began, cpu = time.monotonic(), time.process_time()
    with Store.open(path, settings.store, settings.windows) as store:
        last = store.last_closed()
        assert last is not None
        live = Live(settings, store, last + settings.windows.allowed_lateness_seconds + 2.0)
        await live.start()
        shown = time.monotonic() - began
        advised = sum(view.recommendation is not None for view in live.live.snapshot().pools)
        restored = live.controller._restored
        assert restored is not None
        await restored
        found = {
            "shown": shown,
            "advised": advised,
            "restored": time.monotonic() - began,
            "cpu": time.process_time() - cpu,
            "stepped_again": (last - kept.as_of) // MINUTE if (kept := store.snapshots()) else None,
        }
        live.controller._closer._whole = False  # measured is the start alone
        await live.stop()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("warm", "forecasters", "seed", "run", "restart"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, default=60, help="what ``warm`` learns, and pools begin with")
    parser.add_argument("--pools", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--settle", type=float, default=0.0, help="seconds until memory is sampled once more")
    parser.add_argument("--crashed", action="store_true", help="restart on the store as it was before the orderly end")
    options = parser.parse_args()
    path = options.folder / f"{options.pools}.duckdb"
    if options.what == "warm":
        found: dict[str, Any] = warm(options.folder, options.minutes)
    elif options.what == "forecasters":
        found = {"four_forecasters": four_forecasters()}
    elif options.what == "seed":
        path.unlink(missing_ok=True)
        settings = settings_of(options.pools, store={"path": path})
        found = {"as_of": seed_store(path, settings, options.folder, options.minutes)}
    else:
        with EmbeddedBroker() as broker:
            settings = settings_of(
                options.pools,
                kafka={"bootstrap": broker.bootstrap},
                store={"path": path},
                publish={"port": 0},
            )
            ensure_topics(settings.kafka)
            if options.what == "run":
                found = asyncio.run(run(settings, path, options.steps, options.settle))
            else:
                found = asyncio.run(restart(settings, path.with_suffix(".crashed") if options.crashed else path))
    json.dump(found | {"loadavg": os.getloadavg()[0]}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
