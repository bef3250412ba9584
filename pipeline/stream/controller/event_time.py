"""How far event time has come over all source partitions: by their events, and by the clock when all are silent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from pipeline.clock import Clock
from pipeline.store.apply import SourcePosition
from pipeline.windows.watermark import Watermark

__all__ = ["EventTime", "boottime_seconds"]

#: A clock this far ahead of evenly passing time is told about; the difference itself never counts.
_STEP_SECONDS = 5.0

_log = logging.getLogger(__name__)


def boottime_seconds() -> float:
    """Seconds that pass evenly whatever the wall clock is set to, the sleep of the machine included where it tells."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class EventTime:
    """The watermark of a controller, in epoch seconds; it never goes back.

    Events move it (``pipeline.windows.watermark``), never beyond the clock, and only once every one of ``partitions``
    has reported: otherwise the partition that is read first would make the others' events late. An idle partition says
    no more than that it was silent until the heartbeat before its newest, so in live operation it holds event time
    there; when all partitions are idle the clock moves event time that far, so that silence closes windows too. Live
    means within ``live_seconds`` of the clock: a replay of an old topic goes by its events alone.

    Two things make silence untrustworthy. The clock may be set forward: where ``even`` (seconds that pass evenly, at
    the clock's own rate) is given, the clock is believed only as far as even time or an event vouches for it. And
    nothing may have been delivered at all, because the broker stood still: when a partition has not reported for more
    than ``break_seconds``, what its emitters could not deliver gets ``settle_seconds`` to come before its silence
    counts again. All are seconds of the clock.
    """

    def __init__(
        self,
        clock: Clock,
        partitions: int,
        live_seconds: float,
        stored: Mapping[int, SourcePosition] | None = None,
        *,
        even: Callable[[], float] | None = None,
        break_seconds: float = float("inf"),
        settle_seconds: float = 0.0,
    ) -> None:
        self._clock = clock
        self._even = even
        self._even_at = 0.0 if even is None else even()
        self._believed = clock.now()
        self._stepped = False
        self._newest_event: float | None = None
        self._bridged: float | None = None
        self._break_seconds = break_seconds
        self._settle_seconds = settle_seconds
        self._heard_at: dict[int, float] = {}
        self._settled_at: dict[int, float] = {}  # silence before it does not count
        self._partitions = partitions
        self._live_seconds = live_seconds
        self._watermark = Watermark()
        self._idle: dict[int, tuple[float | None, float]] = {}  # clock at the heartbeat before the newest, and at it
        self._reported: set[int] = set()
        self._reached: float | None = None
        for partition, position in (stored or {}).items():
            self._note_event(position)
            self._watermark.observe(partition, position.max_event_at, position.idle)
            self._reported.add(partition)
            if position.idle:
                self._idle[partition] = (None, self._now())  # that was before the restart

    @property
    def complete(self) -> bool:
        """Whether every partition has reported."""
        return len(self._reported) >= self._partitions

    @property
    def reached(self) -> float | None:
        """Event time reached, epoch seconds; None: not every partition has reported, or no event ever came."""
        return self._reached

    def observe(self, partition: int, position: SourcePosition) -> None:
        """Note how far the deltas of one source partition have come, just after they were stored."""
        self._note_event(position)
        now = self._now()
        if now - self._heard_at.get(partition, now) > self._break_seconds:
            self._settled_at[partition] = now + self._settle_seconds
        self._heard_at[partition] = now
        self._reported.add(partition)
        self._watermark.observe(partition, position.max_event_at, position.idle)
        if position.idle:
            before = self._idle.get(partition)
            self._idle[partition] = (None if before is None else before[1], now)
        else:
            self._idle.pop(partition, None)

    def observe_bridged(self, at: float | None) -> None:
        """Note what a bridge counted last, epoch seconds: where no event has ever come, event time begins there.

        It holds nothing back: a bridge that has ended stops nobody's windows.
        """
        if at is not None:
            self._bridged = max(min(at, self._now()), self._bridged or 0.0)

    def advance(self, caught_up: bool) -> float | None:
        """Move on as far as is safe and return ``reached``; ``caught_up``: no delta waits to be read."""
        times = [] if self._reached is None else [self._reached]
        watermark = self._watermark.time() if self.complete else None
        if watermark is None and self.complete:
            watermark = self._bridged
        if watermark is not None:
            now = self._now()
            # What seems to lie ahead was stamped by clocks that are; a clock that is set back is not waited for.
            watermark = min(watermark, now if self._even is None else self._believed)
            silent = self._silent_until()
            live = now - max(watermark, self._bridged or watermark) <= self._live_seconds
            if not self._idle or not live:
                times.append(watermark)
            elif silent is not None and len(self._idle) < self._partitions:
                times.append(min(watermark, silent))
            elif silent is not None and caught_up:
                times.append(silent)
        self._reached = max(times, default=None)
        return self._reached

    def _silent_until(self) -> float | None:
        """Clock time up to which the idle partitions are known to be silent; None: one has not said so twice."""
        before = [
            None if latest < self._settled_at.get(partition, latest) else earlier
            for partition, (earlier, latest) in self._idle.items()
        ]
        known = [earlier for earlier in before if earlier is not None]
        return min(known) if known and len(known) == len(before) else None

    def _note_event(self, position: SourcePosition) -> None:
        if position.max_event_at is not None:
            self._newest_event = max(position.max_event_at, self._newest_event or position.max_event_at)

    def _now(self) -> float:
        """The clock, but no further than even time since the start, or an event, vouches for."""
        told = self._clock.now()
        if self._even is None:
            return told
        even = self._even()
        vouched = self._believed + (even - self._even_at)
        if self._newest_event is not None:
            vouched = max(vouched, min(told, self._newest_event))
        self._believed, self._even_at = vouched, even
        if (told - vouched > _STEP_SECONDS) != self._stepped:
            self._stepped = not self._stepped
            if self._stepped:
                _log.error("the clock was set forward by %.0f s: not followed until events do", told - vouched)
        return min(told, vouched)
