"""The peak of the newest windows that demand has come back to, times a headroom."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["RecentPeak"]

#: Between two peaks demand has fallen to less than this share of the lower one: Poisson noise of sixty requests a
#: window does so in one window of twenty, so that busier pools are judged by what demand does.
_VALLEY = 0.8


class RecentPeak:
    """The highest demand of ``windows`` windows that came back after a fall, times each of ``headrooms``.

    A level that was there once, or that demand has left for good, is none that is known to come back: the rule then
    says the newest window.
    """

    def __init__(self, windows: int, headrooms: tuple[float, ...]) -> None:
        self.names = tuple(f"peak_{windows}_x{headroom:g}" for headroom in headrooms)
        self._windows = windows
        self._headrooms = np.array(headrooms)[:, None]

    def demands(self, view: DemandView) -> Floats:
        """Return the peak of each signal, times the headrooms."""
        recent = view.recent[-self._windows :]
        before = np.maximum.accumulate(recent, axis=0)
        after = np.maximum.accumulate(recent[::-1], axis=0)[::-1]
        around = np.minimum(before, after)
        came_back = np.where(recent < _VALLEY * around, around, 0.0).max(axis=0)
        found: Floats = self._headrooms * np.maximum(came_back, view.observed)
        return found
