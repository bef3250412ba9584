"""The same time one season ago."""

from __future__ import annotations

from pipeline.forecast.context import Floats
from pipeline.forecast.experts.base import Expert

__all__ = ["SeasonalNaive"]


class SeasonalNaive(Expert):
    """The value one season before the target; the last value until a season has been seen."""

    __slots__ = ("context",)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "seasonal_naive"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self.context.has_season

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        if not self.context.has_season:
            return self.context.flat_last()
        return self.context.seasonal()
