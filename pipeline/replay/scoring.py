"""Scores of quantile forecasts against what came true, beside the baselines that everybody has for free.

WAPE = Σ|y − median| / Σ|y|; bias = Σ(median − y) / Σ|y|. MASE divides the mean absolute error by that of the seasonal
naive forecast one season back, over the same targets (Hyndman & Koehler, "Another look at measures of forecast
accuracy", Int. J. Forecasting 22 (2006), scaled out of sample so that all methods share one scale). Pinball loss at
level q = max(q·(y − f), (q − 1)·(y − f)), as a share of mean demand. Coverage of a level is the share of targets at or
below that quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.types import LEVELS

__all__ = ["HorizonScore", "score_horizon"]

Floats = NDArray[np.float64]

_MEDIAN = LEVELS.index(0.5)
_LOW, _HIGH = LEVELS.index(0.05), LEVELS.index(0.95)
_BOOTSTRAP_ROUNDS = 1_000
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class HorizonScore:
    """How good one series' forecasts at one horizon were. All ratios (0.05 is 5 %); None: cannot be told.

    ``wape_gain_low`` and ``wape_gain_high`` bound (95 %) how much lower the WAPE is than the last value's, by a
    bootstrap over whole days; a gain is proven only if the interval excludes 0.
    """

    series: str
    horizon_seconds: int
    scored: int
    wape: float | None
    bias: float | None
    mase: float | None
    last_value_wape: float | None
    seasonal_naive_wape: float | None
    wape_gain_low: float | None
    wape_gain_high: float | None
    pinball: dict[str, float]
    coverage: dict[str, float]
    coverage_90_interval: float | None
    coverage_95_top_decile: float | None


def score_horizon(
    series: str,
    horizon_seconds: int,
    targets_at: Floats,
    actual: Floats,
    quantiles: Floats,
    last_value: Floats,
    seasonal_naive: Floats,
) -> HorizonScore:
    """Score matured forecasts of one horizon.

    Args:
        series: name to report under.
        horizon_seconds: horizon to report under.
        targets_at: ends of the target windows, epoch seconds, shape (n,).
        actual: what came true, shape (n,); no NaN.
        quantiles: forecasts at ``LEVELS``, shape (n, levels).
        last_value: the value known when each forecast was issued, shape (n,).
        seasonal_naive: the value one season before each target, shape (n,); NaN where unknown.
    """
    n = len(actual)
    total = float(np.abs(actual).sum())
    if n == 0 or total <= 0:
        return HorizonScore(series, horizon_seconds, n, *(None,) * 7, {}, {}, None, None)
    error = np.abs(actual - quantiles[:, _MEDIAN])
    last_error = np.abs(actual - last_value)
    seasonal_error = np.abs(actual - seasonal_naive)
    seasonal_known = ~np.isnan(seasonal_error)
    seasonal_scale = float(seasonal_error[seasonal_known].mean()) if seasonal_known.any() else 0.0
    seasonal_total = float(np.abs(actual[seasonal_known]).sum())
    difference = actual[:, None] - quantiles
    levels = np.asarray(LEVELS)
    pinball = np.maximum(levels * difference, (levels - 1.0) * difference).mean(axis=0) / (total / n)
    covered = (difference <= 0.0).mean(axis=0)
    inside = (actual >= quantiles[:, _LOW]) & (actual <= quantiles[:, _HIGH])
    top = actual >= np.quantile(actual, 0.9)
    gain = _gain_interval(targets_at, actual, error, last_error)
    return HorizonScore(
        series=series,
        horizon_seconds=horizon_seconds,
        scored=n,
        wape=float(error.sum()) / total,
        bias=float((quantiles[:, _MEDIAN] - actual).sum()) / total,
        mase=float(error[seasonal_known].mean()) / seasonal_scale if seasonal_scale > 0 else None,
        last_value_wape=float(last_error.sum()) / total,
        seasonal_naive_wape=float(seasonal_error[seasonal_known].sum()) / seasonal_total
        if seasonal_total > 0
        else None,
        wape_gain_low=gain[0] if gain else None,
        wape_gain_high=gain[1] if gain else None,
        pinball={f"{level:g}": float(loss) for level, loss in zip(LEVELS, pinball, strict=True)},
        coverage={f"{level:g}": float(share) for level, share in zip(LEVELS, covered, strict=True)},
        coverage_90_interval=float(inside.mean()),
        coverage_95_top_decile=float((difference[top, _HIGH] <= 0.0).mean()),
    )


def _gain_interval(targets_at: Floats, actual: Floats, ours: Floats, theirs: Floats) -> Sequence[float] | None:
    """Bounds of (their WAPE − our WAPE), resampling whole days with a fixed seed; None below three days."""
    day = np.floor((targets_at - 1e-6) / _DAY_SECONDS).astype(np.int64)
    _, index = np.unique(day, return_inverse=True)
    days = int(index.max()) + 1
    if days < 3:
        return None
    gain = np.bincount(index, theirs - ours, days)
    demand = np.bincount(index, np.abs(actual), days)
    picks = np.random.default_rng(0).integers(0, days, (_BOOTSTRAP_ROUNDS, days))
    totals = demand[picks].sum(axis=1)
    usable = totals > 0
    low, high = np.quantile(gain[picks].sum(axis=1)[usable] / totals[usable], (0.025, 0.975))
    return float(low), float(high)
