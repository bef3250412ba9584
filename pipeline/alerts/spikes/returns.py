"""The way back after a rise or a fall is no news. Pure."""

from __future__ import annotations

import math

__all__ = ["Returns"]


class Returns:
    """Remembers the level before the newest rise or fall, and excuses what only leads back to it.

    A burst that lasts moves the level of the recent windows. Its end then looks like a fall, and the end of an outage
    like a rise; neither is one, unless it goes beyond the level from before.

    Args:
        seconds: how long after an episode its level is remembered, positive.
    """

    __slots__ = ("_falls", "_level", "_seconds", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._level = 0.0
        self._falls = False
        self._until = -math.inf

    def note(self, end: float, level: float, *, falls: bool) -> None:
        """Take the level before the episode that runs at ``end``; of several in the same direction the first counts."""
        if end > self._until or falls is not self._falls:
            self._level, self._falls = level, falls
        self._until = end + self._seconds

    def excuse(self, end: float, value: float, ratio: float, *, falls: bool) -> bool:
        """Return whether ``value`` leads back: against the last direction, and within ``ratio`` of the level before."""
        if end > self._until or falls is self._falls:
            return False
        if falls:
            return value > self._level - (1.0 - 1.0 / ratio) * abs(self._level)
        return value < self._level + (ratio - 1.0) * abs(self._level)
