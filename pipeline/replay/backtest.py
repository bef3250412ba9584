"""Prequential backtests: at every window learn it, then forecast; score each forecast when its target has come.

The forecaster is the one that runs live (``pipeline.forecast.series.SeriesForecaster``); nothing is fitted on the
whole series, tuned per series, or known before its time. The same input gives the same bytes out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from pipeline.forecast.calendar.known import KnownCalendar
from pipeline.forecast.exogenous.known import NOTHING
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.forecast.experts.registry import expert_factory
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey, Signal
from pipeline.replay.exogenous import exogenous_at, rows_of_series, signal_names
from pipeline.replay.experts import DEFAULT, ExpertForecasts, ExpertScore, expert_scores
from pipeline.replay.scoring import HorizonScore, score_horizon
from pipeline.replay.sources import DemandSeries

__all__ = [
    "BacktestResult",
    "SeriesBacktest",
    "default_warmup_seconds",
    "run_backtest",
    "seasons_of",
    "write_forecasts",
]

Floats = NDArray[np.float64]

#: More forecast rows than this do not fit into memory beside everything else (about 2 GB).
MAX_ROWS = 20_000_000

#: Keeping every expert's forecasts takes about so many times the memory.
_EXPERT_COST = 4

#: A cycle of fewer windows is none.
_LEAST_SEASON_WINDOWS = 4

_LEVEL_COLUMNS = tuple(f"q{round(level * 100):02d}" for level in LEVELS)


@dataclass(frozen=True, slots=True)
class SeriesBacktest:
    """One series and every forecast that was issued for it.

    ``quantiles[i, h]`` are the forecasts at ``LEVELS`` issued at the end of window ``i`` for the window that ends
    ``horizons_seconds[h]`` later; NaN where none was issued. Values are sums over a window, as in the input.
    """

    series: DemandSeries
    horizons_seconds: tuple[int, ...]
    warmup_windows: int
    quantiles: Floats
    experts: ExpertForecasts | None = None

    def matured(self, horizon: int, *, after_warmup: bool) -> tuple[NDArray[np.int64], Floats]:
        """Return the origins (window numbers) whose target at horizon number ``horizon`` is known, and the targets."""
        values = self.series.values
        ahead = self.horizons_seconds[horizon] // self.series.step_seconds
        actual = np.full(len(values), np.nan)
        actual[: max(len(values) - ahead, 0)] = values[ahead:]
        usable = ~np.isnan(actual) & ~np.isnan(self.quantiles[:, horizon, 0])
        if after_warmup:
            usable[: self.warmup_windows] = False
        origins = np.flatnonzero(usable)
        return origins, actual[origins]


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """Everything a backtest found; ``scores`` has one entry per series and horizon (and ``all`` over several)."""

    step_seconds: int
    horizons_seconds: tuple[int, ...]
    season_seconds: int
    series: tuple[SeriesBacktest, ...]
    scores: tuple[HorizonScore, ...]
    experts: tuple[ExpertScore, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints: settings, the series read, the scores."""
        return {
            "schema": "tokentide.backtest.v1",
            "step_seconds": self.step_seconds,
            "horizons_seconds": list(self.horizons_seconds),
            "season_seconds": self.season_seconds,
            "series": [
                {
                    "series": item.series.name,
                    "start": item.series.start,
                    "windows": len(item.series.values),
                    "gaps": int(np.isnan(item.series.values).sum()),
                    "rows": item.series.rows,
                    "warmup_windows": item.warmup_windows,
                }
                for item in self.series
            ],
            "scores": [dataclasses.asdict(score) for score in self.scores],
            "experts": [dataclasses.asdict(score) for score in self.experts],
        }


def default_warmup_seconds(span_seconds: float, season_seconds: int) -> float:
    """What is learned but not scored: two seasons, or a quarter of a span shorter than four."""
    return 2.0 * season_seconds if span_seconds >= 4 * season_seconds else span_seconds / 4


