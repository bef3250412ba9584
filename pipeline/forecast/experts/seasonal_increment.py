"""The last value plus what was added over the same stretch one season ago."""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import Floats
from pipeline.forecast.experts.base import Expert

__all__ = ["SeasonalIncrement"]


class SeasonalIncrement(Expert):
    """``y(t) + y(t + h - season) - y(t - season)``, not below zero; the last value until a season has been seen."""

    __slots__ = ("context",)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "seasonal_increment"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self.context.has_season

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if not context.has_season:
            return context.flat_last()
        change = context.seasonal() - context.seasonal_origin()
        return np.minimum(np.maximum(context.last + change, 0.0), context.clip)
