"""One rise or fall from its onset until it is over. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Episode"]


@dataclass(slots=True)
class Episode:
    """From the window that ended at ``started_at``, away from ``level``, the median before it.

    ``peak`` is the value farthest from the level. It is over when as many windows in a row as are asked for lie nearer
    to the level than half of the way to the first value, or after a number of windows.
    """

    started_at: float
    level: float
    peak: float
    clear_at: float
    calm: int = 0
    windows: int = 0

    @property
    def falls(self) -> bool:
        """Whether it is a fall."""
        return bool(self.clear_at < self.level)

    @classmethod
    def begin(cls, end: float, value: float, level: float) -> Episode:
        """Return the one that begins with ``value`` in the window that ended at ``end``."""
        return cls(end, level, value, level + 0.5 * (value - level))

    def goes_on(self, value: float, short: int, long: int) -> bool:
        """Take the next value; return whether it goes on after ``short`` calm windows and ``long`` in all."""
        self.windows += 1
        if abs(value - self.level) > abs(self.peak - self.level):
            self.peak = value
        calm = value < self.clear_at if self.clear_at >= self.level else value > self.clear_at
        self.calm = self.calm + 1 if calm or self.clear_at == self.level else 0
        return self.calm < short and self.windows < long
