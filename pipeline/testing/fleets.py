"""Conformance of fleets: what ``pipeline.fleet.base.Fleet`` promises, checked on any implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.fleet.base import Fleet, FleetContext
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.windows.types import PoolKey

__all__ = ["RecordedReports", "check_fleet"]

_PATIENCE_SECONDS = 60.0
_CLOCK_SECONDS = 3_600.0


class RecordedReports(ReplicaBook):
    """A book that also keeps the report of each pool that came last."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[PoolKey, ReplicaStatus] = {}

    def add(self, status: ReplicaStatus) -> None:
        """Note one report."""
        super().add(status)
        self.last[PoolKey(status.model, status.pool)] = status


def check_fleet(
    make: Callable[[FleetContext], Fleet],
    key: PoolKey,
    clock: Clock,
    target: int | None = None,
    settings: Settings | None = None,
) -> None:
    """Run a fleet through its life: stop without start, start, a report of ``key``, scaling, stop twice.

    ``make`` returns a new fleet that can be reached and has the pool ``key``, reporting by ``clock``. A fleet that can
    scale must report ``target`` replicas once it was asked for them; one that cannot must refuse.

    Raises:
        AssertionError: the fleet broke a promise; the text says which.
    """
    asyncio.run(_check(make, key, clock, target, settings or Settings()))


async def _check(
    make: Callable[[FleetContext], Fleet], key: PoolKey, clock: Clock, target: int | None, settings: Settings
) -> None:
    book = RecordedReports()
    context = FleetContext(settings, clock, book, settings.fleet.options)
    await make(context).stop()
    fleet = make(context)
    assert fleet.rejected == 0, "a new fleet has refused nothing"
    await fleet.start()
    await _until(lambda: key in book.last, f"no report of {key} arrived")
    late = abs(book.last[key].at - clock.now())
    assert late <= _CLOCK_SECONDS, f"the report is {late:.0f} s off the clock: at must be epoch seconds of the clock"
    if fleet.can_scale:
        assert target is not None, "name a target for a fleet that can scale"
        await fleet.scale(key, target)
        await fleet.scale(key, target)
        await _until(lambda: book.last[key].current == target, f"{target} replicas were never reported")
    else:
        try:
            await fleet.scale(key, 1)
        except NotImplementedError:
            pass
        else:
            raise AssertionError("a fleet that cannot scale must raise NotImplementedError")
    await fleet.stop()
    await fleet.stop()
    assert fleet.rejected == 0, "reports of a sound fleet are not refused"


async def _until(condition: Callable[[], bool], failure: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_SECONDS
    while not condition():
        assert loop.time() < deadline, failure
        await asyncio.sleep(0.01)
