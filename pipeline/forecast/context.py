"""What every expert of one series may look at: the recent values, a day of them, the recurring profile of the day.

One context is shared by all experts of a series, so that the season buffer exists once. Its owner pushes a window
before the experts learn it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.season_profile import SeasonalProfile
from pipeline.forecast.week_memory import WeekMemory

__all__ = ["TINY", "Floats", "Ints", "SeriesContext"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Below this nothing is told apart from zero; keeps divisions finite.
TINY = 1e-12

#: Windows between two moves of the history to the front of its buffer; short, as every series has one. Until it is as
#: long as it gets, the buffer grows by as many at least, and by a sixteenth.
_SLACK, _GROWTH_SHARE = 16, 16
_LEVEL_DECAY = 0.98
_MEANS = np.array([3, 6, 12, 30])


@lru_cache(maxsize=64)
def _of_steps(steps: tuple[int, ...]) -> tuple[Ints, Floats]:
    """Horizons in windows, and as many ones: the same arrays for all series that have them, never changed."""
    return np.array(steps, dtype=np.int64), np.ones(len(steps))


@lru_cache(maxsize=64)
def _origins(steps: tuple[int, ...], flags: int) -> Ints:
    """Where in so many flags, the newest last, those of the windows lie that are ``steps`` ago; never changed."""
    return flags - 1 - np.array(steps, dtype=np.int64)


class SeriesContext:
    """History of one series on a regular grid of windows; gaps are filled for look-ups but remembered as gaps.

    Args:
        steps: forecast horizons in windows, ascending, distinct.
        season_steps: windows per season; no fewer than the longest horizon.
        grain_seconds: width of a window.
        signal_count: number of signals from outside that experts may use.

    Raises:
        ValueError: the horizons or the season cannot work.
    """

    # A table of thirty names for each of four series of every pool would take more than the numbers in it.
    __slots__ = (
        *("_flat_last", "_keep", "_max_decay", "_observed", "_ones", "_origins", "_share", "_used", "_values"),
        *(
            "age",
            "external",
            "grain_seconds",
            "index",
            "lags",
            "last",
            "level",
            "newest",
            "profile",
            "profile_forecast",
        ),
        *("recent_max", "season_steps", "seen", "signal_count", "signals", "steps", "week"),
    )

    def __init__(self, steps: tuple[int, ...], season_steps: int, grain_seconds: float, signal_count: int = 0) -> None:
        if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(f"horizons must be positive, distinct and ascending, not {steps} windows")
        if season_steps < steps[-1] or season_steps < 3:
            raise ValueError(f"a season of {season_steps} windows is too short for a horizon of {steps[-1]}")
        self.steps, self._ones = _of_steps(steps)
        self.season_steps = season_steps
        self.grain_seconds = grain_seconds
        self.signal_count = signal_count
        #: What ``pipeline.forecast.exogenous.known.Exogenous`` holds for the newest window; the owner sets it.
        self.external: Floats | None = None
        self.signals: Floats | None = None
        half = int(min(30, max(2, 1800 // grain_seconds), season_steps // 8))
        self._keep = season_steps + 2 * half + 64
        self._values: NDArray[np.float32] = np.zeros(_SLACK, dtype=np.float32)
        self._used = 0
        # Whether each of the newest windows was observed, the newest last: as many as are asked for.
        self._observed: NDArray[np.bool_] = np.zeros(max(2 * half, int(self.steps[-1])) + 1, dtype=np.bool_)
        self._origins = _origins(steps, self._observed.size)
        #: The newest value (filled where the newest window is a gap).
        self.last = 0.0
        self._flat_last: Floats | None = None
        self.profile = SeasonalProfile(season_steps, half)
        self.week = WeekMemory(season_steps, self.steps)
        self.index = 0
        #: The value of the newest window; None where it is a gap.
        self.newest: float | None = None
        self.seen = 0
        self.age = 0
        self.level = 0.0
        self.recent_max = 0.0
        self._max_decay = float(np.exp(-1.0 / season_steps))
        self._share = 0.0
        self.profile_forecast: Floats = np.zeros(len(steps))
        self.lags: Floats = np.zeros(8 + 2 * len(steps))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the unused slack out of the pickle and put eight flags into a byte; what remains is the same."""
        state = {name: getattr(self, name) for name in self.__slots__ if name not in ("_origins", "_ones")}
        keep = min(self._used, self._keep)
        state["_values"] = self._values[self._used - keep : self._used].copy()
        state["_observed"] = self._observed.size, np.packbits(self._observed)
        state["_used"], state["_flat_last"] = keep, None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give the buffers their slack back, and take what follows from the horizons from where all share it."""
        for name, value in state.items():
            setattr(self, name, value)
        self._grow()
        flags, packed = state["_observed"]
        self._observed = np.unpackbits(packed, count=flags).astype(np.bool_)
        steps = tuple(self.steps.tolist())
        self.steps, self._ones = _of_steps(steps)
        self._origins = _origins(steps, flags)
        self.week.use_steps(self.steps)

    @property
    def has_season(self) -> bool:
        """Whether a whole season lies in the buffer."""
        return self._used > self.season_steps

    @property
    def has_profile(self) -> bool:
        """Whether the newest window's place in the season was seen in an earlier season."""
        return self._share > 0.0

    @property
    def clip(self) -> float:
        """The largest forecast that anything in the last season justifies: twice the (decaying) maximum."""
        return 2.0 * self.recent_max

    @property
    def signal_features(self) -> Floats:
        """The signals of the newest window, ``(signal_count, 1 + horizons)``; zeros where nothing is known."""
        if self.signals is None:
            return np.zeros((self.signal_count, 1 + self.steps.size))
        return self.signals

    def flat(self, value: float) -> Floats:
        """``value`` at every horizon."""
        return self._ones * value

    def flat_last(self) -> Floats:
        """The last value at every horizon, which most experts say now and then. One array for all: do not change it."""
        if self._flat_last is None:
            self._flat_last = self._ones * self.last
        return self._flat_last

    def recent(self, count: int) -> NDArray[np.float32]:
        """The newest ``count`` values, oldest first; fewer when fewer are known. A view: do not change it."""
        return self._values[max(0, self._used - count) : self._used]

    def season_before(self, ahead: int, around: int) -> NDArray[np.float32]:
        """The values one season before the window ``ahead`` of the newest one, with ``around`` on each side of it.

        Empty where they are not all known. A view: do not change it.
        """
        middle = self._used - 1 + ahead - self.season_steps
        if middle < around or middle + around >= self._used:
            return self._values[:0]
        return self._values[middle - around : middle + around + 1]

    def origins(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The values from which the newest window was the target, per horizon, and whether each was observed."""
        at = self._used - 1 - self.steps
        return self._values.take(at, mode="clip"), self._observed.take(self._origins)

    def seasonal(self) -> Floats:
        """Values one season before each target; call only with ``has_season``. A view: do not change it."""
        return self.lags[8 : 8 + self.steps.size]

    def seasonal_origin(self) -> float:
        """The value one season before the newest window; call only with ``has_season``."""
        return float(self.lags[7])

    def push(self, index: int, value: float | None) -> None:
        """Take the window number ``index`` (epoch seconds / grain); None is a gap."""
        self.index, self.newest = index, value
        if value is None:
            self.age += 1
            filled = self._fill()
        else:
            self.age = 0
            self.seen += 1
            filled = value
            self.level = value if self.seen == 1 else _LEVEL_DECAY * self.level + (1 - _LEVEL_DECAY) * value
            self.recent_max = max(value, self.recent_max * self._max_decay)
        self._append(filled, value is not None)
        self.week.learn_one(index, value, self.level)
        self._learn_profile()
        self._follow_profile(value)
        self._gather_lags()

    def skip(self, count: int, index: int) -> None:
        """Take ``count`` windows that never came, the last one numbered ``index``, as gaps; work is bounded."""
        self.age += count
        for _ in range(min(count, self._keep)):
            self._append(self._fill(), False)
        self.index = index

    def _fill(self) -> float:
        return self.last

    def _append(self, value: float, observed: bool) -> None:
        if self._used == self._values.size < self._keep + _SLACK:
            self._grow()
        elif self._used == self._values.size:
            kept = slice(self._used - self._keep, self._used)
            self._values[: self._keep] = self._values[kept].copy()
            self._used = self._keep
        self._values[self._used] = value
        self._observed[:-1] = self._observed[1:]
        self._observed[-1] = observed
        self.last, self._flat_last = float(self._values[self._used]), None
        self._used += 1

    def _grow(self) -> None:
        """Give the history room for more windows, up to what is kept of it."""
        used = self._used
        room = min(self._keep + _SLACK, used + max(_SLACK, used // _GROWTH_SHARE))
        grown: NDArray[np.float32] = np.zeros(room, dtype=np.float32)
        grown[:used] = self._values[:used]
        self._values = grown

    def _learn_profile(self) -> None:
        width = 2 * self.profile.half + 1
        if self._used < width:
            return
        observed = self._observed[-width:]
        if observed[self.profile.half] and 2 * int(np.count_nonzero(observed)) > width:
            self.profile.learn_one(self.index - self.profile.half, self._values[self._used - width : self._used])

    def _follow_profile(self, value: float | None) -> None:
        profile = self.profile
        if not profile.known(self.index):
            self.profile_forecast = self.flat_last()
            self._share = 0.0
            return
        floor = max(0.02 * self.level, TINY)
        smooth, whole = profile.at(self.index)
        if value is not None:
            by_smooth, by_whole = value / max(smooth, floor), value / max(whole, floor)
            # A recurring spike that stays away today must not drag the level of the whole profile down.
            share = by_smooth if abs(by_smooth - self._share) < abs(by_whole - self._share) else by_whole
            self._share = share if self._share == 0.0 else self._share + 0.2 * (share - self._share)
        targets = profile.ahead(self.index + self.steps)
        targets *= self._share
        if not profile.complete:
            np.copyto(targets, self.last, where=np.isnan(targets))
        self.profile_forecast = np.minimum(targets, self.clip, out=targets)

    def _gather_lags(self) -> None:
        """Fill ``lags``: the last three values, four means, the season's origin, its targets, the profile's targets."""
        lags, horizons, used = self.lags, self.steps.size, self._used
        if used >= _MEANS[-1]:
            lags[:3] = self._values[used - 3 : used][::-1]
            past = np.add.accumulate(self._values[used - int(_MEANS[-1]) : used][::-1], dtype=np.float64)
            np.divide(past.take(_MEANS - 1), _MEANS, out=lags[3:7])
        else:
            lags[:7] = self.last
        if self.has_season:
            lags[7] = self._values[used - 1 - self.season_steps]
            lags[8 : 8 + horizons] = self._values.take(used - 1 - self.season_steps + self.steps)
        else:
            lags[7 : 8 + horizons] = self.last
        lags[8 + horizons :] = self.profile_forecast
