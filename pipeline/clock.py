"""Where "now" comes from: injected everywhere, so that live, restart and replay are the same code."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "ScaledClock", "WallClock"]


class Clock(Protocol):
    """Tells the time in epoch seconds."""

    def now(self) -> float:
        """Return the current time in seconds since 1970-01-01T00:00:00Z."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the machine's time in epoch seconds."""
        return time.time()


class ManualClock:
    """A clock that only its owner moves; for tests and replays.

    >>> clock = ManualClock(100.0)
    >>> clock.advance(5)
    >>> clock.now()
    105.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)

    def now(self) -> float:
        """Return the time that was set last, in epoch seconds."""
        return self._now

    def set(self, now: float) -> None:
        """Move to ``now`` (epoch seconds)."""
        self._now = float(now)

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        self._now += seconds


class ScaledClock:
    """Simulated time: ``origin`` at wall time ``wall_origin``, running ``speed`` times as fast as the wall.

    Two processes given the same three numbers agree on the simulated time.
    """

    def __init__(self, origin: float, wall_origin: float, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, not {speed}")
        self.origin = origin
        self.wall_origin = wall_origin
        self.speed = speed

    def now(self) -> float:
        """Return the simulated time in epoch seconds."""
        return self.origin + (time.time() - self.wall_origin) * self.speed
