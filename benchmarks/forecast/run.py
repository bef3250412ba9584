"""Forecast benchmark: WAPE, pinball and coverage per trace and horizon against every single expert; cost and state.

    python benchmarks/forecast/run.py --traces FOLDER [--only az_5min,...] [--json FILE]

FOLDER holds ``azure_llm_2024``, ``burstgpt`` and ``servegen`` (Parquet). Prequential: learn a window, issue, score what
matures; the first two days are left out of the scores.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import time
from pathlib import Path

import duckdb
import numpy as np

from pipeline.forecast.model import LEVELS, SeriesKey
from pipeline.forecast.series import SeriesForecaster

# Name: query of counts per row in time order, rows per window, seconds per window, horizons in seconds.
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
}  # fmt: skip
WARM_UP_SECONDS = 2 * 86_400
MEDIAN, Q95 = LEVELS.index(0.5), LEVELS.index(0.95)


def load(folder: Path, name: str) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """Rates per second, the grain and the horizons of one trace."""
    file, column, order, where, rows, grain, horizons = TRACES[name]
    query = f"select {column} as y from read_parquet(?) where {where} order by {order}"
    counts = duckdb.execute(query, [str(folder / file)]).fetchnumpy()["y"].astype(np.float64)
    return counts[: len(counts) // rows * rows].reshape(-1, rows).sum(axis=1) / grain, grain, horizons


def measure(values: np.ndarray, grain: int, horizons: tuple[int, ...]) -> list[dict[str, object]]:
    """One row per horizon."""
    model = SeriesForecaster(SeriesKey("model", "pool", "requests_per_second"), horizons, grain)
    issued = np.empty((len(values), len(horizons), len(LEVELS)))
    experts = np.empty((len(values), len(horizons), len(model.pool.experts)))
    seconds = []
    for at, value in enumerate(values.tolist()):
        began = time.perf_counter()
        forecasts = model.step((at + 1) * grain, value)
        seconds.append(time.perf_counter() - began)
        issued[at] = [forecast.quantiles for forecast in forecasts]
        experts[at] = np.array([expert.forecast() for expert in model.pool.experts]).T
    first, rows = WARM_UP_SECONDS // grain, []
    for at, horizon in enumerate(horizons):
        steps = horizon // grain
        actual, quantiles = values[first + steps :], issued[first : len(values) - steps, at]
        errors = np.abs(actual[:, None] - experts[first : len(values) - steps, at]).sum(axis=0) / actual.sum()
        over = actual - quantiles[:, Q95]
        rows.append(
            {
                "horizon_seconds": horizon,
                "wape": float(np.abs(actual - quantiles[:, MEDIAN]).sum() / actual.sum()),
                "best_wape": float(errors.min()),
                "best": model.pool.names[int(errors.argmin())],
                "last_wape": float(errors[0]),
                "pinball_95": float(np.maximum(0.95 * over, -0.05 * over).sum() / actual.sum()),
                "coverage_95": float((over <= 0.0).mean()),
                "step_microseconds": 1e6 * statistics.median(seconds),
                "state_bytes": len(pickle.dumps(model)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--only", default=",".join(TRACES), help="names of traces, separated by commas")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args()
    table = []
    print(
        f"{'trace':22} {'ahead':>6} {'WAPE%':>6} {'best%':>6} {'last%':>6} {'pin95%':>6} {'cov95':>6} {'µs':>5}  best"
    )
    for name in arguments.only.split(","):
        for row in measure(*load(arguments.traces, name)):
            table.append({"trace": name, **row})
            percents = " ".join(f"{100 * row[key]:6.2f}" for key in ("wape", "best_wape", "last_wape", "pinball_95"))
            cost = f"{row['coverage_95']:6.3f} {row['step_microseconds']:5.0f}"
            print(f"{name:22} {row['horizon_seconds']:6} {percents} {cost}  {row['best']}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
