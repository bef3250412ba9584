from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from pipeline.stream.process import watchdog
from pipeline.stream.process.watchdog import Watchdog, guard


class Idle:
    """An app that sleeps so many times and then stops."""

    def __init__(self, sleeps: int) -> None:
        self.left = sleeps

    @property
    def should_stop(self) -> bool:
        return self.left == 0

    async def sleep(self, _seconds: float) -> None:
        self.left -= 1


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_garbage_goes_also_when_it_has_grown_old(old: bool) -> None:
    cycle = Cycle()
    if old:
        for _ in range(2):
            gc.collect(1)  # what is in use now is not looked at any more by those that collect young garbage
    gone = weakref.ref(cycle)
    del cycle
    gc.disable()
    try:
        asyncio.run(guard(Idle(watchdog._LOOKS_PER_COLLECTION if old else 1), Watchdog(60.0)))
    finally:
        gc.enable()
    assert gone() is None
