"""The peak around the same time one season (usually a day) before, times a headroom."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["SeasonalPeak"]


class SeasonalPeak:
    """The highest window around the target one season before, times each of ``headrooms``."""

    def __init__(self, headrooms: tuple[float, ...]) -> None:
        self.names = tuple(f"season_x{headroom:g}" for headroom in headrooms)
        self._headrooms = np.array(headrooms)[:, None]

    def demands(self, view: DemandView) -> Floats:
        """Return the peak of each signal, times the headrooms; NaN where no season was seen."""
        found: Floats = self._headrooms * view.season_before
        return found
