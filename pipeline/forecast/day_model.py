"""Level, growth, week and year of daily demand: days to a quarter ahead, with honest widening.

A structural decomposition on the logarithm of daily means, computed afresh from the kept days at every origin: the part
of each weekday, an exponentially smoothed level, a damped growth (Gardner and McKenzie 1985, "Forecasting trends in
time series") shrunk towards none by its own uncertainty, and what the year before did over the same stretch. Spreads
per horizon are learned from matured forecasts; until enough have matured they grow like those of a random walk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats
from pipeline.forecast.delay import DelayRing

__all__ = ["DAY_HORIZONS", "DayModel", "Growth"]

#: Days ahead: tomorrow, next week, next month, next quarter.
DAY_HORIZONS = (1, 2, 3, 7, 14, 30, 60, 90)

_KEPT_DAYS = 800
_GROWTH_DAYS = 90
_LEAST_GROWTH_DAYS = 14
#: Standard deviation of the prior of growth, per day: e^(90 · 0.005) = 1.6-fold in a quarter is not unusual.
_GROWTH_PRIOR = 0.005
# Residuals of neighbouring days are alike: the variance of the slope counts this many times.
_GROWTH_INFLATION = 3.0
_GROWTH_LIMIT = 0.02
_DAMPING = 0.985
_LEVEL_RATE = 0.35
#: Weeks that a weekday's part must have been seen to count by half, as long as its own scatter is not known ...
_WEEK_SHRINK = 1.0
#: ... which is believed as much as that when so many days more than weekdays have been seen.
_WEEK_SHRINK_DAYS = 14.0
_WEEK_SHRINK_LIMIT = 50.0
_LEAST_WEEK = 6
_YEAR = 365
_YEAR_HALF = 7
_LIMIT = 2.0
_PRIOR_SPREAD = 0.2
_SPREAD_RATE = 0.05
# Variance added per further day, as a share of the variance of one day ahead, until horizons teach their own.
_WANDER = 0.3
_TRUST = 10.0
_Z90 = 1.2816


class Growth(NamedTuple):
    """A scenario: its name, its growth per day (0.01 is 1 %), and the medians at ``DAY_HORIZONS``."""

    name: str
    per_day: float
    medians: tuple[float, ...]


class _Parts(NamedTuple):
    """What the kept days decompose into; logarithms of value + floor."""

    floor: float
    logs: Floats
    level: float
    growth: float
    error: float
    week: Floats


class DayModel:
    """Daily means of one series; at most 800 days are kept."""

    def __init__(self) -> None:
        self._steps: NDArray[np.int64] = np.array(DAY_HORIZONS)
        self._days: NDArray[np.float32] = np.zeros(0, dtype=np.float32)  # NaN where missing
        #: The newest day that was learned, counted from the epoch.
        self.newest = 0
        self._ring = DelayRing(self._steps, 2)
        self._spread: Floats = np.full(self._steps.size, _PRIOR_SPREAD)
        self._matured: Floats = np.zeros(self._steps.size)
        self._parts: _Parts | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The decomposition is computed again."""
        return self.__dict__ | {"_parts": None}

    @property
    def started(self) -> bool:
        """Whether any day had a value."""
        return bool(self._days.size)

    def learn(self, day: int, mean: float | None) -> None:
        """Learn the mean rate of ``day`` (days since the epoch); None: unknown. Days must come in order.

        Raises:
            ValueError: the day is not after the newest one.
        """
        if self.started and day <= self.newest:
            raise ValueError(f"day {day} is not after day {self.newest}")
        if not self.started and mean is None:
            return
        if mean is not None and self.started:
            self._judge(day, mean)
        missing = min(day - self.newest - 1, _KEPT_DAYS) if self.started else 0
        new = np.append(np.full(missing, np.nan), np.nan if mean is None else mean).astype(np.float32)
        self._days = np.concatenate((self._days, new))[-_KEPT_DAYS:]
        if not np.isfinite(self._days).any():
            self._days = self._days[:0]
        self.newest = day
        self._parts = None

    def forecast(self) -> tuple[Floats, Floats]:
        """Medians, and standard deviations of their logarithms, at ``DAY_HORIZONS``.

        Call once after each day that was learned, when ``started``: the medians wait for their days.
        """
        steps = self._steps
        medians = self.at(steps)
        wandering = float(self._spread[0]) * np.sqrt(1.0 + _WANDER * (steps - 1))
        trust = self._matured / (self._matured + _TRUST)
        learned = trust * self._spread + (1.0 - trust) * wandering
        spread = np.sqrt(learned**2 + (1.0 - trust) * (_damped(steps) * self._decomposed().error) ** 2)
        self._ring.put(self.newest, medians, np.zeros((steps.size, 1)))
        # Farther is never surer.
        return medians, np.maximum.accumulate(spread)

    def at(self, steps: NDArray[np.int64]) -> Floats:
        """Medians ``steps`` days, at least one each, after the newest day; call when ``started``."""
        return self._medians(steps, self._decomposed().growth)

    def growth(self) -> tuple[Growth, ...]:
        """Scenarios: no growth, the learned growth, and the ends of its 80 % interval; call when ``started``."""
        parts = self._decomposed()
        cases = {
            "flat": 0.0,
            "low": parts.growth - _Z90 * parts.error,
            "expected": parts.growth,
            "high": parts.growth + _Z90 * parts.error,
        }
        return tuple(
            Growth(name, float(np.expm1(rate)), tuple(self._medians(self._steps, rate).tolist()))
            for name, rate in cases.items()
        )

    def _judge(self, day: int, value: float) -> None:
        issued, known = self._ring.take(day)
        if not known.any():
            return
        floor = self._decomposed().floor
        # Mean absolute error times 1.2533 is the standard deviation of a normal distribution.
        error = 1.2533 * np.minimum(np.abs(np.log((value + floor) / (issued[:, 0].astype(np.float64) + floor))), _LIMIT)
        self._matured += known
        rate = np.maximum(_SPREAD_RATE, 1.0 / (self._matured + 1.0))
        self._spread += np.where(known, rate * (error - self._spread), 0.0)

    def _medians(self, steps: NDArray[np.int64], growth: float) -> Floats:
        parts = self._decomposed()
        logs = parts.level + growth * _damped(steps) + parts.week[(self.newest + steps) % 7]
        logs += _year(parts.logs, steps, parts.growth)
        return np.asarray(np.maximum(np.exp(logs) - parts.floor, 0.0))

    def _decomposed(self) -> _Parts:
        if self._parts is None:
            days = self._days.astype(np.float64)
            known = np.isfinite(days)
            floor = max(0.01 * float(days[known][-28:].mean()), TINY)
            logs = np.log(days + floor)
            numbers = self.newest - np.arange(days.size)[::-1]
            week = _weekdays(logs, numbers)
            clean = logs - week[numbers % 7]
            growth, error = _slope(clean[-_GROWTH_DAYS:])
            level = 0.0
            for seen, value in enumerate(clean[known][-28:].tolist(), 1):
                level += max(_LEVEL_RATE, 1.0 / seen) * (value - level)
            self._parts = _Parts(floor, logs, level, growth, error, week)
        return self._parts


