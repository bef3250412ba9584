"""Where "now" comes from: injected everywhere, so that live, restart and replay are the same code."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline.errors import ConfigError

__all__ = ["Clock", "ManualClock", "Pace", "PacedClock", "ScaledClock", "Speed", "WallClock", "simulated_speed"]


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


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast simulated time runs, in seconds per wall second: over the last seconds, and as wanted."""

    actual: float
    target: float


_PACE = struct.Struct("<6dI")


@dataclass(frozen=True, slots=True)
class Pace:
    """Simulated time as a straight line: ``origin`` (epoch seconds) at wall time ``at``, then ``speed`` times as fast.

    ``at`` is in seconds of the machine's monotonic clock. The line ends ``lease_seconds`` after it: a master that no
    longer renews it stops time. ``average`` is the speed of the last seconds, ``target`` the one that is wanted.
    """

    origin: float
    at: float
    speed: float
    lease_seconds: float
    average: float
    target: float

    def time(self, monotonic: float) -> float:
        """Return the simulated time (epoch seconds) at ``monotonic``."""
        return self.origin + min(max(monotonic - self.at, 0.0), self.lease_seconds) * self.speed

    def to_bytes(self) -> bytes:
        """Return the pace as a record of fixed size, with a checksum."""
        values = (self.origin, self.at, self.speed, self.lease_seconds, self.average, self.target)
        body = _PACE.pack(*values, 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def from_bytes(cls, record: bytes) -> Pace | None:
        """Read what ``to_bytes`` wrote; None: torn or not whole."""
        if len(record) != _PACE.size:
            return None
        *values, checksum = _PACE.unpack(record)
        return cls(*values) if zlib.crc32(record[:-4]) == checksum else None


class PacedClock:
    """Simulated time whose pace another process sets (``pipeline.pacing.Pacemaker``); it never goes back.

    All processes of a machine that read the same file agree on the time, but for what passed since the last change of
    pace.

    Raises:
        ConfigError: the file cannot be read, or holds no pace.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"clock.pace_file {path} cannot be read: {error.strerror or error}") from error
        pace = Pace.from_bytes(os.pread(self._descriptor, _PACE.size, 0))
        if pace is None:
            os.close(self._descriptor)
            raise ConfigError(f"clock.pace_file {path} holds no pace")
        self._pace = pace
        self._now = pace.origin

    def now(self) -> float:
        """Return the simulated time in epoch seconds."""
        self._now = max(self._now, self._read().time(self._monotonic()))
        return self._now

    def speed(self) -> Speed:
        """How fast simulated time ran during the last seconds, and how fast it should; 0 when its master is gone."""
        pace = self._read()
        stopped = self._monotonic() - pace.at > 10 * pace.lease_seconds
        return Speed(0.0 if stopped else pace.average, pace.target)

    def _read(self) -> Pace:
        # A record that is being written fails its checksum; the one before it holds until the next look.
        self._pace = Pace.from_bytes(os.pread(self._descriptor, _PACE.size, 0)) or self._pace
        return self._pace


@runtime_checkable
class Simulated(Protocol):
    """A clock that knows how fast it runs."""

    def speed(self) -> Speed:
        """How fast simulated time ran during the last seconds, and how fast it should."""
        ...


def simulated_speed(clock: Clock) -> Speed | None:
    """How fast a clock runs; None: it is not a simulated one."""
    if isinstance(clock, ScaledClock):
        return Speed(clock.speed, clock.speed)
    return clock.speed() if isinstance(clock, Simulated) else None
