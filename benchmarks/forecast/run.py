"""Forecast benchmark: WAPE, MASE, pinball loss, coverage and cost per trace and horizon, against rivals.

    python benchmarks/forecast/run.py --traces FOLDER [--only az_5min,...] [--json FILE] [--markdown FILE]

FOLDER holds ``azure_llm_2024``, ``burstgpt``, ``servegen``, ``nasa_http`` and ``worldcup98``; traces that are missing
are named and left out. Prequential: learn a window, issue, score what matures; the first two days are not scored.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import pickle
import platform
import statistics
import time
from pathlib import Path

import duckdb
import numpy as np
from rivals import RIVALS, banded

from pipeline.forecast.calendar import CalendarRecord
from pipeline.forecast.model import LEVELS, SeriesKey
from pipeline.forecast.series import SeriesForecaster

# Name: file, column, order, condition, rows per window, seconds per window, horizons in seconds.
TRACES = {
    "az_1min": ("azure_llm_2024/conv_10s_counts.parquet", "requests", "timestamp", "true", 6, 60, (300, 900, 3600)),
    "az_5min": ("azure_llm_2024/conv_10s_counts.parquet", "requests", "timestamp", "true", 30, 300, (300, 900, 3600)),
    "burst_tokens_5min": ("burstgpt/week1_tokens_1min.parquet", "tokens", "t_s", "true", 5, 300, (300, 900, 3600)),
    "burst_conversation_1h": ("burstgpt/hourly.parquet", "conversation", "t_s", "true", 1, 3600, (3600, 10_800)),
    "servegen_small_10min": (
        "servegen/model_demand_10min.parquet", "requests", "t_s", "model = 'm-small'", 1, 600, (600, 1200, 3600),
    ),
    "servegen_mid_10min": (
        "servegen/model_demand_10min.parquet", "requests", "t_s", "model = 'm-mid'", 1, 600, (600, 1200, 3600),
    ),
    "nasa_5min": ("nasa_http/requests_10s.parquet", "requests", "t_s", "true", 30, 300, (300, 900, 3600)),
    "worldcup_5min": (
        "worldcup98/requests_1min.parquet", "requests", "timestamp", "timestamp >= '1998-05-01'", 5, 300,
        (300, 900, 3600),
    ),
}  # fmt: skip
WARM_UP_SECONDS = 2 * 86_400
NEAR_SECONDS = 7200
MATCH_SECONDS = 6300
WORLDCUP_START = datetime.datetime(1998, 5, 1, tzinfo=datetime.UTC).timestamp()
MEDIAN, Q95 = LEVELS.index(0.5), LEVELS.index(0.95)
PINBALL = (0.5, 0.9, 0.95, 0.99)


def load(folder: Path, name: str) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """Rates per second, the grain and the horizons of one trace."""
    file, column, order, where, rows, grain, horizons = TRACES[name]
    query = f"select {column} as y from read_parquet(?) where {where} order by {order}"
    counts = duckdb.execute(query, [str(folder / file)]).fetchnumpy()["y"].astype(np.float64)
    return counts[: len(counts) // rows * rows].reshape(-1, rows).sum(axis=1) / grain, grain, horizons


def matches(folder: Path) -> list[CalendarRecord]:
    """The public fixture list: what was known beforehand, kick-off times only."""
    records = []
    with (folder / "worldcup98/match_schedule.csv").open() as file:
        for at, row in enumerate(csv.DictReader(file)):
            kickoff = datetime.datetime.fromisoformat(row["kickoff_utc"]).replace(tzinfo=datetime.UTC).timestamp()
            records.append(CalendarRecord(str(at), "match", kickoff, kickoff + MATCH_SECONDS))
    return records


def run_pool(
    values: np.ndarray,
    grain: int,
    horizons: tuple[int, ...],
    start: float = 0.0,
    calendar: tuple[CalendarRecord, ...] = (),
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Issued quantiles ``(windows, horizons, levels)``, the experts' points ``(windows, horizons, experts)``, costs."""
    model = SeriesForecaster(SeriesKey("model", "pool", "requests_per_second"), horizons, grain)
    issued = np.empty((len(values), len(horizons), len(LEVELS)))
    experts = np.empty((len(values), len(horizons), len(model.pool.experts)))
    seconds = []
    for at, value in enumerate(values.tolist()):
        began = time.perf_counter()
        forecasts = model.step(start + (at + 1) * grain, value, calendar)
        seconds.append(time.perf_counter() - began)
        issued[at] = [forecast.quantiles for forecast in forecasts]
        experts[at] = np.array([expert.forecast() for expert in model.pool.experts]).T
    return issued, experts, {"us": 1e6 * statistics.median(seconds), "bytes": len(pickle.dumps(model))}


