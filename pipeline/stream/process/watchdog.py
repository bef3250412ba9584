"""Notices a worker that has work and gets nowhere: better a restart, which is exact, than a consumer that is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from pipeline.config.settings import Settings
from pipeline.errors import ServerUnavailable
from pipeline.stream.process.memory import collect_all, collect_young, trim_heap

__all__ = ["Watchdog", "guard", "stall_seconds"]

_LOOK_SECONDS = 2.0
#: Looks between two times that free memory is given back: the pages have to be asked for again when work goes on.
_LOOKS_PER_TRIM = 5
#: Looks between two times that all garbage is looked for: 0.02 s of CPU with a hundred pools, 0.4 s with a thousand.
_LOOKS_PER_COLLECTION = 300


def stall_seconds(settings: Settings) -> float:
    """How long a worker may be stuck: longer than a rebalance after a dead member takes."""
    return max(60.0, 5 * settings.kafka.session_timeout_seconds)


class Watchdog:
    """Barks when nothing has moved for ``stall_seconds`` although work was waiting, or nobody has looked for as long.

    >>> now = 0.0
    >>> dog = Watchdog(60.0, lambda: now)
    >>> dog.look({0: 5}, waiting=10); now = 59.0; dog.stalled
    False
    >>> dog.look({0: 5}, waiting=10); now = 61.0; dog.stalled
    True
    >>> dog.look({0: 6}, waiting=9); dog.stalled
    False
    """

    def __init__(self, stall_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stall_seconds = stall_seconds
        self._monotonic = monotonic
        self._positions: Mapping[Any, int] = {}
        self._moved_at = monotonic()

    def look(self, positions: Mapping[Any, int], waiting: int) -> None:
        """Note where the work has got to and how much waits; no work waiting counts as progress."""
        if waiting == 0 or positions != self._positions:
            self._moved_at = self._monotonic()
        self._positions = dict(positions)

    def moved(self) -> None:
        """Note progress that no position shows; any thread may."""
        self._moved_at = self._monotonic()

    @property
    def stalled(self) -> bool:
        """Whether it is time to give up."""
        return self._monotonic() - self._moved_at > self.stall_seconds


async def guard(app: Any, watchdog: Watchdog) -> None:
    """Crash a Faust app when its watchdog barks, so that whoever supervises the process restarts it.

    Now and then the free memory of the process is given back as well.
    """
    for look in count(1):
        if app.should_stop:
            return
        await app.sleep(_LOOK_SECONDS)
        if look % _LOOKS_PER_COLLECTION == 0:
            collect_all()
        else:
            collect_young()
        if look % _LOOKS_PER_TRIM == 0:
            trim_heap()
        if watchdog.stalled and not app.should_stop:
            await app.crash(ServerUnavailable(f"no progress for {watchdog.stall_seconds:g} s although records wait"))
            return
