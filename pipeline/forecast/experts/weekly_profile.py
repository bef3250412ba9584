"""What the memory of the week says about each target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["Consensus", "DayMedian", "WeeklyMean", "WeeklyProfile"]


class _OfTheWeek(Expert):
    """Looks into the memory of the week; sleeps until it knows about every target.

    Of targets nearer than a part of the week is long it says the last value: it would see what begins within the part
    begin with it.
    """

    __slots__ = ("_said", "context")

    def __init__(self, context: SeriesContext) -> None:
        super().__init__(context)
        # What it says, and whether that is its own; None until somebody asks.
        self._said: tuple[Floats, bool] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """What it says follows from the context."""
        return type(self), (self.context,)

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return (self._said or self._ask())[1]

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        del y
        self._said = None

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return (self._said or self._ask())[0]

    def _ask(self) -> tuple[Floats, bool]:
        context = self.context
        ahead = self._look()
        # The sum is not finite where one of them is not.
        if not math.isfinite(np.add.reduce(ahead)):
            self._said = context.flat_last(), False
            return self._said
        np.minimum(ahead, context.clip, out=ahead)
        np.copyto(ahead, context.last, where=context.week.near)
        self._said = ahead, True
        return self._said

    def _look(self) -> Floats:
        """What it knows about every target; NaN where nothing."""
        raise NotImplementedError


class WeeklyProfile(_OfTheWeek):
    """The mean of each part of the week, times how high the newest windows stand above theirs."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "weekly_profile"

    def _look(self) -> Floats:
        week = self.context.week
        return np.multiply(week.means, week.share or np.nan, dtype=np.float64)


class WeeklyMean(_OfTheWeek):
    """The mean of each part of the week over the weeks: the level of a day teaches nothing about the next one."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "weekly_mean"

    def _look(self) -> Floats:
        return self.context.week.means.astype(np.float64)


class DayMedian(_OfTheWeek):
    """The median over the newest seven days at the time of the target: bursts do not recur."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "day_median"

    def _look(self) -> Floats:
        return self.context.week.medians.astype(np.float64)


class Consensus(_OfTheWeek):
    """The median of four views: a day before, a week before, the week at the newest day's level, the days' median."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "consensus"

    def _look(self) -> Floats:
        context, week = self.context, self.context.week
        if not context.has_season:
            return context.flat(np.nan)
        views = np.array((context.seasonal(), week.newest, week.means * (week.season_share or np.nan), week.medians))
        views.sort(axis=0)
        middle: Floats = 0.5 * (views[1] + views[2])
        # What is not known stands last, and must not be forgotten.
        middle += 0.0 * views[3]
        return middle
