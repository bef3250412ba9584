"""Hours and days ahead of one series: closed windows rolled up, learned, and said again every hour.

Hours until a day ahead come from a pool of experts of their own, on hourly means; two to fourteen days ahead are the
forecast of that day times the profile of the week by the hour; days until a quarter ahead are the day model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats
from pipeline.forecast.day_model import DAY_HORIZONS, DayModel, Growth
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.model import LEVELS, Forecast, SeriesKey
from pipeline.forecast.series import MAX_VALUE, SeriesForecaster

__all__ = ["HOUR_HORIZONS", "Grain", "Outlook", "OutlookForecaster"]

_HOUR, _DAY = 3600, 86_400
_POOL_HOURS = (1, 3, 6, 12, 24)
_FAR_HOURS = (48, 168, 336)
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


class Grain(StrEnum):
    """What one forecast value is the mean of."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The newest forecasts of one series at one grain.

    ``forecasts`` are of the mean rate over the hour (or the UTC day) that ends at ``target_at``. ``growth`` holds
    scenarios of the day grain. ``peak_ratio`` is the busiest hour of the week over the mean of its day; None until a
    week has been seen.
    """

    series: SeriesKey
    grain: Grain
    issued_at: float
    forecasts: tuple[Forecast, ...]
    growth: tuple[Growth, ...] = ()
    peak_ratio: float | None = None


@dataclass(slots=True)
class _Sum:
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


class OutlookForecaster:
    """Hourly and daily outlooks of one series, fed with its closed windows. Deterministic, pure, picklable, bounded.

    Args:
        series: what is forecast.
        delay_seconds: how long after an hour it is learned, in event time; spreads the work of many series.
    """

    def __init__(self, series: SeriesKey, delay_seconds: float = 0.0) -> None:
        self.series = series
        self._delay = delay_seconds
        self._hour, self._day = _Sum(), _Sum()
        self._waiting: list[tuple[int, float | None]] = []
        hours = tuple(_HOUR * hours for hours in _POOL_HOURS)
        self._pool = SeriesForecaster(series, hours, float(_HOUR), float(_DAY), suspect_silence=False)
        self._days = DayModel()
        self._profile = _HourProfile()
        self._today: Floats = np.full(24, np.nan)
        self._hour_of: int | None = None
        self._day_of: int | None = None
        far = np.array(_FAR_HOURS)
        self._ring = DelayRing(far, 2)
        self._spread: Floats = np.full(far.size, _PRIOR_SPREAD)
        self._matured: Floats = np.zeros(far.size)
        self._level = 0.0
        self._daily: Outlook | None = None
        self.outlooks: tuple[Outlook, ...] = ()

    def step(self, end: float, value: float | None, seconds: float) -> bool:
        """Learn the window of ``seconds`` that ended at ``end`` (epoch seconds); ``value`` is its rate, None a gap.

        Windows come in order of time. Returns whether ``outlooks`` is new, which it is once for every hour.
        """
        middle = end - 0.5 * seconds
        hour = int(middle // _HOUR)
        if self._hour_of is not None and hour > self._hour_of:
            self._close(self._hour_of)
        if self._hour_of is None or hour >= self._hour_of:
            self._hour_of = hour
            if value is not None and 0.0 <= value <= MAX_VALUE:
                self._hour.add(hour, value, seconds)
        if end >= (hour + 1) * _HOUR:
            self._close(hour)
            self._hour_of = hour + 1
        fresh = False
        while self._waiting and end >= (self._waiting[0][0] + 1) * _HOUR + self._delay:
            fresh = self._learn(*self._waiting.pop(0)) or fresh
        return fresh

    def _close(self, hour: int) -> None:
        self._waiting.append((hour, self._hour.mean(hour, _HOUR)))

    def _learn(self, hour: int, mean: float | None) -> bool:
        """Learn one hour; say what follows. Before the first value there is nothing to say."""
        end, day = float((hour + 1) * _HOUR), hour // 24
        near = self._pool.step(end, mean)
        if not near:
            return False
        if self._day_of is not None and day > self._day_of:
            self._close_day(self._day_of)
        self._day_of = day if self._day_of is None else max(day, self._day_of)
        if mean is not None:
            self._judge(hour, mean)
            self._level = mean if self._level == 0.0 else self._level + 0.02 * (mean - self._level)
            self._day.add(day, mean, _HOUR)
            self._today[hour % 24] = mean
        if hour % 24 == 23:
            self._close_day(day)
            self._day_of = day + 1
        hours = Outlook(self.series, Grain.HOUR, end, near + self._say_far(hour, end), (), self._profile.peak())
        self.outlooks = (hours,) if self._daily is None else (hours, self._daily)
        return True

    def _close_day(self, day: int) -> None:
        daily = self._day.mean(day, _DAY)
        if daily is not None:
            self._profile.learn(day * 24, self._today, daily)
        self._days.learn(day, daily)
        self._today = np.full(24, np.nan)
        if not self._days.started:
            return
        end = float((day + 1) * _DAY)
        medians, spread = self._days.forecast()
        forecasts = _around(self.series, end, [_DAY * days for days in DAY_HORIZONS], medians, spread)
        self._daily = Outlook(self.series, Grain.DAY, end, forecasts, self._days.growth(), self._profile.peak())

    def _say_far(self, hour: int, end: float) -> tuple[Forecast, ...]:
        if not self._days.started:
            return ()
        targets = hour + np.array(_FAR_HOURS)
        ahead = targets // 24 - self._days.newest
        medians = self._days.at(ahead) * self._profile.at(targets)
        trust = self._matured / (self._matured + _TRUST)
        spread = trust * self._spread + (1.0 - trust) * _PRIOR_SPREAD * np.sqrt(1.0 + 0.1 * ahead)
        self._ring.put(hour, medians, np.zeros((medians.size, 1)))
        # Farther is never surer.
        spread = np.maximum.accumulate(spread)
        return _around(self.series, end, [_HOUR * hours for hours in _FAR_HOURS], medians, spread)

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
