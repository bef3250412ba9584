"""Recursive least squares, one regression per horizon, all horizons in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["LeastSquares"]

_PRIOR = 100.0
_OFFSET = 0.05
_MEANS = np.array([3, 6, 12, 30])
_OUTLIER = 20.0


class LeastSquares(Expert):
    """Predicts the change from the last value to each target.

    Features, all relative to today's level: the last three values and means of 3, 6, 12 and 30 windows (minus the last
    value), what was added one season ago until each target, the recurring profile at each target (minus the last value),
    three harmonics of the season, a constant. Recursive least squares with exponential forgetting (Haykin, *Adaptive
    Filter Theory*, chapter on RLS); since the features are the same for all horizons so is the inverse covariance, whose
    trace is capped at its start, and one update serves all horizons. Labels arrive when they mature.

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
        # Raw values: last three, four means, season origin, season targets, profile targets.
        seasonal = list(range(8, 8 + horizons))
        profile = list(range(8 + horizons, 8 + 2 * horizons))
        self._plus = np.array([1, 2, 3, 4, 5, 6, 7, *seasonal, *profile])
        self._minus = np.array([0] * 7 + [7] * horizons + [0] * horizons)
        size = self._plus.size + 7
        self._p: Floats = np.eye(size) * _PRIOR
        self._w: Floats = np.zeros((horizons, size))
        rows = int(context.steps[-1]) + 1
        self._x: NDArray[np.float32] = np.zeros((rows, size), dtype=np.float32)
        self._start: Floats = np.zeros((rows, 2))
        self._issued = np.full(rows, -1, dtype=np.int64)
        self._error: Floats = np.zeros(horizons)
        self._now: Floats = np.zeros(size)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "least_squares_log" if self._log else "least_squares"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        index = context.index
        rows = self._issued.size
        if y is not None:
            self._learn_matured(index, y)
        scale, origin = self._features()
        row = index % rows
        if y is None:
            self._issued[row] = -1
            return
        self._x[row] = self._now
        self._start[row] = (scale, origin)
        self._issued[row] = index
        self._absorb()

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if context.seen == 0:
            return np.zeros(context.steps.size)
        scale, origin = self._features() if context.age else self._start[context.index % self._issued.size]
        ahead = self._back(origin + (self._w * self._now).sum(axis=1)) * scale
        return np.clip(np.where(np.isfinite(ahead), ahead, context.last), 0.0, context.clip)

    def _learn_matured(self, index: int, y: float) -> None:
        at = index - self.context.steps
        rows = at % self._issued.size
        matured = self._issued[rows] == at
        if not matured.any():
            return
        x = self._x[rows].astype(np.float64)
        start = self._start[rows]
        target = self._forth(y / np.maximum(start[:, 0], TINY)) - start[:, 1]
        error = np.where(matured, target - (self._w * x).sum(axis=1), 0.0)
        bound = np.where(self._error > 0.0, _OUTLIER * self._error, np.inf)
        error = np.clip(error, -bound, bound)
        self._error = np.where(matured, self._error + 0.01 * (np.abs(error) - self._error), self._error)
        self._w += (x @ self._p) * error[:, None]

    def _absorb(self) -> None:
        px = self._p @ self._now
        gain = px / (self._forgetting + float(self._now @ px))
        p = (self._p - np.multiply.outer(gain, px)) / self._forgetting
        p = 0.5 * (p + p.T)
        trace = float(p.trace())
        cap = _PRIOR * self._now.size
        if not np.isfinite(trace) or trace <= 0.0:
            p = np.eye(self._now.size) * _PRIOR
        elif trace > cap:
            p *= cap / trace
        self._p = p

    def _features(self) -> tuple[float, float]:
        """Compute the features of the newest window; return its scale and its transformed last value."""
        context = self.context
        horizons = context.steps.size
        scale = max(context.level, 0.01 * context.recent_max, TINY)
        raw = np.full(8 + 2 * horizons, context.last)
        past = context.recent(30)[::-1]
        raw[: min(3, past.size)] = past[:3]
        if past.size == 30:
            raw[3:7] = past.cumsum()[_MEANS - 1] / _MEANS
        if context.has_season:
            raw[7] = context.seasonal_origin()
            raw[8 : 8 + horizons] = context.seasonal()
        raw[8 + horizons :] = context.profile_forecast
        moved = self._forth(raw / scale)
        now = self._now
        now[:-7] = moved[self._plus] - moved[self._minus]
        if not context.has_season:
            now[6 : 7 + horizons] = 0.0
        phase = 2.0 * np.pi * (context.index % context.season_steps) / context.season_steps
        angles = phase * np.array([1.0, 2.0, 3.0])
        now[-7:-4] = 0.1 * np.sin(angles)
        now[-4:-1] = 0.1 * np.cos(angles)
        now[-1] = 0.1
        return scale, float(moved[0])

    def _forth(self, values: Floats) -> Floats:
        values = np.clip(values, 0.0, 1e3)
        return np.log(values + _OFFSET) if self._log else values

    def _back(self, values: Floats) -> Floats:
        return np.exp(np.clip(values, -20.0, 20.0)) - _OFFSET if self._log else values
