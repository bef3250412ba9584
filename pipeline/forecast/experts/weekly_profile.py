"""The shape of the week at today's level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["WeeklyProfile"]

_BINS_PER_SEASON = 48
_RATE = 0.4
_FOLLOW = 0.1


class WeeklyProfile(Expert):
    """A mean per part of the week, times how high the newest windows stand above that of now.

    Sleeps until every target lies in a part of the week that was seen before, and now does too.

    Args:
        context: the series; its season is the day.
        seasons: days of the week.
    """

    def __init__(self, context: SeriesContext, seasons: int = 7) -> None:
        super().__init__(context)
        if seasons < 1:
            raise ValueError(f"a week has at least one season, not {seasons}")
        self._per_bin = max(1, context.season_steps // _BINS_PER_SEASON)
        self._bins = -(-seasons * context.season_steps // self._per_bin)
        self._week = seasons * context.season_steps
        self._means: NDArray[np.float32] = np.full(self._bins, np.nan, dtype=np.float32)
        self._sum, self._count, self._bin = 0.0, 0, -1
        self._share = 0.0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "weekly_profile"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self._share > 0.0 and bool(np.isfinite(self._at(self.context.steps)).all())

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        part = context.index % self._week // self._per_bin
        if part != self._bin:
            self._settle()
            self._bin = part
        if y is None:
            return
        self._sum, self._count = self._sum + y, self._count + 1
        usual = float(self._means[part])
        if not np.isfinite(usual):
            self._share = 0.0
            return
        share = min(y / max(usual, 0.02 * context.level, TINY), 100.0)
        self._share = share if self._share == 0.0 else self._share + _FOLLOW * (share - self._share)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if not self.awake:
            return context.flat(context.last)
        return np.minimum(self._at(context.steps) * self._share, context.clip)

    def _at(self, steps: NDArray[np.int64]) -> Floats:
        return self._means[(self.context.index + steps) % self._week // self._per_bin].astype(np.float64)

    def _settle(self) -> None:
        """Book the part of the week that has ended."""
        if self._count:
            mean, before = self._sum / self._count, float(self._means[self._bin])
            self._means[self._bin] = before + _RATE * (mean - before) if np.isfinite(before) else mean
        self._sum, self._count = 0.0, 0
