"""How surprising a value is: residuals against several references, each in units of its own recent scale. Pure."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.forecast.types import LEVELS

__all__ = ["MIN_HISTORY", "Moments", "Scorer", "Surprises"]

#: Values that must have been seen before a score means anything.
MIN_HISTORY = 8
_LONG = 720
_STEPS = 168
_SHIFT = 12
_TINY = 1e-9
_MEDIAN, _Q95, _Q99 = LEVELS.index(0.5), LEVELS.index(0.95), LEVELS.index(0.99)
#: Standard deviations from the median to the 0.95 quantile of a Laplace distribution: ln 10 / √2.
_LAPLACE_95 = math.log(10.0) / math.sqrt(2.0)
#: A scale below this share of the level would call rounding a surprise.
_LEAST_SHARE = 0.02


@dataclass(slots=True)
class Moments:
    """Mean and spread of the newest ``size`` numbers, in constant time per number.

    The sums are taken anew once per turn of the window, so that rounding cannot pile up. Numbers are rounded to single
    precision when they come, at most 3e38: they are half of what a detector holds, and a mean or a spread of hundreds
    of them moves by less than a part in ten million. The sums are exact sums of what is kept.
    """

    size: int
    # A number in four bytes, not in the 32 of an object. A ring once it is full.
    values: array[float] = field(default_factory=lambda: array("f"))
    oldest: int = 0
    total: float = 0.0
    squares: float = 0.0
    pushed: int = 0

    def push(self, value: float) -> None:
        """Add a number; the oldest leaves once there are more than ``size``."""
        self.pushed += 1
        values = self.values
        if len(values) < self.size:
            values.append(value)
            kept = values[-1]
            self.total += kept
            self.squares += kept * kept
            return
        at = self.oldest
        old = values[at]
        values[at] = value
        kept = values[at]
        self.oldest = (at + 1) % self.size
        self.total += kept
        self.squares += kept * kept
        self.total -= old
        self.squares -= old * old
        if self.pushed >= 2 * self.size:
            self.pushed = self.size
            # Rounded once, so that the order does not matter.
            self.total = math.fsum(self.values)
            self.squares = math.fsum(v * v for v in self.values)

    def __len__(self) -> int:
        return len(self.values)

    def mean(self) -> float:
        """Mean; 0 of nothing."""
        return self.total / len(self.values) if self.values else 0.0

    def root_mean_square(self) -> float:
        """Root of the mean square; 0 of nothing."""
        return math.sqrt(max(0.0, self.squares / len(self.values))) if self.values else 0.0

    def deviation(self) -> float:
        """Standard deviation; 0 of nothing."""
        if not self.values:
            return 0.0
        mean = self.total / len(self.values)
        return math.sqrt(max(0.0, self.squares / len(self.values) - mean * mean))


class Surprises(NamedTuple):
    """Signed scores of one value, in standard deviations of each reference; None where a reference is not known yet.

    ``level``: against the long window (up to 720 windows). ``step``: against the forecast of one step before, 0 where
    its band covered the value; against the last value where there is none. ``shift``: the newest 12 windows on average,
    against what was foretold of them 15 minutes before; against the long window where nothing was. ``season``: against
    the same time one season ago. ``mean`` and ``spread`` are those of the long window before the value.
    """

    mean: float
    spread: float
    level: float
    step: float | None
    shift: float | None
    season: float | None


class Scorer:
    """Keeps the references of one series; values must be finite, of a size up to 1e30.

    Args:
        season: length of a season, in windows; None: the forecast knows the season, or there is none.
    """

    __slots__ = ("_drifts", "_last", "_level", "_missed", "_misses", "_newest", "_past", "_seasonal", "_steps")

    def __init__(self, season: int | None) -> None:
        self._level = Moments(_LONG)
        self._steps = Moments(_STEPS)
        self._newest = Moments(_SHIFT)
        self._drifts = Moments(_LONG)
        self._missed = Moments(_SHIFT)
        self._misses = Moments(_LONG)
        self._seasonal = None if season is None or season < 2 else Moments(_LONG)
        self._past: deque[float] | None = None if season is None or season < 2 else deque(maxlen=season)
        self._last: float | None = None

    def ready(self) -> bool:
        """Whether enough has been seen to score."""
        return len(self._level) >= MIN_HISTORY

    def score(self, value: float, quantiles: Sequence[float] | None = None, foretold: float | None = None) -> Surprises:
        """Score a value and learn it.

        ``quantiles`` (at ``LEVELS``) were forecast for it one step before, ``foretold`` a good while before.
        """
        mean = self._level.mean()
        least = max(_LEAST_SHARE * abs(mean), _TINY)
        spread = max(self._level.deviation(), least)
        step = season = None
        if self._last is not None:
            step = self._step(value, self._last, quantiles, least)
        shift = self._shift(value, mean, least)
        if foretold is not None:
            missed = self._against_foretold(value - foretold, least)
            shift = shift if missed is None else missed
        if self._past is not None and self._seasonal is not None:
            if len(self._past) == self._past.maxlen and not math.isnan(self._past[0]):
                change = value - self._past[0]
                usual = max(self._seasonal.root_mean_square(), least)
                if len(self._seasonal) >= MIN_HISTORY:
                    season = change / usual
                self._seasonal.push(change)
            self._past.append(value)
        self._level.push(value)
        self._last = value
        return Surprises(mean, spread, (value - mean) / spread, step, shift, season)

    def _step(self, value: float, last: float, quantiles: Sequence[float] | None, least: float) -> float:
        change = value - last
        usual = max(self._steps.root_mean_square(), least)
        self._steps.push(change)
        if quantiles is None:
            return change / usual
        median, high = quantiles[_MEDIAN], quantiles[_Q99]
        if 2.0 * median - high <= value <= high:
            return 0.0
        return (value - median) / max(usual, (quantiles[_Q95] - median) / _LAPLACE_95)

    def _shift(self, value: float, mean: float, least: float) -> float | None:
        self._newest.push(value)
        if len(self._newest) < _SHIFT or len(self._level) < 3 * _SHIFT:
            return None
        drift = self._newest.mean() - mean
        usual = max(self._drifts.root_mean_square(), least / 3.0)
        known = len(self._drifts) >= MIN_HISTORY
        self._drifts.push(drift)
        return drift / usual if known else None

    def _against_foretold(self, missed: float, least: float) -> float | None:
        self._missed.push(missed)
        drift = self._missed.mean()
        usual = max(self._misses.root_mean_square(), least)
        known = len(self._misses) >= 3 * _SHIFT
        self._misses.push(drift)
        return drift / usual if known else None

    def warm_up(self, value: float) -> None:
        """Learn a value that cannot be scored yet."""
        if self._last is not None:
            self._steps.push(value - self._last)
        self._newest.push(value)
        self._level.push(value)
        if self._past is not None:
            self._past.append(value)
        self._last = value

    def miss(self) -> None:
        """Take a missing window: time passes, nothing is learned, and the next value is no step from the last one."""
        if self._past is not None:
            self._past.append(math.nan)
        self._last = None