def run_backtest(
    series: Sequence[DemandSeries],
    *,
    horizons_seconds: Sequence[int],
    warmup_seconds: float | None = None,
    season_seconds: int = 86_400,
    calendar: Sequence[CalendarRecord] = (),
    experts: Sequence[str] = ("default",),
    exogenous: Sequence[ExogenousRow] = (),
    progress: Callable[[str, float], None] | None = None,
) -> BacktestResult:
    """Run every series through a forecaster of its own.

    Args:
        series: regular series of one step, as ``pipeline.replay.sources.read_demand`` returns them.
        horizons_seconds: how far ahead, multiples of the step. Horizons beyond a season get a forecaster of their own,
            with several seasons as its cycle.
        warmup_seconds: left out of the scores (not of the forecasts); None: ``default_warmup_seconds``.
        season_seconds: the cycle to learn.
        calendar: announced events, each known from its ``announced_at`` on. Where there are several series, an event
            that names a model concerns the series of that name; pools are not told apart.
        experts: names of the experts of the pool, as the setting ``forecast.experts``. Other than the default ones,
            each expert's own WAPE is found as well.
        exogenous: external forecasts, for the expert ``external``, as rates per second, and values of signals; each
            counts from the time at which it became known.
        progress: called with a series' name and the share of it that is done, now and then.

    Raises:
        InputError: there is nothing to forecast, or horizons, season and step do not fit together.
    """
    if not series:
        raise InputError("there is no series to backtest")
    step = series[0].step_seconds
    horizons = tuple(sorted(set(horizons_seconds)))
    if not horizons:
        raise InputError("at least one horizon is needed")
    for horizon in horizons:
        if horizon <= 0 or horizon % step:
            raise InputError(f"the horizon of {horizon} s is not a positive multiple of the step of {step} s")
    if season_seconds % step or season_seconds < _LEAST_SEASON_WINDOWS * step:
        raise InputError(
            f"the season of {season_seconds} s is not at least {_LEAST_SEASON_WINDOWS} whole steps of {step} s"
        )
    rows = sum(len(item.values) for item in series) * len(horizons)
    if tuple(experts) != DEFAULT:
        rows *= _EXPERT_COST
    if rows > MAX_ROWS:
        raise InputError(f"{rows} forecasts are more than {MAX_ROWS}; use a wider step, fewer horizons or fewer series")
    given = rows_of_series(exogenous, [item.name for item in series])
    signals = signal_names(exogenous)
    done = []
    for item in series:
        if item.step_seconds != step:
            raise InputError(f"series {item.name} has a step of {item.step_seconds} s, not {step} s")
        span = len(item.values) * step
        warmup = default_warmup_seconds(span, season_seconds) if warmup_seconds is None else warmup_seconds
        events = calendar if len(series) == 1 else [r for r in calendar if r.scope.model in (None, item.name)]
        everywhere = {record.id: replace(record, scope=Scope()) for record in events}
        rows_given = given[item.name]
        quantiles, own = _forecast(item, horizons, season_seconds, everywhere, experts, rows_given, signals, progress)
        done.append(SeriesBacktest(item, horizons, round(warmup / step), quantiles, own))
    scores = [_score([item], h, season_seconds, item.series.name) for item in done for h in range(len(horizons))]
    if len(done) > 1:
        scores.extend(_score(done, h, season_seconds, "all") for h in range(len(horizons)))
    judged = tuple(score for item in done for score in expert_scores(item))
    return BacktestResult(step, horizons, season_seconds, tuple(done), tuple(scores), judged)


def _forecast(
    item: DemandSeries,
    horizons: tuple[int, ...],
    season_seconds: int,
    calendar: Mapping[str, CalendarRecord],
    experts: Sequence[str],
    exogenous: Sequence[ExogenousRow],
    signals: Sequence[str],
    progress: Callable[[str, float], None] | None,
) -> tuple[Floats, ExpertForecasts | None]:
    key = SeriesKey(item.name, "", Signal.REQUESTS)
    quantiles = np.full((len(item.values), len(horizons), len(LEVELS)), np.nan)
    ends, values = item.ends().tolist(), item.values.tolist()
    groups = seasons_of(horizons, season_seconds)
    make = expert_factory(experts)
    own = None if tuple(experts) == DEFAULT else ExpertForecasts.none(len(item.values), len(horizons))
    for number, (season, members) in enumerate(groups.items()):
        ahead = [horizons[h] for h in members]
        forecaster = SeriesForecaster(key, ahead, item.step_seconds, season, make, signal_count=len(signals))
        known_at = exogenous_at(item.name, exogenous, ahead, item.step_seconds, signals) if exogenous else None
        if own is not None:
            own.begin(forecaster.pool.names)
        known, reach = KnownCalendar(), float(max(ahead))
        for i, (end, value) in enumerate(zip(ends, values, strict=True)):
            if calendar:  # as the engine does live
                known.apply(known.changes(calendar, end, complete=True), end)
            # Rates per second go in, as live, so that the same windows give the same forecasts to the last bit. Only
            # silence is judged otherwise: live by the gap guard, here by the forecaster.
            rate = None if np.isnan(value) else value / item.step_seconds
            outside = NOTHING if known_at is None else known_at(end)
            issued = forecaster.step(end, rate, known.near(end, reach), outside)
            for h, forecast in zip(members, issued, strict=False):
                quantiles[i, h] = np.array(forecast.quantiles) * item.step_seconds
            if own is not None and rate is not None:
                own.take(i, members, forecaster.pool.experts, item.step_seconds)
            if progress is not None and not i % 1_000:
                progress(item.name, (number + i / len(values)) / len(groups))
    return quantiles, own


