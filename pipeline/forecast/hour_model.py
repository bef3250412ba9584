"""What the hours of several series teach, and what they say of hours and days ahead.

Hours until a day ahead come from a pool of experts of their own, on hourly means; two to fourteen days ahead are the
forecast of that day times the profile of the week by the hour, from seven days on averaged with what the same hour had
in the newest week; days until a quarter ahead are the day model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats
from pipeline.forecast.day_model import DAY_HORIZONS, DayModel
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.outlook_record import Grain, Outlook
from pipeline.forecast.series_group import MAX_VALUE, SeriesGroup
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey
from pipeline.forecast.week_memory import WeekMemory

__all__ = ["DAY", "HOUR", "HOUR_HORIZONS", "HourModel", "PeriodMean"]

#: Seconds.
HOUR, DAY = 3600, 86_400
_POOL_HOURS = (1, 3, 6, 12, 24)
_FAR_HOURS = (48, 168, 336)
#: From so far ahead the newest week counts as much as level and profile: their errors have little in common, and equal
#: weights need no record to learn from (Bates and Granger 1969, "The combination of forecasts"). Nearer, the newest
#: week is older than the level by more than it is worth: on World Cup 1998 the average is 11 % worse two days ahead.
_WEEK_COUNTS_HOURS = 168
#: Share of the usual level that is added to both before their logarithms are averaged: an hour of zero is no zero.
_AVERAGE_FLOOR = 0.1
#: Hours ahead.
HOUR_HORIZONS = _POOL_HOURS + _FAR_HOURS
#: Share of an hour, or of a day, that must have been observed.
_LEAST_SHARE = 0.5
_WEEK_HOURS = 168
_PROFILE_RATE = 0.2
_WEEK_TRUST = 2.0
_PRIOR_SPREAD = 0.3
_SPREAD_RATE = 0.01
_LIMIT = 2.0
_TRUST = 24.0
_NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


@dataclass(slots=True)
class PeriodMean:
    """What was seen of the running hour or day."""

    number: int | None = None
    seconds: float = 0.0
    total: float = 0.0

    def add(self, number: int, value: float, seconds: float) -> None:
        """Add ``seconds`` at ``value`` to period ``number``; a new period begins from nothing."""
        if number != self.number:
            self.number, self.seconds, self.total = number, 0.0, 0.0
        self.seconds += seconds
        self.total += value * seconds

    def mean(self, number: int, length: float) -> float | None:
        """The mean over period ``number``; None when too little of it was seen."""
        if number != self.number or self.seconds < _LEAST_SHARE * length:
            return None
        return self.total / self.seconds


@dataclass(slots=True)
class _HourProfile:
    """The hours of a week over the mean of their day, shrunk towards the hours of a day."""

    week: NDArray[np.float32] = field(default_factory=lambda: np.ones(_WEEK_HOURS, dtype=np.float32))
    seen: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_WEEK_HOURS, dtype=np.float32))
    day: NDArray[np.float32] = field(default_factory=lambda: np.ones(24, dtype=np.float32))
    day_seen: int = 0

    def learn(self, first_hour: int, values: Floats, mean: float) -> None:
        """Learn the 24 hours of a day whose mean is ``mean``; NaN where unknown."""
        if mean <= TINY:
            return
        ratios = np.minimum(values / mean, 24.0)
        known = np.isfinite(ratios)
        rate = max(_PROFILE_RATE, 1.0 / (self.day_seen + 1))
        self.day_seen += 1
        self.day += np.where(known, rate * (np.nan_to_num(ratios) - self.day), 0.0).astype(np.float32)
        slots = (first_hour + np.arange(24)) % _WEEK_HOURS
        rates = np.maximum(_PROFILE_RATE, 1.0 / (self.seen[slots] + 1.0))
        self.week[slots] += np.where(known, rates * (np.nan_to_num(ratios) - self.week[slots]), 0.0).astype(np.float32)
        self.seen[slots] += known

    def at(self, hours: NDArray[np.int64]) -> Floats:
        """The ratios of hours numbered since the epoch."""
        slots = hours % _WEEK_HOURS
        trust = self.seen[slots] / (self.seen[slots] + _WEEK_TRUST)
        return np.asarray(trust * self.week[slots] + (1.0 - trust) * self.day[hours % 24], dtype=np.float64)

    def peak(self) -> float | None:
        """The highest ratio of the week; None until the whole week was seen."""
        return float(self.at(np.arange(_WEEK_HOURS)).max()) if self.seen.all() else None


class HourModel:
    """Learns the mean rates of hours, one after another, and says hourly and daily outlooks. Picklable, bounded.

    Args:
        series: what is forecast, at least one.
    """

    def __init__(self, series: Sequence[SeriesKey]) -> None:
        hours = tuple(HOUR * hours for hours in _POOL_HOURS)
        self._near = SeriesGroup(series, hours, float(HOUR), float(DAY), suspect_silence=False)
        self._far = tuple(_DaysAhead(key) for key in series)

    def learn(self, hour: int, means: Sequence[float | None]) -> tuple[tuple[Outlook, ...], ...]:
        """Learn the mean rates of ``hour`` (hours since the epoch), None a gap; return what follows for every series.

        Before the first value of a series there is nothing to say of it: ``()``.
        """
        near = self._near.step(float((hour + 1) * HOUR), means)
        return tuple(
            far.learn(hour, mean, said, context.week) if said else ()
            for far, mean, said, context in zip(self._far, means, near, self._near.contexts, strict=True)
        )


class _DaysAhead:
    """The part of one series beyond a day ahead."""

    def __init__(self, series: SeriesKey) -> None:
        self.series = series
        self._day = PeriodMean()
        self._days = DayModel()
        self._profile = _HourProfile()
        self._today: Floats = np.full(24, np.nan)
        self._day_of: int | None = None
        far = np.array(_FAR_HOURS)
        self._ring = DelayRing(far, 2)
        self._spread: Floats = np.full(far.size, _PRIOR_SPREAD)
        self._matured: Floats = np.zeros(far.size)
        self._level = 0.0
        self._daily: Outlook | None = None

    def learn(self, hour: int, mean: float | None, near: tuple[Forecast, ...], week: WeekMemory) -> tuple[Outlook, ...]:
        """Learn the mean of an hour; ``near`` are the forecasts until a day ahead, ``week`` has the newest hours."""
        end, day = float((hour + 1) * HOUR), hour // 24
        if self._day_of is not None and day > self._day_of:
            self._close_day(self._day_of)
        self._day_of = day if self._day_of is None else max(day, self._day_of)
        if mean is not None:
            self._judge(hour, mean)
            self._level = mean if self._level == 0.0 else self._level + 0.02 * (mean - self._level)
            self._day.add(day, mean, HOUR)
            self._today[hour % 24] = mean
        if hour % 24 == 23:
            self._close_day(day)
            self._day_of = day + 1
        hours = Outlook(self.series, Grain.HOUR, end, near + self._say_far(hour, end, week), (), self._profile.peak())
        return (hours,) if self._daily is None else (hours, self._daily)

    def _close_day(self, day: int) -> None:
        daily = self._day.mean(day, DAY)
        if daily is not None:
            self._profile.learn(day * 24, self._today, daily)
        self._days.learn(day, daily)
        self._today = np.full(24, np.nan)
        if not self._days.started:
            return
        end = float((day + 1) * DAY)
        medians, spread = self._days.forecast()
        forecasts = _around(self.series, end, [DAY * days for days in DAY_HORIZONS], medians, spread)
        self._daily = Outlook(self.series, Grain.DAY, end, forecasts, self._days.growth(), self._profile.peak())

    def _say_far(self, hour: int, end: float, week: WeekMemory) -> tuple[Forecast, ...]:
        if not self._days.started:
            return ()
        targets = hour + np.array(_FAR_HOURS)
        ahead = targets // 24 - self._days.newest
        medians = self._days.at(ahead) * self._profile.at(targets)
        # Windows are numbered by their end.
        newest = week.newest_of(targets + 1).astype(np.float64)
        averaged = np.isfinite(newest) & (targets - hour >= _WEEK_COUNTS_HOURS)
        floor = max(_AVERAGE_FLOOR * self._level, TINY)
        both = np.sqrt((medians + floor) * (np.where(averaged, newest, 0.0) + floor)) - floor
        medians = np.where(averaged, np.maximum(both, 0.0), medians)
        trust = self._matured / (self._matured + _TRUST)
        spread = trust * self._spread + (1.0 - trust) * _PRIOR_SPREAD * np.sqrt(1.0 + 0.1 * ahead)
        self._ring.put(hour, medians, np.zeros((medians.size, 1)))
        # Farther is never surer.
        spread = np.maximum.accumulate(spread)
        return _around(self.series, end, [HOUR * hours for hours in _FAR_HOURS], medians, spread)

    def _judge(self, hour: int, value: float) -> None:
        issued, known = self._ring.take(hour)
        if known.any():
            floor = max(0.01 * self._level, TINY)
            error = np.abs(np.log((value + floor) / (issued[:, 0].astype(np.float64) + floor)))
            self._matured += known
            rate = np.maximum(_SPREAD_RATE, 1.0 / (self._matured + 1.0))
            # Mean absolute error times 1.2533 is the standard deviation of a normal distribution.
            self._spread += np.where(known, rate * (1.2533 * np.minimum(error, _LIMIT) - self._spread), 0.0)


def _around(
    series: SeriesKey, end: float, horizons_seconds: list[int], medians: Floats, spread: Floats
) -> tuple[Forecast, ...]:
    """Log-normal quantiles around medians."""
    rows = np.minimum(medians[:, None] * np.exp(spread[:, None] * _NORMAL), MAX_VALUE)
    return tuple(
        Forecast(series, end, horizon, tuple(row))
        for horizon, row in zip(horizons_seconds, rows.tolist(), strict=True)
        if math.isfinite(row[-1])
    )
