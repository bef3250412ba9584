"""Measures the store: merging deltas, a month of a hundred pools under the board's queries, size, retention, export.

    python benchmarks/store/run.py --folder FOLDER --results benchmarks/store/results.md

The deltas of the merge are folded from events. The month is written by SQL, in the order in which a controller writes,
into FOLDER/month.duckdb; it is used again when it is there.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from merging import make_deltas
from month import DAYS, END, POOLS, Month
from scrape import thousand_pools

from pipeline.config.settings import StoreSettings
from pipeline.store.store import Store
from pipeline.windows.delta import decode

BAR_SECONDS = 0.1
DAY = 86_400


class Report:
    """Rows of (what, value, note) by section; printed as they come, written as Markdown at the end."""

    def __init__(self) -> None:
        self.sections: dict[str, list[tuple[str, str, str]]] = {}

    def add(self, section: str, what: str, value: str, note: str = "") -> None:
        self.sections.setdefault(section, []).append((what, value, note))
        print(f"{section}: {what}: {value}  {note}", flush=True)

    def markdown(self) -> str:
        lines = [
            "# The store: measurements",
            "",
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}) shared with other work, "
            f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, NumPy {np.__version__}.",
            "",
            "```",
            "python benchmarks/store/run.py --folder FOLDER --results benchmarks/store/results.md",
            "```",
        ]
        for section, rows in self.sections.items():
            lines += ["", f"## {section}", "", "| what | value | |", "|---|---|---|"]
            lines += [f"| {what} | {value} | {note} |" for what, value, note in rows]
        return "\n".join(lines) + "\n"


def timed(function: Callable[[], Any], rounds: int = 1) -> tuple[float, float, Any]:
    """Median wall and CPU seconds (all threads of the process), and what the last call returned."""
    walls, cpus = [], []
    result = None
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus), result


def measure_merge(report: Report, folder: Path) -> None:
    for pools in (100, 1_000):
        encoded = make_deltas(pools, batches=36, partitions=12, records=5_000)
        _, cpu, deltas = timed(lambda data=encoded: [(p, decode(value)) for p, value in data])
        rows = sum(len(d.rows.window) for _, d in deltas)
        cells = sum(len(d.histograms.row) for _, d in deltas)
        events = sum(d.events for _, d in deltas)
        section = f"Merging deltas of 5,000 events, {pools:,} pools"
        size = sum(len(value) for _, value in encoded) / len(encoded) / 1024
        report.add(section, "a delta", f"{size:,.0f} KiB", f"{rows // 36:,} rows, {cells // 36:,} histogram cells")
        report.add(section, "decoding and checking", f"{events / cpu:,.0f} events per CPU second")
        for together in (1, 4, 12):
            path = folder / f"merge-{pools}-{together}.duckdb"
            path.unlink(missing_ok=True)
            batches = [
                [(p, (i + j) // 12, delta) for j, (p, delta) in enumerate(deltas[i : i + together])]
                for i in range(0, len(deltas), together)
            ]
            with Store.open(path) as store:
                took = []
                wall, cpu = time.perf_counter(), time.process_time()
                for batch in batches:
                    began = time.perf_counter()
                    assert store.apply(batch).applied == len(batch)
                    took.append(time.perf_counter() - began)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                assert store.totals()["requests"] == events
            path.unlink()
            report.add(
                section,
                f"storing, {together} deltas a transaction",
                f"{(rows + cells) / cpu:,.0f} rows per CPU second",
                f"{events / cpu:,.0f} events per CPU second; {events / wall:,.0f} events/s by the wall; a transaction "
                f"p50 {np.median(took) * 1000:.1f} ms, p95 {np.quantile(took, 0.95) * 1000:.1f} ms",
            )


def measure_queries(report: Report, store: Store) -> None:
    model, pool = "model-5", "pool-0037"
    queries: tuple[tuple[str, Callable[[], Any]], ...] = (
        *(
            (f"history of a pool, {what}", lambda s=span, g=grain: store.history(model, pool, END - s, END, g))
            for what, span, grain in (
                ("3 h by minute (the board opens)", 10_800, 60),
                ("1 day by minute", DAY, 60),
                ("7 days by 5 minutes", 7 * DAY, 300),
                ("30 days by hour", 30 * DAY, 3_600),
                ("30 days by day", 30 * DAY, DAY),
            )
        ),
        ("latency quantiles of a pool, 1 h", lambda: store.latency_quantiles(model, pool, END - 3_600, END)),
        ("latency histograms of all pools, 1 h (closing)", lambda: store.e2e_histogram(END - 3_600, END)),
        ("sums of all pools over a minute (closing)", lambda: store.window_sums(END - 60, END)),
        ("newest forecasts of a series", lambda: store.forecasts(model, pool, "kv_tokens")),
        ("newest 100 recommendations of a pool", lambda: store.recommendations(model, pool, 100)),
        ("alerts of a day", lambda: store.alerts(END - DAY)),
        ("totals", store.totals),
        ("ledger and dead letters (health, every 2 s)", lambda: (store.ledger(), store.dead_letter_reasons())),
        ("pools", store.pools),
    )
    for what, query in queries:
        first, _, result = timed(query)
        wall, cpu, _ = timed(query, 9)
        assert result, f"{what}: nothing was found, so nothing was measured"
        verdict = "" if wall < BAR_SECONDS else "; **over the bar of 100 ms**"
        note = f"CPU {cpu * 1000:.1f} ms, the first time {first * 1000:.1f} ms, {len(result):,} rows{verdict}"
        report.add(f"Queries over {DAYS} days of {POOLS} pools", what, f"{wall * 1000:.1f} ms", note)


def measure_month(report: Report, folder: Path) -> None:
    path = folder / "month.duckdb"
    settings = StoreSettings(path=path)
    month = Month(path, settings)
    month.fill()
    for what, rows, size in month.sizes():
        report.add("Size on disk", what, f"{size / rows * 1e6 / 1e6:,.1f} MB a million", f"{rows:,} rows measured")
    with Store.open(path, settings) as store:
        measure_queries(report, store)
        section = "Upkeep of that store"
        wall, cpu, rows = timed(lambda: store.window_sums(END - DAY, END))
        report.add(
            section, "rolling up a day of all pools", f"{wall:.2f} s", f"{POOLS * 8_640:,} rows, CPU {cpu:.2f} s"
        )
        wall, cpu, files = timed(lambda: store.export_parquet(folder / "export", ["closed_windows", "windows"]))
        rows = sum(file.rows for file in files)
        report.add(section, "exporting windows and closed windows", f"{wall:.1f} s", f"{rows:,} rows, CPU {cpu:.1f} s")
    shutil.rmtree(folder / "export")
    copy = folder / "retained.duckdb"
    shutil.copy(path, copy)
    with Store.open(copy, settings) as store:
        wall, cpu, _ = timed(lambda: store.retain(END + 60))
        note = f"CPU {cpu:.2f} s; DuckDB rewrites what the filling left, once in the life of a file"
        report.add(section, "retention, the first after filling", f"{wall:.2f} s", note)
        for hours in (1, 24):
            wall, cpu, _ = timed(lambda at=END + hours * 3_600: store.retain(at))
            note = f"CPU {cpu:.2f} s; the writer waits meanwhile"
            report.add(section, f"retention, {hours} h later", f"{wall:.2f} s", note)
    copy.unlink()


def measure_scrape(report: Report) -> None:
    exporter = thousand_pools()
    exporter.render()
    wall, cpu, text = timed(exporter.render, 5)
    note = f"{text.count(bytes([10])):,} lines, {len(text) / 1e6:.1f} MB; {wall:.2f} s by the wall"
    report.add("/metrics", "a scrape of 1,000 pools", f"{cpu:.2f} s of CPU", note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the stores are made")
    parser.add_argument("--results", type=Path, help="write the results here as Markdown")
    parser.add_argument("--only", choices=("fill", "merge", "month", "scrape"), help="one part")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    report = Report()
    if options.only == "fill":
        path = options.folder / "month.duckdb"
        Month(path, StoreSettings(path=path)).fill()
        return
    parts: dict[str, Callable[[], None]] = {
        "merge": lambda: measure_merge(report, options.folder),
        "month": lambda: measure_month(report, options.folder),
        "scrape": lambda: measure_scrape(report),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part()
    if options.results is not None:
        options.results.write_text(report.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