def seasons_of(horizons: Sequence[int], season_seconds: int) -> dict[int, list[int]]:
    """Group horizon numbers by the cycle that their forecaster learns: the season, or for a longer horizon the smallest
    multiple of it that is no shorter (a forecaster looks back that far)."""
    groups: dict[int, list[int]] = {}
    for number, horizon in enumerate(horizons):
        groups.setdefault(season_seconds * max(1, -(-horizon // season_seconds)), []).append(number)
    return groups


def _score(items: Sequence[SeriesBacktest], horizon: int, season_seconds: int, name: str) -> HorizonScore:
    parts: list[tuple[Floats, Floats, Floats, Floats, Floats]] = []
    for item in items:
        values, step = item.series.values, item.series.step_seconds
        origins, actual = item.matured(horizon, after_warmup=True)
        # The last value is unknown during a gap: such origins are scored for nobody.
        known = ~np.isnan(values[origins])
        origins, actual = origins[known], actual[known]
        targets = origins + item.horizons_seconds[horizon] // step
        back = targets - season_seconds // step
        seasonal = np.where(back >= 0, values[np.maximum(back, 0)], np.nan)
        # A season back must itself be known when the forecast is issued.
        seasonal[back > origins] = np.nan
        quantiles = item.quantiles[origins, horizon]
        parts.append((item.series.ends()[targets], actual, quantiles, values[origins], seasonal))
    ends, actual, quantiles, last, seasonal = (np.concatenate(column) for column in zip(*parts, strict=True))
    return score_horizon(name, items[0].horizons_seconds[horizon], ends, actual, quantiles, last, seasonal)


def write_forecasts(result: BacktestResult, path: Path) -> int:
    """Write every matured forecast, warm-up included, as Parquet; return the number of rows.

    Columns: ``series, issued_at, target_at, horizon_seconds, q05, q10, q25, q50, q75, q90, q95, q99, actual``. Times
    are whole epoch seconds (or seconds since the trace's beginning, where its times are); quantiles and ``actual`` are
    sums over a window, in the unit of the input. Rows are ordered by series, issue and horizon. The same result gives
    the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    frames = []
    for item in result.series:
        for horizon, seconds in enumerate(item.horizons_seconds):
            origins, actual = item.matured(horizon, after_warmup=False)
            issued = item.series.ends()[origins].astype(np.int64)
            columns: dict[str, Any] = {
                "series": np.full(len(origins), item.series.name, dtype=object),
                "issued_at": issued,
                "target_at": issued + seconds,
                "horizon_seconds": np.full(len(origins), seconds, dtype=np.int32),
            }
            for level, column in enumerate(_LEVEL_COLUMNS):
                columns[column] = item.quantiles[origins, horizon, level]
            frames.append(pd.DataFrame({**columns, "actual": actual}))
    table = pd.concat(frames, ignore_index=True)
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET threads = 1")  # several writers would cut row groups as they happen to finish
        connection.register("forecasts", table)
        target = str(path).replace("'", "''")
        connection.execute(
            f"""COPY (SELECT * REPLACE (series::VARCHAR AS series) FROM forecasts
                      ORDER BY series, issued_at, horizon_seconds)
                TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"""
        )
    except (duckdb.Error, OSError) as error:
        raise InputError(f"cannot write {path}: {str(error).splitlines()[0][:200]}") from error
    finally:
        connection.close()
    return len(table)
