"""Does the controller's memory become flat? python -m benchmarks.stream.memory [--pools 10] [--days 5] [--limit 2GB]

Days of events as fast as they can be worked off, in one process and without a broker: deltas of base windows into the
store, windows closed, forecast, advised and recorded, the live state scraped, old rows deleted every hour of event
time, as the controller does it. Sampled are the memory of the process, what DuckDB's buffers hold of it, the C heap
(with what DuckDB knows of its row groups), blocks of Python objects, and the size of the engine's state.

With ``--profile`` Python's growth from day to day is told by line; that takes several times as long.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from benchmarks.control.traffic import DAY, HOUR, MINUTE, START, Traffic
from benchmarks.stream.machine import describe
from benchmarks.stream.report import load_results, save_results
from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.advisor import Advisor
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.stream.process.memory import trim_heap
from pipeline.stream.process.tuning import tune_process

#: Reports of replicas a minute.
REPORTS = 4
#: Shorter than an operator would choose, so that all that is kept for a time is full on the third day.
RETENTION = {
    "retention_base_seconds": DAY,
    "retention_closed_seconds": 2 * DAY,
    "retention_forecasts_seconds": 2 * DAY,
}


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(10)]


#: Where it holds bytes in mapped blocks (``hblkhd``) and bytes in use of the rest (``uordblks``).
_MAPPED, _IN_USE = 4, 7


def _heap_bytes() -> float:
    """What is in use of the C heap; DuckDB's buffers have an allocator of their own."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return float("nan")
    ask.restype = _Heap
    found = ask()
    return float(sum(getattr(found, f"field{i}") for i in (_MAPPED, _IN_USE)))


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith(f"{name}:"))


def _sample(hours: float, store: Store, path: Path, advisor: Advisor) -> dict[str, float]:
    state = len(advisor.snapshot())
    trim_heap()
    (buffers,) = store.cursor().execute("SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()").fetchone()
    return {
        "hours": hours,
        "anonymous": _status_bytes("RssAnon"),
        "mapped": _status_bytes("RssFile"),
        "peak": _status_bytes("VmHWM"),
        "buffers": int(buffers),
        "heap": _heap_bytes(),
        "blocks": sys.getallocatedblocks(),
        "state": state,
        "file": path.stat().st_size,
        "cpu_seconds": time.process_time(),
    }


def measure(pools: int, days: float, limit: str, every_hours: int, *, profile: bool = False) -> list[dict[str, float]]:
    """Samples every so many hours of event time, the first before the first step."""
    samples = []
    with tempfile.TemporaryDirectory(prefix="tokentide-memory-") as folder:
        path = Path(folder) / "memory.duckdb"
        settings = load(store={"path": path, "memory_limit": limit, **RETENTION}).model_copy(
            update={
                "pools": tuple(
                    PoolSettings(model=f"m{i % 5}", pool=f"p{i:04d}", profile="llama-3.1-8b", accelerator="L40S")
                    for i in range(pools)
                )
            }
        )
        tune_process()
        with Store.open(path, settings.store, settings.windows) as store:
            clock, book, traffic = ManualClock(START), ReplicaBook(), Traffic(settings)
            live, advisor = LiveState(clock, settings.pools, "memory"), Advisor(settings)
            exporter, closer = Exporter(live), WindowCloser(settings, store, advisor, book)
            if profile:
                tracemalloc.start(4)
            before = None
            samples.append(_sample(0.0, store, path, advisor))
            for number in range(round(days * DAY / MINUTE)):
                start = START + number * MINUTE
                reached = start + MINUTE + settings.windows.allowed_lateness_seconds
                store.apply([(0, number, traffic.delta(start))])
                for pool in settings.pools:
                    for report in range(REPORTS):
                        at = float(start + report * MINUTE // REPORTS)
                        book.add(ReplicaStatus(model=pool.model, pool=pool.pool, at=at, current=4, ready=4))
                clock.set(reached)
                output = closer.close_next(reached)
                assert output is not None
                live.update(output)
                del output
                exporter.render()
                ended = start + MINUTE - START
                if ended % HOUR == 0:
                    store.retain(float(start + MINUTE), closer.gone)
                if ended % (every_hours * HOUR) == 0:
                    samples.append(_sample(ended / HOUR, store, path, advisor))
                    print(row(samples[-1]), flush=True)
                if profile and ended % DAY == 0:
                    now = tracemalloc.take_snapshot()
                    if before is not None:
                        print(*now.compare_to(before, "lineno")[:12], sep="\n", flush=True)
                    before = now
    return samples


def row(sample: dict[str, float]) -> str:
    """One line of the table."""
    outside = sample["anonymous"] - sample["buffers"]
    megabytes = (sample[name] / 1e6 for name in ("anonymous", "buffers"))
    more = (outside / 1e6, sample["heap"] / 1e6, sample["state"] / 1e6, sample["file"] / 1e6)
    cells = [f"{number:,.0f}" for number in (*megabytes, *more)]
    return f"| {sample['hours']:.0f} | {' | '.join(cells)} | {sample['blocks'] / 1e3:,.0f} |"


def section(samples: list[dict[str, float]], pools: int, limit: str, command: str) -> str:
    """The table for the results file."""
    last = samples[-1]
    lines = [
        f"`{command}`: {pools} pools with settings, windows of a minute; base windows are kept for a day, closed ones "
        f"and forecasts for two, a snapshot is made every half-hour; `store.memory_limit = {limit}`. MB.",
        "",
        "| hour | anonymous | DuckDB's buffers | the rest | C heap | engine's state | file | Python blocks, 1,000 |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, samples),
        "",
        f"Largest resident memory {last['peak'] / 1e6:,.0f} MB, {last['mapped'] / 1e6:,.0f} MB of it mapped libraries; "
        f"{last['cpu_seconds'] / last['hours']:.1f} s of CPU an hour of event time.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream.memory", description=__doc__)
    parser.add_argument("--pools", type=int, default=10)
    parser.add_argument("--days", type=float, default=5.0)
    parser.add_argument("--limit", default="2GB", help="store.memory_limit")
    parser.add_argument("--every", type=int, default=12, help="hours between samples")
    parser.add_argument("--profile", action="store_true", help="tell where Python's own memory grows")
    parser.add_argument("--dry", action="store_true", help="print, but leave the results files alone")
    options = parser.parse_args()
    samples = measure(options.pools, options.days, options.limit, options.every, profile=options.profile)
    arguments = f"--pools {options.pools} --days {options.days:g} --limit {options.limit} --every {options.every}"
    text = section(samples, options.pools, options.limit, f"python -m benchmarks.stream.memory {arguments}")
    print(text)
    if not options.dry:
        results = load_results()
        title = f"Memory of the controller: {options.pools} pools, {options.days:g} days, a limit of {options.limit}"
        results.setdefault("sections", {})[title] = {"where": describe(), "markdown": text, "rows": samples}
        save_results(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