def score(issued: np.ndarray, values: np.ndarray, step: int, first: int, day: int) -> dict[str, float]:
    """Scores of one horizon's quantiles ``(windows, levels)``; pinball losses over mean demand."""
    actual, quantiles = values[first + step :], issued[first : len(values) - step]
    with np.errstate(all="ignore"):
        error = np.abs(actual - quantiles[:, MEDIAN])
        seasonal = np.abs(values[day:] - values[:-day])[max(0, first + step - day) :].mean()
        row = {"wape": float(error.sum() / actual.sum()), "mase": float(error.mean() / seasonal)}
        for level in PINBALL:
            over = actual - quantiles[:, LEVELS.index(level)]
            loss = np.maximum(level * over, (level - 1.0) * over)
            row[f"pinball_{level:g}"] = float(loss.sum() / actual.sum())
    row["coverage_95"] = float((actual <= quantiles[:, Q95]).mean())
    return row


def measure(values: np.ndarray, grain: int, horizons: tuple[int, ...]) -> list[dict[str, object]]:
    """One row per model and horizon."""
    steps = tuple(horizon // grain for horizon in horizons)
    first, day = WARM_UP_SECONDS // grain, 86_400 // grain
    pool, experts, cost = run_pool(values, grain, horizons)
    runs = {"Tokentide": (pool, cost["us"])}
    for name, points in RIVALS.items():
        began = time.perf_counter()
        with np.errstate(all="ignore"):
            path = points(values, steps, day)
        microseconds = 1e6 * (time.perf_counter() - began) / len(values)
        runs[name] = (banded(np.nan_to_num(path, nan=1e300, posinf=1e300, neginf=0), values, steps, day), microseconds)
    rows: list[dict[str, object]] = []
    for at, (horizon, step) in enumerate(zip(horizons, steps, strict=True)):
        actual = values[first + step :]
        errors = np.abs(actual[:, None] - experts[first : len(values) - step, at]).sum(axis=0) / actual.sum()
        for name, (issued, microseconds) in runs.items():
            row = {"model": name, "horizon_seconds": horizon, **score(issued[:, at], values, step, first, day)}
            rows.append({**row, "microseconds": microseconds})
        rows[-len(runs)] |= {"best_expert": float(errors.min()), "state_bytes": cost["bytes"]}
    return rows


def measure_calendar(folder: Path) -> list[dict[str, float]]:
    """World Cup, with and without the fixture list: WAPE in all and within two hours of kick-offs."""
    values, grain, horizons = load(folder, "worldcup_5min")
    records = tuple(matches(folder))
    kickoffs = np.array([record.starts_at for record in records])
    first, rows = WARM_UP_SECONDS // grain, []
    runs = [run_pool(values, grain, horizons, WORLDCUP_START, calendar)[0] for calendar in ((), records)]
    for at, horizon in enumerate(horizons):
        step = horizon // grain
        actual = values[first + step :]
        ends = WORLDCUP_START + grain * (np.arange(first + step, len(values)) + 1.0)
        near = np.abs(ends[:, None] - kickoffs).min(axis=1) <= NEAR_SECONDS
        row: dict[str, float] = {"horizon_seconds": horizon}
        for label, issued in zip(("without", "with"), runs, strict=True):
            quantiles = issued[first : len(values) - step, at]
            error = np.abs(actual - quantiles[:, MEDIAN])
            row[label] = float(error.sum() / actual.sum())
            row[f"{label}_near"] = float(error[near].sum() / actual[near].sum())
            row[f"{label}_near_coverage"] = float((actual <= quantiles[:, Q95])[near].mean())
        rows.append(row)
    return rows


def percent(value: float) -> str:
    """A share in percent; beyond tenfold it has diverged."""
    return f"{100.0 * value:.2f}" if value < 10.0 else "div"


def markdown(table: dict[str, list[dict[str, object]]], calendar: list[dict[str, float]]) -> str:
    """The results as a page."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "river", "duckdb"))
    lines = [
        "# Forecast benchmark: results",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, one of {os.cpu_count()} cores (shared), {platform.machine()},"
        f" Python {platform.python_version()}, {versions}. Made by `benchmarks/forecast/run.py`.",
        "",
        "Prequential, labels delayed by the horizon, two days of warm-up not scored, one default configuration for all",
        "traces. Pinball losses in % of mean demand. Rivals' bands: the last day's matured residuals. `div`: above",
        "1,000 %. µs: one window, all horizons, rivals without their bands. The constants of the pool were chosen",
        "looking at the Azure, BurstGPT and ServeGen traces, those of the calendar on the World Cup: expect some",
        "optimism there; no constant was chosen on the NASA trace. Not measured, as not installed: statsforecast",
        "(AutoARIMA, AutoETS, MSTL), Prophet, LightGBM.",
    ]
    head = "| ahead | model | WAPE % | MASE | pinball .5 | .9 | .95 | .99 | q95 covers | µs |"
    for name, rows in table.items():
        lines += ["", f"## {name}", "", head, "|---" * 10 + "|"]
        for row in rows:
            mase = f"{row['mase']:.2f}" if float(str(row["mase"])) < 1e3 else "div"
            losses = " | ".join(percent(float(str(row[f"pinball_{level:g}"]))) for level in PINBALL)
            lines.append(
                f"| {int(str(row['horizon_seconds'])) // 60} min | {row['model']} | {percent(float(str(row['wape'])))} "
                f"| {mase} | {losses} | {row['coverage_95']:.3f} | {row['microseconds']:.0f} |"
            )
        own = [row for row in rows if "best_expert" in row]
        best = ", ".join(percent(float(str(row["best_expert"]))) for row in own)
        lines += [
            "",
            f"Best single expert of the pool in hindsight: WAPE {best} %. State: {own[0]['state_bytes']:,} bytes.",
        ]
    if calendar:
        lines += [
            "",
            "## World Cup with the fixture list",
            "",
            "WAPE %, all windows and within two hours of kick-offs.",
            "",
        ]
        lines += ["| ahead | all without | all with | near without | near with | change near | q95 covers near, with |"]
        lines += ["|---" * 7 + "|"]
        for row in calendar:
            shares = " | ".join(percent(row[key]) for key in ("without", "with", "without_near", "with_near"))
            change = 100.0 * (row["with_near"] / row["without_near"] - 1.0)
            lines.append(
                f"| {row['horizon_seconds'] // 60:.0f} min | {shares} | {change:+.1f} % "
                f"| {row['with_near_coverage']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--only", default=",".join(TRACES), help="names of traces, separated by commas")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--markdown", type=Path, help="write the page of results here")
    arguments = parser.parse_args()
    table, calendar = {}, []
    for name in arguments.only.split(","):
        if not (arguments.traces / TRACES[name][0]).exists():
            print(f"{name}: {TRACES[name][0]} is missing")
            continue
        table[name] = measure(*load(arguments.traces, name))
        for row in table[name]:
            print(
                f"{name:22} {row['horizon_seconds']:6} {row['model']:24} {percent(float(str(row['wape']))):>7}"
                f" {percent(float(str(row['pinball_0.95']))):>7} {row['coverage_95']:6.3f} {row['microseconds']:6.0f}",
                flush=True,
            )
        if name == "worldcup_5min":
            calendar = measure_calendar(arguments.traces)
            print(*calendar, sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"traces": table, "calendar": calendar}, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(table, calendar))


if __name__ == "__main__":
    main()
