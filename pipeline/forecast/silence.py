"""A busy series that reads exactly zero: suspected of being silent telemetry until it has lasted, or recurs."""

from __future__ import annotations

import math

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.types import LEVELS

__all__ = ["SilenceGuard"]

#: A zero is suspicious after a value of at least this share of the usual level.
_BUSY_SHARE = 0.25
#: Series that fall to zero more often than this per season do so by themselves.
_MOST_RUNS = 4.0
#: Seasons until a series is known well enough, and until a silence is believed.
_KNOWN_AFTER, _BELIEVED_AFTER = 1 / 8, 1 / 6
#: Before any was seen, silences are thought to last this share of a season; what so many of them taught.
_USUAL_LENGTH, _PRIOR_RUNS = 1 / 24, 2.0
#: A silence that begins within this share of a season of the time of day of one of so many earlier ones is a habit.
_SAME_TIME, _REMEMBERED = 1 / 48, 4
_BELOW = np.array((0.0, *LEVELS))


class SilenceGuard:
    """Tells suspected zeros from believed ones, and what a forecast made in a silence should say.

    A suspected zero is scored but not learned. While it lasts, the target is silent too with a probability that falls
    with the distance by what earlier silences taught (a constant rate of return), and else what it would have been.

    Args:
        context: the series, which must be told of suspected zeros as gaps.
    """

    def __init__(self, context: SeriesContext) -> None:
        self._context = context
        self._runs = 0.0
        self._zero = False
        self._length = 0
        self._begun: tuple[int, ...] = ()
        #: Whether the newest window is a suspected zero.
        self.silent = False
        self._returns, self._silent = _PRIOR_RUNS, _PRIOR_RUNS * max(1.0, _USUAL_LENGTH * context.season_steps)

    def suspects(self, value: float | None) -> bool:
        """Whether ``value``, which the context has not taken yet, is a suspected zero; call once for every window."""
        season = self._context.season_steps
        begins = value == 0.0 and not self._zero
        if value is not None:
            self._zero = value == 0.0
        if value == 0.0 and (self._length or (begins and self._suspicious())):
            self._length += 1
            self._silent += 1.0
            if self._length > max(1.0, _BELIEVED_AFTER * season):
                self._length = 0
        elif self._length and value is not None:
            self._length = 0
            self._returns += 1.0
        self._runs = self._runs * math.exp(-1.0 / season) + begins
        self.silent = value == 0.0 and self._length > 0
        return self.silent

    def mixed(self, quantiles: Floats) -> Floats:
        """The quantiles ``(horizons, levels)`` of what is zero with the probability of silence, else as given."""
        still = ((1.0 - min(self._returns / self._silent, 1.0)) ** self._context.steps)[:, None]
        levels = (np.array(LEVELS) - still) / np.maximum(1.0 - still, 1e-9)
        known = np.concatenate((np.zeros((len(quantiles), 1)), quantiles), axis=1)
        return np.array([np.interp(row, _BELOW, base) for row, base in zip(levels, known, strict=True)])

    def _suspicious(self) -> bool:
        """Whether a silence that begins now has no better explanation."""
        context, season = self._context, self._context.season_steps
        # Who told of a gap just before has judged what follows.
        known = context.seen >= _KNOWN_AFTER * season and context.age == 0
        if not known or context.last <= _BUSY_SHARE * context.level:
            return False
        now = (context.index + 1) % season
        apart = (abs(now - begun) for begun in self._begun)
        habit = any(min(steps, season - steps) <= max(1.0, _SAME_TIME * season) for steps in apart)
        self._begun = (*self._begun[1 - _REMEMBERED :], now)
        return not habit and self._runs < _MOST_RUNS
