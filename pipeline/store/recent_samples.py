"""Samples of closed windows from memory, for queries in Prometheus' manner about a few pools and the newest hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from pipeline.forecast.rates import LEAST_COMPLETENESS
from pipeline.store.recent_windows import RecentWindows
from pipeline.store.series import LOOKBACK_SECONDS, Grid, Samples

__all__ = ["recent_samples"]

#: As ``pipeline.store.series`` has them, of a row and the seconds that it counts.
_VALUES: dict[str, Callable[[Mapping[str, Any], float], float]] = {
    "requests_per_second": lambda row, counted: row["requests"] / counted,
    "prefill_tokens_per_second": lambda row, counted: (
        max(0, row["input_tokens"] - row["cached_input_tokens"]) / counted
    ),
    "decode_tokens_per_second": lambda row, counted: row["output_tokens"] / counted,
    "kv_tokens": lambda row, counted: row["kv_token_milliseconds"] / 1000 / counted,
}
_REPLICAS = "current_replicas"


def recent_samples(
    recent: RecentWindows,
    measure: str,
    pools: Collection[tuple[str, str]],
    grid: Grid,
    grain_seconds: int,
    closed: int,
) -> dict[tuple[str, str, int], Samples] | None:
    """Return the samples of windows that hold anywhere on a grid, as ``series.samples``; None: ask the store.

    ``closed`` (epoch seconds) is the end of the last step: what has closed by then must be in memory, each window as it
    was closed.
    """
    if measure not in _VALUES and measure != _REPLICAS:
        return None
    holds = LOOKBACK_SECONDS if grid.start == grid.end else min(LOOKBACK_SECONDS, grain_seconds)
    first = math.floor((grid.start - holds) / grain_seconds) * grain_seconds - grain_seconds
    last = math.floor(grid.end / grain_seconds) * grain_seconds  # later windows end after the grid
    found: dict[tuple[str, str, int], Samples] = {}
    for model, pool in pools:
        known = recent.find(model, pool, first, last)
        if known.until < min(last, closed) or known.until == first or not all(known.single):
            return None
        ends = [float(row["end"]) for row in known.rows if row["end"] <= grid.end]
        untils = [min(end + holds, following) for end, following in zip(ends, [*ends, math.inf][1:], strict=True)]
        told = [
            (end, until, value)
            for row, end, until in zip(known.rows, ends, untils, strict=False)
            if (value := _value(row, measure)) is not None
        ]
        if told:
            found[model, pool, 0] = Samples(*(np.array(column, np.float64) for column in zip(*told, strict=True)))
    return found


def _value(row: Mapping[str, Any], measure: str) -> float | None:
    if measure == _REPLICAS:
        return None if row[_REPLICAS] is None else float(row[_REPLICAS])
    if row["gap"]:
        return None
    return _VALUES[measure](row, (row["end"] - row["start"]) * max(row["completeness"], LEAST_COMPLETENESS))
