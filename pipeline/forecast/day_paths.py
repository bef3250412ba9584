"""Paths of hourly demand, weeks ahead, drawn around what the day model says.

Days: the medians of the day model times the exponential of a random walk whose variance grows so that on every day the
spread is the model's own: an error of today's level stays, as growth that was missed does. Hours: each week of a path
takes the shape of a whole week of the past, drawn from the newest eight, so that bursts come as they came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.forecast.context import Floats
from pipeline.forecast.day_model import DAY_HORIZONS, DayModel, Growth

__all__ = ["DemandPaths", "PathSource"]

_DAY_HOURS, _WEEK_HOURS = 24, 168
#: Weeks of the past that shapes are drawn from.
_SHAPE_WEEKS = 8
#: Of a day, the share of hours that must be known.
_LEAST_HOURS = 12
#: An hour is at most so many times the mean of its day.
_MOST_RATIO = 24.0


@dataclass(frozen=True, slots=True)
class DemandPaths:
    """``rates`` (paths × hours) are requests per second from the first hour ahead.

    ``growth`` holds the day model's scenarios, each with the factors by which it differs from the expected growth, by
    hour ahead; multiply ``rates`` by them.
    """

    rates: Floats
    growth: tuple[tuple[Growth, Floats], ...]


class PathSource:
    """Learns hourly demand and draws paths from its end. Deterministic for one seed."""

    def __init__(self) -> None:
        self._model = DayModel()
        self._said: tuple[Floats, Floats] | None = None
        self._shapes: list[Floats] = []  # hours over the mean of their day, of the newest days, by day
        self._first_day: int | None = None

    def learn(self, first_hour: int, rates: Floats) -> None:
        """Learn whole UTC days; ``first_hour`` counts hours since the epoch, NaN where unknown. Days come in order.

        What comes before the first midnight, or after the last, is left out.
        """
        skipped = -first_hour % _DAY_HOURS
        days = (len(rates) - skipped) // _DAY_HOURS
        for index in range(max(days, 0)):
            start = skipped + index * _DAY_HOURS
            self._learn_day((first_hour + start) // _DAY_HOURS, rates[start : start + _DAY_HOURS])

    def _learn_day(self, day: int, hours: Floats) -> None:
        known = np.isfinite(hours)
        mean = float(hours[known].mean()) if known.sum() >= _LEAST_HOURS else None
        self._model.learn(day, mean)
        self._first_day = day if self._first_day is None else self._first_day
        if self._model.started:
            self._said = self._model.forecast()
        shape = np.full(_DAY_HOURS, np.nan)
        if mean is not None and mean > 0:
            shape = np.minimum(hours / mean, _MOST_RATIO)
        self._shapes = [*self._shapes, shape][-_SHAPE_WEEKS * 7 :]

    @property
    def newest_day(self) -> int | None:
        """The last day that was learned, days since the epoch; None before the first."""
        return self._model.newest if self._said is not None else None

    def draw(self, weeks: int, paths: int, seed: int) -> DemandPaths | None:
        """Draw paths of so many weeks after the newest day; None before a day was learned."""
        if self._said is None:
            return None
        random = np.random.default_rng(seed)
        steps = np.arange(1, 7 * weeks + 1)
        medians, spread = self._model.at(steps), self._spread(steps)
        variances = np.diff(spread**2, prepend=0.0)
        walks = np.cumsum(random.standard_normal((paths, steps.size)) * np.sqrt(np.maximum(variances, 0.0)), axis=1)
        days = medians * np.exp(walks)
        rates = np.repeat(days, _DAY_HOURS, axis=1) * self._hours(weeks, paths, random)
        hours = (np.arange(weeks * _WEEK_HOURS) + 0.5) / _DAY_HOURS
        scenarios = self._model.growth()
        expected = np.array(next(s.medians for s in scenarios if s.name == "expected"))
        growth = tuple((s, _factors(np.array(s.medians), expected, hours)) for s in scenarios)
        return DemandPaths(rates, growth)

    def _spread(self, steps: np.ndarray) -> Floats:
        """Between the horizons of the day model the spread is interpolated; it never falls."""
        assert self._said is not None
        return np.asarray(np.interp(steps, DAY_HORIZONS, self._said[1]))

    def _hours(self, weeks: int, paths: int, random: np.random.Generator) -> Floats:
        """Hours over the mean of their day, by path: shapes of past weeks, weekday by weekday."""
        assert self._said is not None
        newest = self._model.newest
        by_weekday: list[list[Floats]] = [[] for _ in range(7)]
        for back, shape in enumerate(reversed(self._shapes)):
            if np.isfinite(shape).sum() >= _LEAST_HOURS:
                mean = np.nanmean(shape)
                by_weekday[(newest - back) % 7].append(np.where(np.isfinite(shape), shape, mean))
        every = [shape for shapes in by_weekday for shape in shapes] or [np.ones(_DAY_HOURS)]
        found = np.empty((paths, weeks * 7, _DAY_HOURS))
        drawn = random.random((paths, weeks))  # one past week for each week of a path
        for day in range(weeks * 7):
            shapes = np.array(by_weekday[(newest + 1 + day) % 7] or every)
            found[:, day] = shapes[(drawn[:, day // 7] * len(shapes)).astype(np.int64)]
        return found.reshape(paths, -1)


def _factors(medians: Floats, expected: Floats, at: Floats) -> Floats:
    """How a scenario differs from the expected growth, at days ahead."""
    tiny = 1e-12
    logs = np.log((medians + tiny) / (expected + tiny))
    return np.asarray(np.exp(np.interp(at, [0, *DAY_HORIZONS], [0.0, *logs])))
