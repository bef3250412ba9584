"""What was foretold of a window long enough before it came. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from pipeline.forecast.types import LEVELS, Forecast

__all__ = ["Foresight"]

_MEDIAN = LEVELS.index(0.5)
#: A forecast counts as foresight from so far ahead on: nearer ones follow a ramp that is already under way.
_AHEAD_SECONDS = 900.0
_AHEAD_WINDOWS = 3


class Foresight:
    """Remembers the medians of the nearest horizon of 15 minutes (and three windows) or more until they mature.

    Args:
        grain_seconds: width of a window, positive.
    """

    __slots__ = ("_ahead", "_medians", "_targets")

    def __init__(self, grain_seconds: float) -> None:
        self._ahead = max(_AHEAD_SECONDS, _AHEAD_WINDOWS * grain_seconds)
        # Ascending; a number in eight bytes, since every series of every pool remembers a quarter of an hour.
        self._targets, self._medians = array("d"), array("d")

    def learn(self, forecasts: Sequence[Forecast]) -> None:
        """Take what was issued in one step, ascending in horizon."""
        for forecast in forecasts:
            if forecast.horizon_seconds >= self._ahead:
                target, median = forecast.target_at, forecast.quantiles[_MEDIAN]
                at = bisect_left(self._targets, target)
                if at < len(self._targets) and self._targets[at] == target:
                    self._medians[at] = median
                else:
                    self._targets.insert(at, target)
                    self._medians.insert(at, median)
                return

    def of(self, end: float) -> float | None:
        """Return what was foretold of the window that ends at ``end``, None if nothing; forget what lies before."""
        at = bisect_left(self._targets, end)
        found = self._medians[at] if at < len(self._targets) and self._targets[at] == end else None
        past = at if found is None else at + 1
        if past:
            del self._targets[:past], self._medians[:past]
        return found
