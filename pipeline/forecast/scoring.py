"""Running scores of matured forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.delay import which
from pipeline.forecast.model import LEVELS, Score, SeriesKey

__all__ = ["RunningScores"]

_MEDIAN = LEVELS.index(0.5)
_Q05 = LEVELS.index(0.05)
_Q95 = LEVELS.index(0.95)
#: Conditional coverage needs some windows to be one.
_FEW = 10.0


class RunningScores:
    """WAPE, coverage and pinball loss per horizon, exponentially forgotten.

    Args:
        horizons: number of horizons.
        memory_steps: windows after which a forecast weighs 1/e.
    """

    def __init__(self, horizons: int, memory_steps: int) -> None:
        self._keep = float(np.exp(-1.0 / memory_steps))
        # Weight, |y|, |error|, in [q05, q95], y <= q95, pinball at .95; weight and y <= q95 when busy, after a spike.
        self._sums: NDArray[np.float32] = np.zeros((10, horizons), dtype=np.float32)
        self._matured = np.zeros(horizons, dtype=np.int32)

    def learn(
        self,
        y: float,
        above: NDArray[np.floating],
        matured: NDArray[np.bool_],
        busy: bool = False,
        after_spike: bool = False,
    ) -> None:
        """Score what was issued for a window whose value is ``y``.

        Args:
            y: the value.
            above: it minus the quantiles of the matured horizons, ``(matured, levels)``.
            matured: which horizons these are, ``(horizons,)``.
            busy: the window is one of the top decile of demand.
            after_spike: it lies in the hour after a spike.
        """
        above = above.T
        high = above[_Q95]
        new = np.empty((10, high.size), dtype=np.float32)
        new[0], new[1] = 1.0, y
        np.abs(above[_MEDIAN], out=new[2])
        below = high <= 0.0
        np.logical_and(below, above[_Q05] >= 0.0, out=new[3], casting="unsafe")
        new[4] = below
        np.multiply(high, 0.95 - below, out=new[5])
        new[6:] = 0.0
        if busy:
            new[6], new[7] = 1.0, below
        if after_spike:
            new[8], new[9] = 1.0, below
        at = which(matured)
        new += self._keep * self._sums[:, at]
        self._sums[:, at] = new
        self._matured += matured

    def report(
        self, series: SeriesKey, horizons_seconds: tuple[int, ...], regret: Sequence[float | None]
    ) -> tuple[Score, ...]:
        """The scores of every horizon; ``regret`` per horizon is the pool's."""
        rows = zip(horizons_seconds, self._matured, self._sums.T.tolist(), regret, strict=True)
        return tuple(_score(series, horizon, int(count), sums, lost) for horizon, count, sums, lost in rows)


def _score(series: SeriesKey, horizon: int, matured: int, sums: list[float], regret: float | None) -> Score:
    weight, demand, error, inside, below, pinball, busy, below_busy, after, below_after = sums
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
        coverage_95_busy=below_busy / busy if busy > _FEW else None,
        coverage_95_after_spike=below_after / after if after > _FEW else None,
        regret=regret,
    )
