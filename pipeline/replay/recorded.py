"""Scores of the forecasts that a controller has recorded in its store, against the windows that closed later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import Signal
from pipeline.replay.scoring import HorizonScore, score_horizon
from pipeline.store.migrations import connect_read_only
from pipeline.store.steps import QUANTILE_COLUMNS, closed_since

__all__ = ["RecordedScore", "last_issued", "score_recorded"]

Floats = NDArray[np.float64]

_DAY_SECONDS = 86_400
_MEMORY_LIMIT = "2GB"


@dataclass(frozen=True, slots=True)
class RecordedScore:
    """How good the recorded forecasts of one signal of one pool were at one horizon.

    ``issued`` counts the forecasts in the store; those whose window is a gap, or has not closed yet, are not scored.
    """

    model: str
    pool: str
    signal: str
    horizon_seconds: int
    issued: int
    score: HorizonScore


def score_recorded(
    path: Path,
    *,
    model: str | None = None,
    pool: str | None = None,
    signal: str | None = None,
    since: float | None = None,
) -> list[RecordedScore]:
    """Score every recorded forecast whose window has closed, by pool, signal and horizon, in that order.

    Args:
        path: a store that no controller has open.
        model: only this model.
        pool: only this pool.
        signal: only this signal.
        since: only forecasts issued at or after this time (epoch seconds).

    Raises:
        InputError: there is no such file, or it is no store.
        StoreError: the file cannot be read, is in use (``StoreLocked``) or of another version.
    """
    connection = connect_read_only(path, _MEMORY_LIMIT)
    try:
        actual = _actual(connection, model, pool)
        return list(_scores(connection, actual, model, pool, signal, since))
    except duckdb.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()


def last_issued(path: Path) -> float | None:
    """When the newest recorded forecast was issued, epoch seconds; None: there is none.

    Raises:
        InputError, StoreError: as for ``score_recorded``.
    """
    connection = connect_read_only(path, _MEMORY_LIMIT)
    try:
        (newest,) = connection.execute("SELECT max(issued_at) FROM forecasts").fetchone()
        return None if newest is None else float(newest)
    except duckdb.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()


class _Demand:
    """What the closed windows of one pool came to: rates by signal on a grid of windows; NaN where nothing is known."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._rates: list[list[float]] = []

    def add(self, end: int, rates: list[float]) -> None:
        self._ends.append(end)
        self._rates.append(rates)

    def at(self, times: Floats, column: int) -> Floats:
        """The rates of the windows that end at ``times`` (epoch seconds), shape as given."""
        ends = np.array(self._ends, dtype=np.float64)
        rates = np.array([row[column] for row in self._rates])
        index = np.minimum(np.searchsorted(ends, times), len(ends) - 1)
        return np.where(ends[index] == times, rates[index], np.nan)


def _actual(connection: Any, model: str | None, pool: str | None) -> dict[tuple[str, str], _Demand]:
    demand: dict[tuple[str, str], _Demand] = {}
    for step in closed_since(connection.cursor(), -1):
        for window in step.windows:
            if model in (None, window.model) and pool in (None, window.pool):
                rates = signal_rates(window)
                row = [np.nan if rates[name] is None else float(rates[name] or 0.0) for name in Signal]
                demand.setdefault((window.model, window.pool), _Demand()).add(window.end, row)
    return demand


def _scores(
    connection: Any,
    actual: dict[tuple[str, str], _Demand],
    model: str | None,
    pool: str | None,
    signal: str | None,
    since: float | None,
) -> Iterator[RecordedScore]:
    groups = connection.execute(
        "SELECT model, pool, signal, horizon_seconds, count(*) FROM forecasts "
        "WHERE ($model IS NULL OR model = $model) AND ($pool IS NULL OR pool = $pool) "
        "AND ($signal IS NULL OR signal = $signal) AND issued_at >= coalesce($since, '-Infinity'::DOUBLE) "
        "GROUP BY ALL ORDER BY ALL",
        {"model": model, "pool": pool, "signal": signal, "since": since},
    ).fetchall()
    names = [str(name) for name in Signal]
    for *series, horizon, issued in groups:
        key, own = (series[0], series[1]), str(series[2])
        if key not in actual or own not in names:
            continue
        rows = connection.execute(
            f"SELECT issued_at, {', '.join(QUANTILE_COLUMNS)} FROM forecasts "
            "WHERE model = ? AND pool = ? AND signal = ? AND horizon_seconds = ? AND issued_at >= ? "
            "ORDER BY issued_at",
            [*series, horizon, -np.inf if since is None else since],
        ).fetchnumpy()
        times = np.asarray(rows["issued_at"], dtype=np.float64)
        quantiles = np.stack([np.asarray(rows[name], dtype=np.float64) for name in QUANTILE_COLUMNS], axis=1)
        column, demand = names.index(own), actual[key]
        targets = times + horizon
        came, last = demand.at(targets, column), demand.at(times, column)
        # What was issued in a gap, or for one, is scored for nobody.
        known = ~np.isnan(came) & ~np.isnan(last)
        seasonal = demand.at(targets - _DAY_SECONDS, column)
        score = score_horizon(
            f"{key[0]}/{key[1]} {own}",
            int(horizon),
            targets[known],
            came[known],
            quantiles[known],
            last[known],
            seasonal[known],
        )
        yield RecordedScore(key[0], key[1], own, int(horizon), int(issued), score)
