"""Values of many pools at the times of a grid, for queries in Prometheus' manner: the newest sample is what holds.

DuckDB picks the newest sample before each time, so that only what is drawn is made into Python objects.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, StoreError
from pipeline.forecast.rates import LEAST_COMPLETENESS
from pipeline.store.sql import parsed
from pipeline.store.steps import QUANTILE_COLUMNS

__all__ = ["Grid", "Samples", "forecast_paths", "full_matches", "samples"]

#: How long a sample holds at most, seconds: Prometheus' lookback.
LOOKBACK_SECONDS = 300.0
#: A query that takes longer is given up.
TIME_LIMIT_SECONDS = 20.0

_COUNTED = f"(grain_seconds * greatest(completeness, {LEAST_COMPLETENESS}))"
#: A value of a closed window, as ``pipeline.forecast.rates`` has it, and when there is none.
_WINDOW_VALUES = {
    "requests_per_second": (f"requests / {_COUNTED}", "NOT gap"),
    "prefill_tokens_per_second": (f"greatest(0, input_tokens - cached_input_tokens) / {_COUNTED}", "NOT gap"),
    "decode_tokens_per_second": (f"output_tokens / {_COUNTED}", "NOT gap"),
    "kv_tokens": (f"kv_token_milliseconds / 1000 / {_COUNTED}", "NOT gap"),
    "current_replicas": ("current_replicas", "current_replicas IS NOT NULL"),
}
_ADVICE_VALUES = ("desired", "lower", "upper")


class Grid(NamedTuple):
    """Times at which values are asked for: ``start``, and every ``step`` seconds until ``end`` (epoch seconds)."""

    start: float
    end: float
    step: float

    @property
    def times(self) -> NDArray[np.float64]:
        """All of them."""
        return self.start + self.step * np.arange(int((self.end - self.start) / self.step + 1e-9) + 1, dtype=np.float64)


class Samples(NamedTuple):
    """Samples of one series, ascending: when each begins to hold, until when at most, and its value."""

    at: NDArray[np.float64]
    until: NDArray[np.float64]
    value: NDArray[np.float64]

    def on(self, grid: Grid) -> NDArray[np.float64]:
        """Return the value at each time of a grid; NaN where no sample holds."""
        times = grid.times
        newest = np.searchsorted(self.at, times, side="right") - 1
        known = newest >= 0
        newest = np.maximum(newest, 0)
        known &= times < self.until[newest]
        return np.where(known, self.value[newest], np.nan)


def samples(
    cursor: Any,
    source: str,
    measure: str,
    pools: Collection[tuple[str, str]],
    grid: Grid,
    more: tuple[Sequence[int], str] | None = None,
) -> dict[tuple[str, str, int], Samples]:
    """Return the samples of some pools that hold anywhere on a grid, by (model, pool, horizon).

    ``source`` is ``windows`` or ``advice`` (horizon 0), or ``lead``: then ``more`` is horizons in seconds and the
    column of the quantile, and ``measure`` the signal. Samples of windows and forecasts hold for a window, advice until
    it expires; all of them for ``LOOKBACK_SECONDS`` at most. On a grid of one time a window holds until the end of the
    next one, also where that one is a gap: the window that is open at that time has no value yet.

    Raises:
        StoreError: DuckDB refused, or took longer than ``TIME_LIMIT_SECONDS``.
    """
    names: dict[str, Any] = {"start": grid.start, "end": grid.end, "step": grid.step}
    names |= {"models": [model for model, _ in pools], "pools": [pool for _, pool in pools]}
    wanted = "(SELECT unnest($models) AS model, unnest($pools) AS pool) AS wanted"
    if source == "windows":
        value, known = _WINDOW_VALUES[measure]
        hold = f"{LOOKBACK_SECONDS}" if grid.start == grid.end else f"least({LOOKBACK_SECONDS}, grain_seconds)"
        query = f"""
            SELECT * EXCLUDE (known) FROM (
                SELECT model, pool, 0 AS horizon, window_start + grain_seconds AS told_at,
                    least(told_at + {hold}, lead(window_start + grain_seconds) OVER next_window) AS until,
                    ({value})::DOUBLE AS value, {known} AS known
                FROM closed_windows JOIN {wanted} USING (model, pool)
                WHERE window_start + grain_seconds <= $end
                    AND window_start + grain_seconds > $start - {LOOKBACK_SECONDS}
                WINDOW next_window AS (PARTITION BY model, pool ORDER BY window_start)
            ) WHERE known
        """
    elif source == "advice" and measure in _ADVICE_VALUES:
        query = f"""
            SELECT model, pool, 0 AS horizon, issued_at AS told_at,
                least(issued_at + {LOOKBACK_SECONDS}, (body->>'$.expires_at')::DOUBLE) AS until,
                (body->>'$.{measure}')::DOUBLE AS value
            FROM recommendations JOIN {wanted} USING (model, pool)
            WHERE issued_at <= $end AND issued_at > $start - {LOOKBACK_SECONDS}
        """
    elif source == "lead" and more is not None and more[1] in QUANTILE_COLUMNS:
        names |= {"signal": measure, "horizons": list(more[0])}
        query = f"""
            SELECT model, pool, horizon_seconds AS horizon, issued_at + horizon_seconds AS told_at,
                told_at + (SELECT least({LOOKBACK_SECONDS}, coalesce(max(grain_seconds), {LOOKBACK_SECONDS}))
                    FROM (SELECT grain_seconds FROM closed_windows ORDER BY rowid DESC LIMIT 1)) AS until,
                {more[1]} AS value
            FROM forecasts JOIN {wanted} USING (model, pool)
            WHERE signal = $signal AND horizon_seconds IN (SELECT unnest($horizons))
                AND issued_at <= $end - horizon_seconds AND issued_at > $start - {LOOKBACK_SECONDS} - horizon_seconds
                AND {more[1]} IS NOT NULL
        """
    else:
        raise ValueError(f"there is no {measure} of {source}")
    statement = f"""
        SELECT model, pool, horizon, max(told_at)::DOUBLE, arg_max(until, told_at)::DOUBLE, arg_max(value, told_at)
        FROM (SELECT *, greatest(0, ceil((told_at - $start) / $step))::BIGINT AS slot FROM ({query}))
        WHERE until > $start + slot * $step GROUP BY model, pool, horizon, slot ORDER BY 1, 2, 3, 4
    """
    return _by_series(_run(cursor, statement, names))


def forecast_paths(
    cursor: Any, signal: str, pools: Collection[tuple[str, str]], as_of: float
) -> dict[tuple[str, str], list[tuple[float, list[float]]]]:
    """Return what was the newest forecast of some pools at ``as_of``, at most ``LOOKBACK_SECONDS`` old.

    By (model, pool): target times, ascending, with the quantiles at ``LEVELS``.

    Raises:
        StoreError: DuckDB refused, or took longer than ``TIME_LIMIT_SECONDS``.
    """
    rows = _run(
        cursor,
        f"""
        SELECT model, pool, issued_at + horizon_seconds, {", ".join(QUANTILE_COLUMNS)}
        FROM forecasts JOIN (SELECT unnest($models) AS model, unnest($pools) AS pool) AS wanted USING (model, pool)
        WHERE signal = $signal AND issued_at <= $as_of AND issued_at > $as_of - {LOOKBACK_SECONDS}
        QUALIFY issued_at = max(issued_at) OVER (PARTITION BY model, pool) ORDER BY 1, 2, 3
        """,
        {
            "signal": signal,
            "as_of": as_of,
            "models": [model for model, _ in pools],
            "pools": [pool for _, pool in pools],
        },
    ).fetchall()
    found: dict[tuple[str, str], list[tuple[float, list[float]]]] = {}
    for model, pool, target, *quantiles in rows:
        found.setdefault((model, pool), []).append((target, quantiles))
    return found


def full_matches(cursor: Any, pattern: str, values: Collection[str]) -> set[str]:
    """Return the values that a regular expression matches from end to end: RE2, in time linear in their length.

    Raises:
        InputError: it is no regular expression of RE2.
    """
    try:
        rows = cursor.execute(
            "SELECT value FROM (SELECT unnest($values) AS value) WHERE regexp_full_match(value, $pattern, 's')",
            {"values": list(values), "pattern": pattern},
        ).fetchall()
    except duckdb.InvalidInputException as error:
        raise InputError(f"{pattern[:256]!r} is not a regular expression: {str(error).splitlines()[0]}") from error
    return {value for (value,) in rows}


@contextmanager
def _limited(cursor: Any) -> Any:
    alarm = threading.Timer(TIME_LIMIT_SECONDS, cursor.interrupt)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise StoreError(f"the query took longer than {TIME_LIMIT_SECONDS:g} s") from error
    except duckdb.Error as error:
        raise StoreError(f"the store could not read: {str(error).splitlines()[0]}") from error
    finally:
        alarm.cancel()


def _run(cursor: Any, statement: str, names: dict[str, Any]) -> Any:
    with _limited(cursor):
        return cursor.execute(parsed(cursor, statement), names)


def _by_series(result: Any) -> dict[tuple[str, str, int], Samples]:
    columns = list(result.fetchnumpy().values())
    models, pools, horizons = (np.ma.getdata(column) for column in columns[:3])
    at, until, value = (np.ma.filled(np.ma.asarray(column, np.float64), np.nan) for column in columns[3:])
    if not len(at):
        return {}
    new = (models[1:] != models[:-1]) | (pools[1:] != pools[:-1]) | (horizons[1:] != horizons[:-1])
    edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(at)]
    return {
        (str(models[low]), str(pools[low]), int(horizons[low])): Samples(at[low:high], until[low:high], value[low:high])
        for low, high in pairwise(edges)
    }
