"""A quantile of the forecast at the lead time."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats
from pipeline.forecast.types import LEVELS

__all__ = ["ForecastQuantile"]


class ForecastQuantile:
    """The forecast at each of ``levels``, which are among those of the forecasts.

    Raises:
        ValueError: a level is none of theirs.
    """

    def __init__(self, levels: tuple[float, ...]) -> None:
        for level in levels:
            if level not in LEVELS:
                raise ValueError(f"quantile {level} is not forecast; {', '.join(map(str, LEVELS))} are")
        self.names = tuple(f"forecast_q{100 * level:.3g}" for level in levels)
        self._at = np.array([LEVELS.index(level) for level in levels])

    def demands(self, view: DemandView) -> Floats:
        """Return the quantiles of each signal."""
        found: Floats = view.quantiles.take(self._at, axis=0)
        return found
