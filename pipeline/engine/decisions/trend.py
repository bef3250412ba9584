"""The newest window and its trend, carried on to the lead time, times a headroom; never below the newest window."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["Trend"]

#: Windows that the trend is taken over, and the most that it may add, as a multiple of the newest window.
_OVER = 5
_MOST = 2.0


class Trend:
    """The newest window plus its slope over ``_OVER`` windows times the lead, times each of ``headrooms``."""

    def __init__(self, headrooms: tuple[float, ...]) -> None:
        self.names = tuple(f"trend_x{headroom:g}" for headroom in headrooms)
        self._headrooms = np.array(headrooms)[:, None]

    def demands(self, view: DemandView) -> Floats:
        """Return the demand that the trend leads to, of each signal."""
        newest = view.observed
        over = min(_OVER, len(view.recent) - 1)
        if over:
            growth = (newest - view.recent[-1 - over]) * (view.ahead / over)
            newest = newest + np.minimum(np.maximum(growth, 0.0), _MOST * newest)
        found: Floats = self._headrooms * newest
        return found
