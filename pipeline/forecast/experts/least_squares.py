"""Recursive least squares, one regression per horizon, all horizons in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import NEVER
from pipeline.forecast.experts.base import Expert

__all__ = ["LeastSquares"]

_PRIOR = 100.0
_OFFSET = 0.05
_LIMIT = 1e3
_OUTLIER = 20.0


class LeastSquares(Expert):
    """Predicts the change from the last value to each target.

    Features, all relative to today's level: the last three values and means of 3, 6, 12 and 30 windows (minus the last
    value), what was added one season ago until each target, the recurring profile at each target (minus the last
    value), a constant. Recursive least squares with exponential forgetting (Haykin, *Adaptive Filter Theory*). The
    features are the same for all horizons, hence so are the inverse covariance, whose trace is capped at its start, and
    the gain: a label that matures after ``h`` windows uses the gain of its own origin. Gains and features wait in half
    precision, whose rounding (5e-4) is far below the noise.

    Args:
        context: the series.
        logarithmic: regress on ``log(y / level + 0.05)`` rather than on ``y / level``.
        forgetting: weight of the past per window, in (0, 1).
    """

    def __init__(self, context: SeriesContext, *, logarithmic: bool, forgetting: float = 0.9995) -> None:
        super().__init__(context)
        if not 0.0 < forgetting < 1.0:
            raise ValueError(f"forgetting must be in (0, 1), not {forgetting}")
        self._log = logarithmic
        self._forgetting = forgetting
        horizons = context.steps.size
        size = 8 + 2 * horizons
        self._size = size
        self._p: Floats = np.eye(size) * _PRIOR
        self._w: Floats = np.zeros((horizons, size))
        rows = int(context.steps[-1]) + 1
        # Features, then gain.
        self._past: NDArray[np.float16] = np.zeros((rows, 2 * size), dtype=np.float16)
        # Scale and transformed last value at the origin.
        self._origin: NDArray[np.float32] = np.zeros((rows, 2), dtype=np.float32)
        self._issued = np.full(rows, NEVER, dtype=np.int64)
        self._error: Floats = np.zeros(horizons)
        self._now: Floats = np.zeros(size)
        self._now[-1] = 0.1
        self._scale, self._last = 1.0, 0.0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "least_squares_log" if self._log else "least_squares"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        index = self.context.index
        if y is not None:
            self._learn_matured(index, y)
        self._look()
        row = index % len(self._past)
        if y is None:
            self._issued[row] = NEVER
            return
        self._past[row, : self._size] = self._now
        self._past[row, self._size :] = self._absorb()
        self._origin[row] = (self._scale, self._last)
        self._issued[row] = index

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        ahead = self._last + (self._w * self._now).sum(axis=1)
        if self._log:
            ahead = np.exp(np.minimum(ahead, 20.0)) - _OFFSET
        ahead *= self._scale
        ahead = np.minimum(np.maximum(ahead, 0.0), context.clip)
        return np.where(np.isfinite(ahead), ahead, context.last)

    def _learn_matured(self, index: int, y: float) -> None:
        issued = index - self.context.steps
        rows = issued % len(self._past)
        matured = self._issued[rows] == issued
        if not matured.any():
            return
        past = self._past[rows].astype(np.float64)
        scale, last = self._origin[rows].T
        target = np.minimum(y / np.maximum(scale, TINY), _LIMIT)
        if self._log:
            target = np.log(target + _OFFSET)
        error = target - last - (self._w * past[:, : self._size]).sum(axis=1)
        # Until an error is known, nothing is an outlier.
        bound = _OUTLIER * np.where(self._error > 0.0, self._error, np.inf)
        error = np.minimum(np.maximum(error, -bound), bound) * matured
        grown = np.abs(error) - self._error
        self._error += matured * np.where(self._error > 0.0, 0.01 * grown, grown)
        self._w += past[:, self._size :] * error[:, None]
        if not np.isfinite(self._w).all():
            self._w = np.zeros_like(self._w)

    def _absorb(self) -> Floats:
        """Take the newest features into the inverse covariance; return the gain."""
        px = (self._p * self._now).sum(axis=1)
        gain = px / (self._forgetting + float((self._now * px).sum()))
        p = (self._p - np.multiply.outer(gain, px)) * (0.5 / self._forgetting)
        self._p = p + p.T
        trace, cap = float(self._p.trace()), _PRIOR * self._size
        if not 0.0 < trace < np.inf:
            self._p = np.eye(self._size) * _PRIOR
        elif trace > cap:
            self._p *= cap / trace
        return np.asarray(gain, dtype=np.float64)

    def _look(self) -> None:
        """Compute the features of the newest window."""
        context = self.context
        self._scale = max(context.level, 0.01 * context.recent_max, TINY)
        moved = np.minimum(context.lags / self._scale, _LIMIT)
        if self._log:
            moved = np.log(moved + _OFFSET)
        self._last = float(moved[0])
        self._now[:-1] = moved[1:] - moved[0]
        season = slice(7, 7 + context.steps.size)
        self._now[season] = moved[8 : 8 + context.steps.size] - moved[7]
        if not context.has_season:
            self._now[6 : season.stop] = 0.0
