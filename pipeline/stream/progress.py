"""How far event time has come over all source partitions: by their events, and by the clock when all are silent."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.clock import Clock
from pipeline.store.apply import SourcePosition
from pipeline.windows.watermark import Watermark

__all__ = ["EventTime"]


class EventTime:
    """The watermark of a controller, in epoch seconds; it never goes back.

    Events move it (``pipeline.windows.watermark``), but only once every one of ``partitions`` has reported: otherwise
    the partition that is read first would make the others' events late. An idle partition says no more than that it was
    silent until the heartbeat before its newest, so in live operation it holds event time there; when all partitions
    are idle the clock moves event time that far, so that silence closes windows too. Live means within
    ``live_seconds`` of the clock: a replay of an old topic goes by its events alone.
    """

    def __init__(
        self,
        clock: Clock,
        partitions: int,
        live_seconds: float,
        stored: Mapping[int, SourcePosition] | None = None,
    ) -> None:
        self._clock = clock
        self._partitions = partitions
        self._live_seconds = live_seconds
        self._watermark = Watermark(0.0)
        self._idle: dict[int, tuple[float | None, float]] = {}  # clock at the heartbeat before the newest, and at it
        self._reported: set[int] = set()
        self._reached: float | None = None
        for partition, position in (stored or {}).items():
            self._watermark.observe(partition, position.max_event_at, position.idle)
            self._reported.add(partition)
            if position.idle:
                self._idle[partition] = (None, clock.now())  # that was before the restart

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
        now = self._clock.now()
        self._reported.add(partition)
        self._watermark.observe(partition, position.max_event_at, position.idle)
        if position.idle:
            before = self._idle.get(partition)
            self._idle[partition] = (None if before is None else before[1], now)
        else:
            self._idle.pop(partition, None)

    def advance(self, caught_up: bool) -> float | None:
        """Move on as far as is safe and return ``reached``; ``caught_up``: no delta waits to be read."""
        times = [] if self._reached is None else [self._reached]
        watermark = self._watermark.time() if self.complete else None
        if watermark is not None:
            silent = self._silent_until()
            live = self._clock.now() - watermark <= self._live_seconds
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
        before = [earlier for earlier, _ in self._idle.values()]
        known = [earlier for earlier in before if earlier is not None]
        return min(known) if known and len(known) == len(before) else None
