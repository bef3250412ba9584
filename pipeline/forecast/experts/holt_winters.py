"""Level, trend and a long season, started from a whole season."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["SeasonalHoltWinters"]

_MAX_RATIO = 50.0
_DAMPING = 0.95


class SeasonalHoltWinters(Expert):
    """Holt-Winters smoothing (Winters 1960, "Forecasting sales by exponentially weighted moving averages").

    The season starts as the first season's distances from its mean (additive) or ratios to it (multiplicative), and the
    trend, damped, at zero. Until then the expert sleeps.

    Args:
        context: the series.
        multiplicative: the season multiplies the level instead of adding to it.
        level_rate: weight of the newest value for the level, in (0, 1].
        trend_rate: for the trend, in (0, 1].
        season_rate: for the slot of the season, in (0, 1].
    """

    __slots__ = ("_level", "_multiplicative", "_rates", "_season", "_sums", "_trend", "context")

    def __init__(
        self,
        context: SeriesContext,
        *,
        multiplicative: bool,
        level_rate: float = 0.2,
        trend_rate: float = 0.01,
        season_rate: float = 0.3,
    ) -> None:
        super().__init__(context)
        if not (0.0 < level_rate <= 1.0 and 0.0 < trend_rate <= 1.0 and 0.0 < season_rate <= 1.0):
            raise ValueError(f"rates must be in (0, 1], not {level_rate}, {trend_rate}, {season_rate}")
        self._multiplicative = multiplicative
        self._rates = level_rate, trend_rate, season_rate
        self._sums: Floats = np.asarray(_DAMPING * (1.0 - _DAMPING**context.steps) / (1.0 - _DAMPING), dtype=np.float64)
        # Ratios stand half precision, distances do not.
        self._season: NDArray[np.floating] | None = None
        self._level = self._trend = 0.0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "holt_winters_multiplicative" if self._multiplicative else "holt_winters_additive"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self._season is not None

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        if self._season is None:
            if y is not None and context.has_season:
                self._start()
            return
        slot = context.index % context.season_steps
        carried = _DAMPING * self._trend
        before = self._level + carried
        if y is None:
            self._level, self._trend = min(max(before, 0.0), context.clip), carried
            return
        level_rate, trend_rate, season_rate = self._rates
        season = float(self._season[slot])
        floor = max(0.01 * context.level, TINY)
        bare = min(y / max(season, 0.01), context.clip) if self._multiplicative else y - season
        level = before + level_rate * (bare - before)
        self._trend = carried + trend_rate * (level - self._level - carried)
        self._level = level
        target = min(y / max(level, floor), _MAX_RATIO) if self._multiplicative else y - level
        self._season[slot] = season + season_rate * (target - season)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if self._season is None:
            return context.flat_last()
        slots = (context.index + context.steps) % context.season_steps
        season = self._season[slots].astype(np.float64)
        level = self._level + self._sums * self._trend
        ahead = level * season if self._multiplicative else level + season
        return np.minimum(np.maximum(ahead, 0.0), context.clip)

    def _start(self) -> None:
        context = self.context
        count = context.season_steps
        values = context.recent(count).astype(np.float64)
        self._level, self._trend = float(values.mean()), 0.0
        if self._multiplicative:
            shape = np.minimum(values / max(self._level, TINY), _MAX_RATIO)
        else:
            shape = values - self._level
        season: NDArray[np.floating] = np.empty(count, dtype=np.float16 if self._multiplicative else np.float32)
        season[(context.index - np.arange(count)[::-1]) % count] = shape
        self._season = season
