"""What was foretold of a window long enough before it came. Pure."""

from __future__ import annotations

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

    __slots__ = ("_ahead", "_told")

    def __init__(self, grain_seconds: float) -> None:
        self._ahead = max(_AHEAD_SECONDS, _AHEAD_WINDOWS * grain_seconds)
        self._told: dict[float, float] = {}

    def learn(self, forecasts: Sequence[Forecast]) -> None:
        """Take what was issued in one step, ascending in horizon."""
        for forecast in forecasts:
            if forecast.horizon_seconds >= self._ahead:
                self._told[forecast.target_at] = forecast.quantiles[_MEDIAN]
                return

    def of(self, end: float) -> float | None:
        """Return what was foretold of the window that ends at ``end``, None if nothing; forget what lies before."""
        for target in [target for target in self._told if target < end]:
            del self._told[target]
        return self._told.pop(end, None)
