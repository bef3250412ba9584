"""Running scores of matured forecasts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import Floats
from pipeline.forecast.delay import which
from pipeline.forecast.model import LEVELS, Score, SeriesKey

__all__ = ["RunningScores"]

_MEDIAN = LEVELS.index(0.5)
_Q05 = LEVELS.index(0.05)
_Q95 = LEVELS.index(0.95)


class RunningScores:
    """WAPE, coverage and pinball loss per horizon, exponentially forgotten.

    Args:
        horizons: number of horizons.
        memory_steps: windows after which a forecast weighs 1/e.
    """

    def __init__(self, horizons: int, memory_steps: int) -> None:
        self._keep = float(np.exp(-1.0 / memory_steps))
        # Weight, |y|, |error|, in [q05, q95], y <= q95, pinball at .95.
        self._sums: Floats = np.zeros((6, horizons))
        self._matured = np.zeros(horizons, dtype=np.int64)

    def learn(self, y: float, quantiles: NDArray[np.floating], matured: NDArray[np.bool_]) -> None:
        """Score the quantiles ``(horizons, levels)`` issued for a window whose value is ``y``."""
        gap = (y - quantiles).T
        high = gap[_Q95]
        new = np.empty_like(self._sums)
        new[0] = 1.0
        new[1] = y
        np.abs(gap[_MEDIAN], out=new[2])
        below = high <= 0.0
        np.logical_and(below, gap[_Q05] >= 0.0, out=new[3], casting="unsafe")
        new[4] = below
        np.maximum(0.95 * high, -0.05 * high, out=new[5])
        at = which(matured)
        self._sums[:, at] = self._keep * self._sums[:, at] + new[:, at]
        self._matured += matured

    def report(self, series: SeriesKey, horizons_seconds: tuple[int, ...]) -> tuple[Score, ...]:
        """The scores of every horizon."""
        return tuple(
            _score(series, horizon, int(count), sums)
            for horizon, count, sums in zip(horizons_seconds, self._matured, self._sums.T.tolist(), strict=True)
        )


def _score(series: SeriesKey, horizon: int, matured: int, sums: list[float]) -> Score:
    weight, demand, error, inside, below, pinball = sums
    if matured == 0:
        return Score(series, horizon, 0, None, None, None, None)
    return Score(
        series=series,
        horizon_seconds=horizon,
        matured=matured,
        wape=error / demand if demand > 0.0 else None,
        coverage_90=inside / weight,
        coverage_95=below / weight,
        pinball_95=pinball / demand if demand > 0.0 else None,
    )
