"""A Kalman filter with a local level and a local trend."""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["KalmanTrend"]


class KalmanTrend(Expert):
    """Local linear trend model (Harvey 1989, *Forecasting, Structural Time Series Models and the Kalman Filter*).

    Only ratios of the variances matter, so the observation noise is 1. The defaults have the ratios of the planner in
    NVIDIA Dynamo (``q_level`` 1, ``q_trend`` 0.1, ``r`` 10).

    Args:
        context: the series.
        level_noise: variance of the level's steps over that of the observations, positive.
        trend_noise: variance of the trend's steps over that of the observations, positive.
    """

    def __init__(self, context: SeriesContext, level_noise: float = 0.1, trend_noise: float = 0.01) -> None:
        super().__init__(context)
        if not (0.0 < level_noise < np.inf and 0.0 < trend_noise < np.inf):
            raise ValueError(f"noises must be positive, not {level_noise}, {trend_noise}")
        self._noise = level_noise, trend_noise
        self._level: float | None = None
        self._trend = 0.0
        # Covariance: level, level and trend, trend.
        self._p = (1.0, 0.0, 1.0)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "kalman_trend"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        if self._level is None:
            self._level = y
            return
        clip = self.context.clip
        level, trend = self._level + self._trend, self._trend
        a, b, c = self._p
        a, b, c = a + 2.0 * b + c + self._noise[0], b + c, c + self._noise[1]
        if y is not None:
            gain, slope = a / (a + 1.0), b / (a + 1.0)
            miss = y - level
            level, trend = level + gain * miss, trend + slope * miss
            a, b, c = (1.0 - gain) * a, (1.0 - gain) * b, c - slope * b
        # A long gap must neither carry the level away nor make the filter forget all.
        self._level, self._trend = min(max(level, 0.0), clip), min(max(trend, -clip), clip)
        self._p = (min(a, 1e6), min(b, 1e6), min(c, 1e6))

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        if self._level is None:
            return self.context.flat_last()
        ahead = self._level + self.context.steps.astype(np.float64) * self._trend
        return np.asarray(np.minimum(np.maximum(ahead, 0.0), self.context.clip))
