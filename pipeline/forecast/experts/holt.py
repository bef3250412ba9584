"""Holt's smoothing: level and trend, no season."""

from __future__ import annotations

__all__ = ["Holt"]


class Holt:
    """Exponential smoothing of level and trend (Holt 1957, "Forecasting seasonals and trends by exponentially weighted
    moving averages").

    The same numbers, bit for bit, as ``river.time_series.HoltWinters(alpha, beta)``, whose import brings 50 MB of
    libraries and whose objects take three kilobytes a series.

    Args:
        alpha: weight of the newest value for the level, in (0, 1].
        beta: weight of the newest change of the level for the trend, in (0, 1].
    """

    __slots__ = ("_alpha", "_beta", "_first", "_level", "_trend")

    def __init__(self, alpha: float, beta: float) -> None:
        self._alpha, self._beta = alpha, beta
        self._first: float | None = None
        self._level: float | None = None
        self._trend = 0.0

    def learn_one(self, y: float) -> None:
        """Learn one target; the first two give level and trend their start."""
        if self._level is None:
            if self._first is None:
                self._first = y
                return
            self._level, self._trend = (self._first + y) / 2.0, y - self._first
            return
        level = self._alpha * y + (1.0 - self._alpha) * (self._level + self._trend)
        self._trend = self._beta * (level - self._level) + (1.0 - self._beta) * self._trend
        self._level = level

    def forecast(self, horizon: int) -> list[float]:
        """Forecast 1 to ``horizon`` steps ahead.

        Raises:
            ValueError: fewer than two targets were learned.
        """
        return self.forecast_at(list(range(1, horizon + 1)))

    def forecast_at(self, steps: list[int]) -> list[float]:
        """The values of ``forecast`` at ``steps`` ahead.

        Raises:
            ValueError: fewer than two targets were learned.
        """
        if self._level is None:
            raise ValueError("too few values")
        return [self._level + step * self._trend for step in steps]
