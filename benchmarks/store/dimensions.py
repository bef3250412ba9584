"""What a dimension costs at closing: reading breakdowns, recording them, keeping them.

    python benchmarks/store/dimensions.py --folder FOLDER [--results benchmarks/store/dimensions.md]

A minute of base windows is written for so many pools and tenants of each (every tenant in every base window), then read
as at closing and recorded as a step. CPU seconds of all threads, median of nine; sizes from 300 recorded steps.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np

from pipeline.config.settings import StoreSettings, WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.store.store import Store
from pipeline.windows.types import BASE_SECONDS, MEASURES, DeltaRows, HistogramRows, WindowKey

START = 1_760_486_400
CASES = ((1, 20), (100, 20), (1_000, 20), (1, 100_000))
ROUNDS = 9
STEPS = 300


def rows_of(pools: int, tenants: int) -> tuple[list[WindowKey], DeltaRows]:
    """A minute of base rows; a tenant's share falls with its number."""
    rng = np.random.default_rng(7)
    keys = [WindowKey("model", f"pool-{p:04d}", f"tenant=tenant-{t:06d}") for p in range(pools) for t in range(tenants)]
    windows = np.repeat(START + BASE_SECONDS * np.arange(6), len(keys))
    requests = rng.poisson(np.tile(1 + 200.0 / (1 + np.arange(tenants)), 6 * pools)) + 1
    columns = {"requests": requests, "ok": requests, "input_tokens": 900 * requests, "output_tokens": 240 * requests}
    nothing = np.zeros_like(requests)
    measures = [columns.get(name, nothing).tolist() for name in MEASURES]
    return keys, DeltaRows(windows.tolist(), np.tile(np.arange(len(keys)), 6).tolist(), measures, nothing.tolist())


def cpu_milliseconds(function: Callable[[], object]) -> float:
    """Median of ``ROUNDS``."""
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        function()
        took.append(time.process_time() - began)
    return 1e3 * statistics.median(took)


def measure(folder: Path, pools: int, tenants: int) -> str:
    """One row of the table."""
    keys, rows = rows_of(pools, tenants)
    path = folder / f"dimensions-{pools}-{tenants}.duckdb"
    path.unlink(missing_ok=True)
    settings = WindowSettings(dimensions=("tenant",), max_pools=max(pools, 1_000))
    with Store.open(path, StoreSettings(), settings) as store:
        store.backfill(keys, rows, HistogramRows([], [], [], []))
    read = {}
    for name, dimensions in (("without", ()), ("with", ("tenant",))):
        with Store.open(path, StoreSettings(), settings.model_copy(update={"dimensions": dimensions})) as store:
            read[name] = cpu_milliseconds(lambda store=store: store.window_sums(START, START + 60))
            windows = store.window_sums(START, START + 60)
    path.unlink()
    bare = [replace(window, breakdown=()) for window in windows]
    wrote, sizes = {}, {}
    for name, made in (("without", bare), ("with", windows)):
        path.unlink(missing_ok=True)
        with Store.open(path) as store:
            at = iter(range(START, START + 10**9, 60))
            wrote[name] = cpu_milliseconds(lambda: store.record_step(_step(next(at), made)))  # noqa: B023
            store.record_steps([_step(next(at), made) for _ in range(STEPS)])
            store.cursor().execute("CHECKPOINT")
        sizes[name] = path.stat().st_size
        path.unlink()
    parts = statistics.mean(len(window.breakdown[0].parts) for window in windows)
    each = (sizes["with"] - sizes["without"]) / (STEPS + ROUNDS) / pools
    times = " | ".join(f"{took:.1f}" for took in (read["without"], read["with"], wrote["without"], wrote["with"]))
    return f"| {pools:,} | {tenants:,} | {parts:.0f} | {times} | {each:,.0f} |"


def _step(start: int, windows: list[object]) -> StepOutput:
    """The windows as those of the minute from ``start``, with other counts in every step."""
    noise = start // 60 % 97
    return StepOutput(
        start + 60,
        tuple(
            replace(
                window,  # type: ignore[type-var]
                start=start,
                breakdown=tuple(
                    told._replace(
                        parts=tuple(p._replace(requests=p.requests * (90 + noise) // 100) for p in told.parts)
                    )
                    for told in window.breakdown  # type: ignore[attr-defined]
                ),
            )
            for window in windows
        ),
    )


def report(folder: Path) -> list[str]:
    """The table, as Markdown."""
    return [
        "# What a dimension costs at closing",
        "",
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, {os.cpu_count()} cores (shared), {platform.machine()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}. Made by `python "
        "benchmarks/store/dimensions.py --folder FOLDER --results benchmarks/store/dimensions.md`.",
        "",
        *(__doc__ or "").strip().split("\n\n")[2].splitlines(),
        "",
        "| pools | tenants of each | parts kept | reading a minute without, ms | with | recording without, ms | with "
        "| bytes kept per pool and minute |",
        "|---|---|---|---|---|---|---|---|",
        *(measure(folder, pools, tenants) for pools, tenants in CASES),
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for stores that are made and removed")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(report(options.folder)) + "\n"
    print(text, end="")
    if options.results is not None:
        options.results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
