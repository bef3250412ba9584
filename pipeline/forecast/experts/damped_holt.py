"""Holt's level and trend, the trend damped."""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["DampedHolt"]


class DampedHolt(Expert):
    """Exponential smoothing of level and trend; each step ahead adds a smaller share of the trend.

    ``level + (d + d² + … + d^h) · trend`` (Gardner and McKenzie 1985, "Forecasting trends in time series").

    Args:
        context: the series.
        level_rate: weight of the newest value, in (0, 1].
        trend_rate: weight of the newest change of the level, in (0, 1].
        damping: share of the trend that is left a window later, in (0, 1).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, context: SeriesContext, level_rate: float = 0.3, trend_rate: float = 0.05, damping: float = 0.95
    ) -> None:
        super().__init__(context)
        if not (0.0 < level_rate <= 1.0 and 0.0 < trend_rate <= 1.0 and 0.0 < damping < 1.0):
            raise ValueError(f"rates and damping must be in (0, 1), not {level_rate}, {trend_rate}, {damping}")
        self._level_rate, self._trend_rate, self._damping = level_rate, trend_rate, damping
        self._sums: Floats = np.asarray(damping * (1.0 - damping**context.steps) / (1.0 - damping), dtype=np.float64)
        self._level: float | None = None
        self._trend = 0.0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "damped_holt"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        if self._level is None:
            self._level = y
            return
        before = self._level + self._damping * self._trend
        if y is None:
            # Time passes: the trend runs out.
            self._level = min(max(before, 0.0), self.context.clip)
            self._trend *= self._damping
            return
        level = before + self._level_rate * (y - before)
        carried = self._damping * self._trend
        self._trend = carried + self._trend_rate * (level - self._level - carried)
        self._level = level

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        if self._level is None:
            return self.context.flat_last()
        return np.minimum(np.maximum(self._level + self._sums * self._trend, 0.0), self.context.clip)
