"""Pacing: simulated time that never runs ahead of the pipeline (docs/adr/0021).

Whoever makes events is the master of simulated time. From how far the pipeline has closed windows a ``Pacemaker``
decides how fast time may run, and writes that to a small file; every other process reads its time from the same file
(``pipeline.clock.PacedClock``).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.clock import Pace, Speed
from pipeline.config.settings import Settings

__all__ = ["DEFAULT_TTL_SECONDS", "LEASE_SECONDS", "PaceLimits", "Pacemaker", "overdue_seconds", "paced_speed"]

#: Wall seconds for which a pace holds without being renewed: when its master stands still, time stops with it.
LEASE_SECONDS = 0.6
#: The speed that is shown is that of the last so many wall seconds.
AVERAGE_SECONDS = 6.0
#: Validity of advice where no pool is configured, seconds.
DEFAULT_TTL_SECONDS = 300.0
#: Advice is renewed at least so many seconds before it would expire.
_MARGIN_SECONDS = 30.0
#: What was sent may lag behind the clock by this much before time slows down, and before it stops, in seconds of event
#: time: less than the allowed lateness, or the pipeline would close windows whose events are still to come.
_SENDING_FULL, _SENDING_STOP = 0.4, 0.9


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """How late the pipeline may be, in seconds of event time.

    A window's step is *due* ``due_seconds`` after the end of the window before it. Up to ``full_seconds`` overdue, time
    runs at full speed; from there it slows down in proportion, and at ``stop_seconds`` it stands still.
    ``sending_seconds`` is how late events may be sent (the allowed lateness of the pipeline).
    """

    due_seconds: float
    full_seconds: float
    stop_seconds: float
    sending_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> PaceLimits:
        """The limits under which advice is always renewed before it expires: ``due + stop < ttl``."""
        windows = settings.windows
        due = windows.grain_seconds + windows.allowed_lateness_seconds
        ttl = min((pool.ttl_seconds for pool in settings.pools), default=DEFAULT_TTL_SECONDS)
        stop = max(ttl - due - _MARGIN_SECONDS, 0.5 * windows.grain_seconds)
        return cls(due, stop / 2, stop, windows.allowed_lateness_seconds)


def overdue_seconds(reached: float, as_of: float, limits: PaceLimits) -> float:
    """How long the next step has been due at event time ``reached`` when windows are closed up to ``as_of``.

    Both are epoch seconds; negative while the next step is not due yet.
    """
    return reached - as_of - limits.due_seconds


def paced_speed(target: float, overdue: float, limits: PaceLimits) -> float:
    """Seconds of event time per wall second: ``target`` while the pipeline keeps up, 0 when it is too far behind.

    Linear between ``limits.full_seconds`` and ``limits.stop_seconds``, so that time settles at the speed of the
    pipeline instead of running and halting by turns.
    """
    return target * _share_left(overdue, limits.full_seconds, limits.stop_seconds)


def _share_left(value: float, full: float, stop: float) -> float:
    return min(max((stop - value) / (stop - full), 0.0), 1.0)


class Pacemaker:
    """The master of simulated time: one per run, in the process that sends the events.

    Args:
        start: simulated time to begin with, epoch seconds; it stands still until the first ``adjust``.
        target_speed: seconds of event time per wall second that are wanted.
        limits: how late the pipeline may be.
        floor: slowest speed; 1.0 for a fleet that goes on sending when the pipeline is gone, as real servers would.
        path: the file that ``PacedClock`` reads in other processes; None: there are none.
        monotonic: wall seconds; the same for all processes of a machine.
    """

    def __init__(
        self,
        start: float,
        target_speed: float,
        limits: PaceLimits,
        *,
        floor: float = 0.0,
        path: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not target_speed > 0:
            raise ValueError(f"target_speed must be positive, got {target_speed}")
        self.limits = limits
        self.target_speed = target_speed
        self._floor = min(floor, target_speed)
        self._path = path
        self._monotonic = monotonic
        at = monotonic()
        self._samples: deque[tuple[float, float]] = deque([(at, start)])
        self._pace = Pace(start, at, 0.0, LEASE_SECONDS, 0.0, target_speed)
        self._write()

    def now(self) -> float:
        """Return the simulated time, epoch seconds."""
        return self._pace.time(self._monotonic())

    def speed(self) -> Speed:
        """How fast simulated time ran during the last seconds, and how fast it should."""
        return Speed(self._pace.average, self.target_speed)

    def adjust(self, as_of: float | None, sent_until: float) -> None:
        """Set the speed anew; call several times per ``LEASE_SECONDS``.

        Args:
            as_of: end of the newest closed window, epoch seconds; None: no pipeline has been seen, so none limits.
            sent_until: the broker has everything up to this event time, epoch seconds.
        """
        now = self.now()
        speed = self.target_speed
        if as_of is not None:
            speed = max(paced_speed(speed, overdue_seconds(now, as_of, self.limits), self.limits), self._floor)
        late = self.limits.sending_seconds
        speed *= _share_left(now - sent_until, _SENDING_FULL * late, _SENDING_STOP * late)
        self._set(now, speed)

    def stand_at(self, now: float) -> None:
        """Move to ``now`` (never back) and stand still there: time that goes by in leaps, such as learned history."""
        self._set(max(now, self.now()), 0.0)

    def _set(self, now: float, speed: float) -> None:
        at = self._monotonic()
        samples = self._samples
        samples.append((at, now))
        while len(samples) > 2 and at - samples[1][0] >= AVERAGE_SECONDS:
            samples.popleft()
        wall = at - samples[0][0]
        average = (now - samples[0][1]) / wall if wall > 0 else 0.0
        self._pace = Pace(now, at, speed, LEASE_SECONDS, average, self.target_speed)
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        # In place, one write: readers keep the file open, and a torn read fails its checksum.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, self._pace.to_bytes(), 0)
        finally:
            os.close(descriptor)
