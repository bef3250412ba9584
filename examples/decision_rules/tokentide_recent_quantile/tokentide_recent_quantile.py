"""A decision rule of your own: a quantile of the newest windows.

[[pools]]
decision_rules = ["observed", "forecast", "recent_peak", "season", "trend", "recent_quantile"]
"""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["RULES", "RecentQuantile"]


class RecentQuantile:
    """The quantiles ``levels`` of the newest ``windows`` windows."""

    def __init__(self, windows: int, levels: tuple[float, ...]) -> None:
        self.names = tuple(f"recent_q{100 * level:.3g}_of_{windows}" for level in levels)
        self._windows = windows
        self._levels = levels

    def demands(self, view: DemandView) -> Floats:
        """One row per level, one column per signal."""
        return np.quantile(view.recent[-self._windows :], self._levels, axis=0)


#: What the entry point names.
RULES = (RecentQuantile(30, (0.9, 0.95)),)
