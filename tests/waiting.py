"""Waiting for a condition, however fast the machine is.

Limits are given in seconds of a quiet reference machine. Here they last as many times longer as one core is slower than
the reference core and as runnable processes share a core, measured again at every look; and as long as something moves
(``progress``) the whole limit is granted anew. A limit ends tests that hang; it says nothing about speed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: CPU seconds that the reference core needs for ``_work``.
REFERENCE_CPU_SECONDS = 0.005


def _work() -> int:
    total = 0
    for i in range(200_000):
        total += i * i % 7
    return total


@cache
def core_slowness() -> float:
    """How many times as long as the reference core one core of this machine takes; at least 1."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        _work()
        seconds.append(time.process_time() - began)
    return max(1.0, min(seconds) / REFERENCE_CPU_SECONDS)


def processes_per_core() -> float:
    """Runnable processes per core at this moment; at least 1."""
    try:
        stat = Path("/proc/stat").read_text()
        running = float(stat.split("procs_running ", 1)[1].split(None, 1)[0])
    except (OSError, IndexError, ValueError):
        running = os.getloadavg()[0]
    return max(1.0, running / len(os.sched_getaffinity(0)))


def slowness() -> float:
    """How many times as long as on the quiet reference machine things take here and now; at least 1."""
    return core_slowness() * processes_per_core()


def scaled(seconds: float) -> float:
    """A limit for something that cannot be watched (a subprocess), with room for more load than there is now."""
    return seconds * max(4.0, 2.0 * slowness())


class Patience:
    """A budget of reference seconds, spent while nothing moves.

    Args:
        seconds: the budget, in seconds of the quiet reference machine.
        what: what is waited for, for the error.
        progress: whenever its value changes, the budget is whole again.
        clock: seconds, for tests of this class.
        slowness: the factor at the moment, for tests of this class.
    """

    def __init__(
        self,
        seconds: float,
        what: str,
        progress: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        slowness: Callable[[], float] = slowness,
    ) -> None:
        self._seconds, self._what, self._progress = seconds, what, progress
        self._clock, self._slowness = clock, slowness
        self._began = self._last = clock()
        self._spent = 0.0
        self._seen: Any = None

    @property
    def waited_seconds(self) -> float:
        """Seconds of the clock since the beginning."""
        return self._clock() - self._began

    async def look(self) -> None:
        """Charge the time since the last look.

        Raises:
            AssertionError: the budget is spent.
        """
        seen = self._progress() if self._progress is not None else None
        if inspect.isawaitable(seen):
            seen = await seen
        self._charge(seen)

    def look_now(self) -> None:
        """``look`` for a progress that is not asynchronous."""
        self._charge(self._progress() if self._progress is not None else None)

    def _charge(self, seen: Any) -> None:
        now = self._clock()
        self._spent += (now - self._last) / self._slowness()
        self._last = now
        if seen != self._seen:
            self._seen, self._spent = seen, 0.0
        if self._spent > self._seconds:
            limit = f"{self._seconds:g} s of a quiet machine ({self.waited_seconds:.0f} s here)"
            moved = "" if self._progress is None else f"; it stands at {seen!r}"
            raise AssertionError(f"{self._what}: not within {limit}{moved}")


async def eventually(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]],
    seconds: float,
    what: str,
    progress: Callable[[], Any] | None = None,
    poll_seconds: float = 0.1,
) -> float:
    """Wait until a condition, asynchronous or not, is true.

    Returns:
        Seconds of the clock that it took.

    Raises:
        AssertionError: nothing moved for ``seconds`` of a quiet reference machine.
    """
    patience = Patience(seconds, what, progress)
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return patience.waited_seconds
        await patience.look()
        await asyncio.sleep(poll_seconds)


def wait_until(
    condition: Callable[[], T],
    seconds: float,
    what: str,
    progress: Callable[[], Any] | None = None,
    poll_seconds: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
    passing: tuple[type[BaseException], ...] = (),
) -> T:
    """Wait until a condition is true, without an event loop.

    Args:
        condition: called until it returns something true.
        seconds: see ``Patience``.
        what: what is waited for, for the error.
        progress: see ``Patience``.
        poll_seconds: between two looks.
        sleep: how to wait between two looks.
        passing: errors of the condition that mean "not yet".

    Returns:
        What the condition returned.

    Raises:
        AssertionError: nothing moved for ``seconds`` of a quiet reference machine.
    """
    patience = Patience(seconds, what, progress)
    while True:
        try:
            answer = condition()
        except passing:
            pass
        else:
            if answer:
                return answer
        patience.look_now()
        sleep(poll_seconds)
