"""Event time: how far the events of all partitions have come.

Each partition has its own time (``pipeline.windows.partition_clock``); the watermark is the least of them. One clock
over all would run ahead with the partition that happens to be read first and make the others' events late.
"""

from __future__ import annotations

__all__ = ["Watermark"]


class Watermark:
    """The event time that every partition has reached; idle ones (caught up, silent) do not hold it back."""

    def __init__(self) -> None:
        self._newest: dict[int, float | None] = {}
        self._idle: dict[int, bool] = {}
        self._time: float | None = None

    def observe(self, partition: int, max_event_at: float | None, idle: bool) -> None:
        """Note one delta's event time (epoch seconds; None: it held no event) and whether it said idle."""
        before = self._newest.get(partition)
        known = [t for t in (before, max_event_at) if t is not None]
        self._newest[partition] = max(known) if known else None
        self._idle[partition] = idle

    def time(self) -> float | None:
        """Return the watermark in epoch seconds; it never goes back. None: no event seen yet."""
        active = [t for p, t in self._newest.items() if t is not None and not self._idle[p]]
        known = (t for t in self._newest.values() if t is not None)
        now = min(active) if active else max(known, default=None)
        if now is not None and (self._time is None or now > self._time):
            self._time = now
        return self._time
