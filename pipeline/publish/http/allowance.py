"""How much processor time reads of history may take from the process that they share with the controller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Allowance"]

T = TypeVar("T")


class Allowance:
    """A share of a core, saved up to ``burst_seconds``: what has used it up waits; any thread may call.

    Python runs one thread of a process at a time, so a share of a core is a share of the interpreter, too. A single
    query can go into debt, by ``burst_seconds`` at most.
    """

    def __init__(self, share: float, burst_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._burst = burst_seconds
        self._now = now
        self._lock = threading.Lock()
        self._credit = burst_seconds
        self._at = now()
        self._ended = threading.Event()

    def wait_seconds(self) -> float:
        """Return how long it takes until there is time again; 0: there is."""
        with self._lock:
            return max(0.0, -self._saved() / self._share)

    def spend(self, seconds: float) -> None:
        """Take processor time that has been used."""
        with self._lock:
            self._credit = max(self._saved() - seconds, -self._burst)

    def run(self, query: Callable[[], T]) -> T:
        """Return what ``query`` does, once there is time for it."""
        self._ended.wait(self.wait_seconds())
        began = time.thread_time()
        try:
            return query()
        finally:
            self.spend(time.thread_time() - began)

    def end(self) -> None:
        """Let nobody wait any more."""
        self._ended.set()

    def _saved(self) -> float:
        now = self._now()
        self._credit = min(self._burst, self._credit + (now - self._at) * self._share)
        self._at = now
        return self._credit
