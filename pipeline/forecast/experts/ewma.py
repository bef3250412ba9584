"""Exponentially weighted moving average."""

from __future__ import annotations

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["Ewma"]


class Ewma(Expert):
    """A flat forecast at the exponentially weighted mean.

    Args:
        context: the series.
        rate: weight of the newest value, in (0, 1].
    """

    __slots__ = ("_mean", "context", "rate")

    def __init__(self, context: SeriesContext, rate: float) -> None:
        super().__init__(context)
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"rate must be in (0, 1], not {rate}")
        self.rate = rate
        self._mean: float | None = None

    @property
    def name(self) -> str:
        """The name within a pool."""
        return f"ewma_{self.rate:g}"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        if y is not None:
            self._mean = y if self._mean is None else self._mean + self.rate * (y - self._mean)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return self.context.flat_last() if self._mean is None else self.context.flat(self._mean)
