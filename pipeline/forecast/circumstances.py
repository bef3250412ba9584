"""Whether a window is one of the busiest, and whether it lies in the hour after a spike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.forecast.context import SeriesContext

__all__ = ["Circumstances"]

_BUSY_STEP = 0.02
_SPIKE_RATIO = 1.5
_SPIKE_SECONDS = 3600.0


@dataclass(slots=True)
class Circumstances:
    """What one series remembers to tell its windows apart for the scores."""

    busy_above: float | None = None
    spiked_until: float = -math.inf

    def learn(self, context: SeriesContext, end: float, value: float, high: float) -> tuple[bool, bool]:
        """Whether the window is busy (top decile of demand), and whether it lies in the hour after a spike.

        ``value`` is of the window that ended at ``end``, which ``context`` has taken; ``high`` is the 0.99 quantile
        that the nearest horizon said.
        """
        recent, usual = float(context.lags[3]), float(context.lags[6])
        # Tracks the 0.9 quantile of the mean of three windows.
        busy = self.busy_above is not None and recent > self.busy_above
        if self.busy_above is None:
            self.busy_above = 1.2 * context.level
        self.busy_above += _BUSY_STEP * context.level * (0.9 if busy else -0.1)
        after = end <= self.spiked_until
        if value >= _SPIKE_RATIO * usual > 0.0 and value > high:
            self.spiked_until = end + _SPIKE_SECONDS
        return busy, after