def _year(logs: Floats, steps: NDArray[np.int64], growth: float) -> Floats:
    """What the years before added over the same stretch, beyond today's growth; zero without a year."""
    total, years = np.zeros(steps.size), 0
    for back in (_YEAR, 2 * _YEAR):
        change = np.array([_smooth(logs, int(step) - back) for step in steps]) - _smooth(logs, -back)
        if not np.isfinite(change).all():
            break
        total += change
        years += 1
    if years == 0:
        return total
    beyond = total / years - growth * _damped(steps)
    return np.clip(beyond * years / (years + 1.0), -_LIMIT, _LIMIT)


def _smooth(logs: Floats, offset: int) -> float:
    """The mean around ``offset`` days from the newest; NaN where fewer than half of them are known."""
    middle = logs.size - 1 + offset
    around = logs[max(0, middle - _YEAR_HALF) : max(0, middle + _YEAR_HALF + 1)]
    known = around[np.isfinite(around)]
    return float(known.mean()) if known.size > _YEAR_HALF else float("nan")


def _damped(steps: NDArray[np.int64]) -> Floats:
    return np.asarray((1.0 - _DAMPING**steps) / (1.0 - _DAMPING), dtype=np.float64)


def _weekdays(days: Floats, numbers: NDArray[np.int64]) -> Floats:
    """How far each weekday lies from the mean of the week around it, shrunk by how often it was seen and scatters.

    Weekdays that scatter little around their own means and differ much are believed sooner: the shrinkage is the ratio
    of both variances (empirical Bayes; Efron and Morris 1973, "Stein's estimation rule and its competitors").
    """
    week = np.zeros(7)
    if days.size <= 7:
        return week
    known = np.isfinite(days)
    whole_weeks = np.lib.stride_tricks.sliding_window_view(np.where(known, days, 0.0), 7).sum(axis=1)
    counts = np.lib.stride_tricks.sliding_window_view(known, 7).sum(axis=1)
    # The first and last three days are compared with the first and the last week.
    means = np.pad(np.where(counts >= _LEAST_WEEK, whole_weeks / np.maximum(counts, 1), np.nan), 3, mode="edge")
    apart = days - means
    whole = np.isfinite(apart)
    slots = numbers % 7
    # The newest eight weeks: a changed habit is believed within two months.
    recent = np.arange(days.size) >= days.size - 56
    use = whole & recent
    seen: NDArray[np.int64] = np.bincount(slots[use], minlength=7)
    totals: Floats = np.bincount(slots[use], apart[use], 7).astype(np.float64)
    squares: Floats = np.bincount(slots[use], apart[use] ** 2, 7).astype(np.float64)
    week = totals / (seen + _week_shrinkage(totals, squares, seen))
    return np.asarray(week - week.mean(), dtype=np.float64)


