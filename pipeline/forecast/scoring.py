"""Running scores of matured forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.delay import which
from pipeline.forecast.types import LEVELS, Score, SeriesKey

__all__ = ["RunningScores"]

_MEDIAN = LEVELS.index(0.5)
_Q05 = LEVELS.index(0.05)
_Q95 = LEVELS.index(0.95)
#: Conditional coverage needs some windows to be one.
_FEW = 10.0


class RunningScores:
    """WAPE, coverage and pinball loss per horizon, exponentially forgotten.

    Args:
        horizons: number of horizons, those of all series together.
        memory_steps: windows after which a forecast weighs 1/e.
    """

    def __init__(self, horizons: int, memory_steps: int) -> None:
        self._keep = float(np.exp(-1.0 / memory_steps))
        # Weight, |y|, |error|, in [q05, q95], y <= q95, pinball at .95; weight and y <= q95 when busy, after a spike.
        self._sums: NDArray[np.float32] = np.zeros((10, horizons), dtype=np.float32)
        self._matured = np.zeros(horizons, dtype=np.int32)

    def learn(
        self,
        y: float | NDArray[np.float64],
        above: NDArray[np.floating],
        matured: NDArray[np.bool_],
        busy: bool | NDArray[np.bool_] = False,
        after_spike: bool | NDArray[np.bool_] = False,
    ) -> None:
        """Score what was issued for a window whose value is ``y``.

        Args:
            y: the value; of several series, one per matured horizon, as ``busy`` and ``after_spike`` then are.
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
        new[6], new[8] = busy, after_spike
        np.logical_and(below, busy, out=new[7], casting="unsafe")
        np.logical_and(below, after_spike, out=new[9], casting="unsafe")
        at = which(matured)
        new += self._keep * self._sums[:, at]
        self._sums[:, at] = new
        self._matured += matured

    def keep(self, rows: slice) -> None:
        """Forget all but these horizons."""
        self._sums, self._matured = self._sums[:, rows].copy(), self._matured[rows].copy()

    def report(
        self,
        series: Sequence[SeriesKey],
        horizons_seconds: tuple[int, ...],
        regret: Sequence[float | None],
    ) -> tuple[Score, ...]:
        """The scores of every horizon of all series, one after another; ``regret`` per horizon is the pool's."""
        about = [(key, horizon) for key in series for horizon in horizons_seconds]
        told = []
        for (key, horizon), matured, sums, lost in zip(
            about, self._matured.tolist(), self._sums.T.tolist(), regret, strict=True
        ):
            if matured == 0:
                told.append(Score(key, horizon, 0, None, None, None, None))
                continue
            weight, demand, error, inside, below, pinball, busy, below_busy, after, below_after = sums
            told.append(
                Score(
                    key,
                    horizon,
                    matured,
                    error / demand if demand > 0.0 else None,
                    inside / weight,
                    below / weight,
                    pinball / demand if demand > 0.0 else None,
                    below_busy / busy if busy > _FEW else None,
                    below_after / after if after > _FEW else None,
                    lost,
                )
            )
        return tuple(told)
