"""What each part of the week was like, and how high the newest day stands above the same day of the weeks before."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.season_column import SeasonColumn

__all__ = ["WeekMemory"]

_Index = TypeVar("_Index", int, NDArray[np.int64])

_TINY = 1e-12
_DAYS = 7
_PARTS_PER_SEASON = 48
#: A mean over so many weeks, then exponentially forgotten at that rate.
_WEEKS = 4
_FOLLOW = 0.1
_MAX_SHARE = 100.0
_BUSY = 0.7


@lru_cache(maxsize=64)
def _near(steps: tuple[int, ...], length: int) -> NDArray[np.bool_]:
    """Which horizons are shorter than ``length`` windows: the same array for all series, never changed."""
    return np.array(steps) < length


class WeekMemory:
    """Means of parts of the week, each a 48th of a season or a window where these are longer.

    Args:
        season_steps: windows per season, which is the day.
        steps: forecast horizons in windows.
    """

    __slots__ = (
        *("_compared", "_count", "_length", "_means", "_medians", "_newest", "_number", "_per_season", "_season_steps"),
        *("_seen", "_steps", "_sum", "_usual", "_weeks"),
        *("busy_above", "means", "medians", "near", "newest", "season_share", "share"),
    )

    def __init__(self, season_steps: int, steps: NDArray[np.int64]) -> None:
        self._season_steps = season_steps
        self._length = max(1, season_steps // _PARTS_PER_SEASON)
        #: Targets nearer than a part is long: a part cannot tell when within it something begins.
        self.near: NDArray[np.bool_]
        self.use_steps(steps)
        self._per_season = -(-season_steps // self._length)
        parts = _DAYS * self._per_season
        self._newest = SeasonColumn(parts, np.float32)
        self._means = SeasonColumn(parts, np.float32)
        self._weeks: NDArray[np.uint8] = np.zeros(parts, dtype=np.uint8)
        self._medians: NDArray[np.float32] = np.full(self._per_season, np.nan, dtype=np.float32)
        self._number, self._sum, self._count = -1, 0.0, 0
        self._compared = 0
        self._seen = self._usual = 0.0
        #: How high the newest windows stand above the means of their parts of the week; 0.0 while unknown.
        self.share = 0.0
        #: The same for the newest season.
        self.season_share = 0.0
        #: What three parts in ten of the newest week exceed.
        self.busy_above = 0.0
        nothing = np.full(steps.size, np.nan, dtype=np.float32)
        #: For the part of every target: its newest mean, its mean over the weeks, the median over the days of a week at
        #: that time; NaN where never seen.
        self.newest, self.means, self.medians = nothing, nothing, nothing

    def use_steps(self, steps: NDArray[np.int64]) -> None:
        """Hold these horizons in place of equal ones, which came with a state that was read."""
        self._steps = steps
        self.near = _near(tuple(steps.tolist()), self._length)

    def learn_one(self, index: int, value: float | None, level: float) -> None:
        """Learn window ``index``, None is a gap; ``level`` is the series' usual value."""
        number = self._numbers(index)
        if number != self._number:
            self._settle()
            self._number = number
        if value is not None:
            self._compare(value, self._means[number % self._weeks.size], level)
            self._sum, self._count = self._sum + value, self._count + 1
            if self._count == self._length:
                self._settle()
        targets = self._numbers(index + self._steps)
        parts = targets % self._weeks.size
        self.newest, self.means = self._newest.take(parts), self._means.take(parts)
        self.medians = self._medians.take(targets % self._per_season)

    def newest_of(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the newest mean of the parts of the week that windows are in; NaN where never seen."""
        found: NDArray[np.float32] = self._newest.take(self._numbers(indices) % self._weeks.size)
        return found

    def _numbers(self, index: _Index) -> _Index:
        if self._per_season * self._length == self._season_steps:
            return index // self._length
        days = index // self._season_steps
        return days * self._per_season + (index - days * self._season_steps) // self._length

    def _compare(self, value: float, usual: float, level: float) -> None:
        if math.isnan(usual):
            self.share = 0.0
            return
        share = min(value / max(usual, 0.02 * level, _TINY), _MAX_SHARE)
        self.share = share if self.share == 0.0 else self.share + _FOLLOW * (share - self.share)
        self._compared += 1
        rate = 1.0 / min(self._compared, self._season_steps)
        self._seen += rate * (value - self._seen)
        self._usual += rate * (usual - self._usual)
        self.season_share = min(self._seen / max(self._usual, 0.02 * level, _TINY), _MAX_SHARE)

    def _settle(self) -> None:
        """Book the part of the week that has ended, or is complete."""
        if not self._count:
            return
        part, mean = self._number % self._weeks.size, self._sum / self._count
        self._sum, self._count = 0.0, 0
        weeks = int(self._weeks[part])
        self._weeks[part] = min(weeks + 1, _WEEKS - 1)
        before = self._means[part]
        self._means[part] = before + (mean - before) / (weeks + 1) if weeks else mean
        self._newest[part] = mean
        slot = part % self._per_season
        same_time = slot + self._per_season * np.arange(_DAYS)
        days = sorted(day for day in self._newest.take(same_time).tolist() if math.isfinite(day))
        self._medians[slot] = 0.5 * (days[(len(days) - 1) // 2] + days[len(days) // 2])
        known = self._newest.known()
        place = int(_BUSY * known.size)
        self.busy_above = float(np.partition(known, place)[place])