def _week_shrinkage(totals: Floats, squares: Floats, seen: NDArray[np.int64]) -> float:
    """Variance within weekdays over that between them, from sums, sums of squares and numbers of days."""
    some = seen > 0
    free = float(seen.sum() - some.sum())
    if free <= 0 or some.sum() < 2:
        return _WEEK_SHRINK
    means = totals[some] / seen[some]
    within = max(float((squares[some] - seen[some] * means**2).sum()) / free, TINY)
    between = float(means.var(ddof=1)) - within / float(seen[some].mean())
    ratio = within / between if between > within / _WEEK_SHRINK_LIMIT else _WEEK_SHRINK_LIMIT
    ratio = max(ratio, 1.0 / _WEEK_SHRINK_LIMIT)
    weight = free / (free + _WEEK_SHRINK_DAYS)
    return float(np.exp(weight * np.log(ratio) + (1.0 - weight) * np.log(_WEEK_SHRINK)))


def _slope(clean: Floats) -> tuple[float, float]:
    """Growth per day and its standard error, shrunk towards none."""
    known = np.isfinite(clean)
    count = int(known.sum())
    if count < _LEAST_GROWTH_DAYS:
        return 0.0, _GROWTH_PRIOR
    at = np.flatnonzero(known).astype(np.float64)
    values = clean[known]
    centred = at - at.mean()
    spread = float((centred**2).sum())
    raw = float((centred * values).sum()) / spread
    residual = values - values.mean() - raw * centred
    error = _GROWTH_INFLATION * max(float((residual**2).sum()) / (count - 2), 1e-6) / spread
    prior = _GROWTH_PRIOR**2
    growth = raw * prior / (prior + error)
    return float(np.clip(growth, -_GROWTH_LIMIT, _GROWTH_LIMIT)), float(np.sqrt(prior * error / (prior + error)))
