"""An expert of your own: the median of the last windows, for every horizon.

[forecast]
experts = ["default", "median"]
"""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["MedianExpert", "median_experts"]


class MedianExpert(Expert):
    """Lives on the shared context alone, so there is nothing to learn and nothing to keep."""

    def __init__(self, context: SeriesContext, windows: int = 15) -> None:
        super().__init__(context)
        self._windows = windows

    @property
    def name(self) -> str:
        """The name within a pool."""
        return f"median_{self._windows}"

    def forecast(self) -> Floats:
        """The median, for every horizon."""
        recent = self.context.recent(self._windows)
        return self.context.flat(float(np.median(recent)) if recent.size else 0.0)


def median_experts(context: SeriesContext) -> tuple[Expert, ...]:
    """What the entry point names."""
    return (MedianExpert(context),)
