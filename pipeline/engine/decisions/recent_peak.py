"""The peak of the newest windows times a headroom."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["RecentPeak"]


class RecentPeak:
    """The highest of ``windows`` windows, the newest one included, times each of ``headrooms``."""

    def __init__(self, windows: int, headrooms: tuple[float, ...]) -> None:
        self.names = tuple(f"peak_{windows}_x{headroom:g}" for headroom in headrooms)
        self._windows = windows
        self._headrooms = np.array(headrooms)[:, None]

    def demands(self, view: DemandView) -> Floats:
        """Return the peak of each signal, times the headrooms."""
        found: Floats = self._headrooms * np.maximum.reduce(view.recent[-self._windows :], axis=0)
        return found
