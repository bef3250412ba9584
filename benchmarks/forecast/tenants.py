"""The forecast of a sum against that of its parts: ServeGen's clients as the tenants of a pool.

    python benchmarks/forecast/tenants.py --traces FOLDER [--markdown FILE]

Every window goes through the code that runs live: broken down to its heaviest clients as at closing, then forecast with
0, 4 and 8 series for tenants. Prequential; two days of warm-up are not scored; windows without any request are outages
of the trace's telemetry and go in as gaps.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pickle
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np

from pipeline.config.settings import ForecastSettings, Settings, WindowSettings
from pipeline.engine.tenants import DIMENSION, PoolTenants
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.testing import closed_window
from pipeline.windows.breakdown import breakdown
from pipeline.windows.types import ClosedWindow, PoolKey

GRAIN = 600
HORIZONS = (600, 1200, 3600)
WARM_UP = 2 * 86_400
DAY = 86_400
SERIES = (0, 4, 8)
TIMED = 3
_MEDIAN, _Q95 = LEVELS.index(0.5), LEVELS.index(0.95)


@dataclass(frozen=True)
class Run:
    """What one forecaster said: by horizon and origin the median and q95, NaN where nothing; cost and state."""

    said: np.ndarray
    milliseconds: float
    state_kilobytes: float


def windows(folder: Path, model: str) -> list[ClosedWindow]:
    """The trace as closed windows with their breakdowns; requests are rates times the width, rounded."""
    counts: dict[int, dict[str, tuple[int, int, int, int]]] = defaultdict(dict)
    source = [str(folder / "servegen/client_rates_10min.parquet")]
    query = "FROM read_parquet(?) WHERE model = ? ORDER BY t_s, client"
    for at, client, rate in duckdb.execute(f"SELECT t_s, client, rate {query}", [*source, model]).fetchall():
        if round(rate * GRAIN):
            counts[int(at)][str(client)] = (round(rate * GRAIN), 0, 0, 0)
    found = []
    for start in range(min(counts), max(counts) + GRAIN, GRAIN):
        total = sum(n for n, *_ in counts[start].values())
        window = closed_window(
            start, total, model=model, grain_seconds=GRAIN, input_tokens=0, output_tokens=0, gap=total == 0
        )
        found.append(replace(window, breakdown=(breakdown(DIMENSION, counts[start], window),) if total else ()))
    return found


def run(trace: list[ClosedWindow], series: int) -> Run:
    """Forecast the trace with so many series for tenants."""
    costs = []
    for _ in range(TIMED):
        forecaster, step = _forecaster(trace[0].key, series)
        said = np.full((len(HORIZONS), len(trace), 2), np.nan)
        began = time.process_time()
        for at, window in enumerate(trace):
            for horizon, forecast in enumerate(step(window)):
                said[horizon, at] = forecast.quantiles[_MEDIAN], forecast.quantiles[_Q95]
        costs.append(1e3 * (time.process_time() - began) / len(trace))
    return Run(said, min(costs), len(pickle.dumps(forecaster)) / 1e3)


def _forecaster(key: PoolKey, series: int) -> tuple[object, Callable[[ClosedWindow], tuple[Forecast, ...]]]:
    if series == 0:
        alone = SeriesForecaster(SeriesKey(key.model, key.pool, Signal.REQUESTS), HORIZONS, GRAIN)
        return alone, lambda window: alone.step(float(window.end), signal_rates(window)[Signal.REQUESTS])
    settings = Settings(
        windows=WindowSettings(grain_seconds=GRAIN, dimensions=(DIMENSION,)),
        forecast=ForecastSettings(horizons_seconds=HORIZONS, tenant_series=series),
    )
    tenants = PoolTenants(key, settings)
    return tenants, lambda window: tenants.step(window, signal_rates(window)[Signal.REQUESTS], ())


class Scores:
    """Errors of one run at one horizon, by day."""

    def __init__(self, trace: list[ClosedWindow], one: Run, horizon: int) -> None:
        ahead = HORIZONS[horizon] // GRAIN
        rates = np.array([np.nan if w.gap else w.requests / GRAIN for w in trace])
        first = WARM_UP // GRAIN
        actual, said = rates[first + ahead :], one.said[horizon, first : len(trace) - ahead]
        usable = ~np.isnan(actual) & ~np.isnan(said[:, 0]) & ~np.isnan(rates[first : len(trace) - ahead])
        self.days = (np.arange(len(actual)) * GRAIN // DAY)[usable]
        self.actual, self.median, self.high = actual[usable], said[usable, 0], said[usable, 1]

    def cell(self) -> str:
        """WAPE in percent, pinball loss at .95 in percent of demand, coverage of q95."""
        miss = self.actual - self.high
        pinball = np.where(miss > 0.0, 0.95 * miss, -0.05 * miss).sum() / self.actual.sum()
        return f"{100 * self.errors().sum() / self.actual.sum():.2f} / {100 * pinball:.2f} / {(miss <= 0.0).mean():.3f}"

    def errors(self) -> np.ndarray:
        """Absolute errors of the median."""
        return np.abs(self.actual - self.median)

    def gain(self, other: Scores) -> str:
        """WAPE of ``other`` less this one, in points, with its 95 % interval (bootstrap of whole days)."""
        days = np.unique(self.days)
        better = np.array([(other.errors() - self.errors())[self.days == day].sum() for day in days])
        demand = np.array([self.actual[self.days == day].sum() for day in days])
        draws = np.random.default_rng(7).integers(0, len(days), (4000, len(days)))
        low, high = np.quantile(100 * better[draws].sum(axis=1) / demand[draws].sum(axis=1), (0.025, 0.975))
        return f"{100 * better.sum() / demand.sum():+.2f} [{low:+.2f}, {high:+.2f}]"


def report(folder: Path) -> list[str]:
    """The tables, as Markdown."""
    lines = [
        "# Forecasts by tenant",
        "",
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, one of {os.cpu_count()} cores (shared), "
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}. Made by "
        "`python benchmarks/forecast/tenants.py --traces FOLDER --markdown benchmarks/forecast/tenants.md`.",
        "",
        *(line.strip() for line in (__doc__ or "").split("\n\n")[2].splitlines()),
        "",
        "A cell is WAPE % / pinball loss at .95, % of demand / coverage of q95. `gain` is what WAPE falls by, in",
        "points, against no series for tenants, with a 95 % interval from a bootstrap of whole days. ms: CPU per",
        "window (best of three) for the request rate of one pool; kB: the state, pickled. The shares at which a tenant",
        "gets and loses a series were chosen while looking at these two traces.",
    ]
    for model in ("m-small", "m-mid"):
        trace = windows(folder, model)
        runs = {series: run(trace, series) for series in SERIES}
        lines += ["", f"## {model}", "", "| series | 10 min | 20 min | 60 min | ms | kB |", "|---|---|---|---|---|---|"]
        scores = {n: [Scores(trace, one, h) for h in range(len(HORIZONS))] for n, one in runs.items()}
        for series, one in runs.items():
            cells = " | ".join(score.cell() for score in scores[series])
            lines.append(f"| {series} | {cells} | {one.milliseconds:.2f} | {one.state_kilobytes:.0f} |")
            if series:
                gains = " | ".join(a.gain(b) for a, b in zip(scores[series], scores[0], strict=True))
                lines.append(f"| gain of {series} | {gains} | | |")
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    text = "\n".join(line.rstrip() for line in report(options.traces)) + "\n"
    print(text, end="")
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
