"""Things done to a process of the pipeline before it begins: it dies, fails, sleeps or lies at a chosen point.

They replace functions in that process only; the product itself knows of none. Use them with ``functools.partial``:
a sabotage is a callable without arguments that can be pickled.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _nth(times: int) -> Callable[[], bool]:
    """True at the ``times``-th call and only then."""
    count = 0

    def hit() -> bool:
        nonlocal count
        count += 1
        return count == times

    return hit


#: Where ``die_at`` can strike; each lies between two effects that a crash could tear apart.
POINTS = (
    "aggregator: folded, nothing written",
    "aggregator: dead letters written, delta not",
    "aggregator: delta written, batch not acknowledged",
    "controller: rows written, not committed",
    "controller: committed, not acknowledged",
    "controller: step recorded, not published",
    "controller: published, not acknowledged",
)


#: Where it can strike a controller that raises advice between two windows.
REVISION_POINTS = ("controller: advice raised, not recorded", "controller: revision recorded, not published")


def die_at(point: str, times: int = 2) -> None:
    """SIGKILL to oneself the ``times``-th time that ``point`` is reached."""
    from pipeline.engine.pool_advisor import PoolAdvisor
    from pipeline.sinks.kafka import KafkaSink
    from pipeline.store.apply import DeltaApplier
    from pipeline.store.store import Store
    from pipeline.stream.aggregator import aggregator
    from pipeline.stream.kafka.delta_log import DeltaLog

    hit = _nth(times)

    def after(owner: Any, name: str, asynchronous: bool) -> None:
        original = getattr(owner, name)
        nothing: Any = None if owner is PoolAdvisor else object()  # which revises nothing most of the time

        def plain(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if result is not nothing and hit():
                _die()
            return result

        async def waiting(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if hit():
                _die()
            return result

        setattr(owner, name, waiting if asynchronous else plain)

    targets: dict[str, tuple[Any, str, bool]] = {
        POINTS[0]: (aggregator.PartitionAggregator, "fold", False),
        POINTS[1]: (aggregator, "send_dead_letters", True),
        POINTS[2]: (DeltaLog, "append", True),
        POINTS[3]: (DeltaApplier, "_write", False),
        POINTS[4]: (Store, "apply", False),
        POINTS[5]: (Store, "record_steps", False),
        POINTS[6]: (KafkaSink, "publish", True),
        REVISION_POINTS[0]: (PoolAdvisor, "revise", False),
        REVISION_POINTS[1]: (Store, "record_revision", False),
    }
    after(*targets[point])


def raise_in_agent(stage: str, times: int) -> None:
    """The agent of ``stage`` raises at its ``times``-th batch: a bug of ours."""
    from pipeline.stream.aggregator.aggregator import Aggregator
    from pipeline.stream.controller.controller import Controller

    owner: Any = {"aggregate": Aggregator, "control": Controller}[stage]
    original, hit = owner.take, _nth(times)

    async def take(self: Any, batch: Any) -> None:
        if hit():
            raise ZeroDivisionError("sabotage")
        await original(self, batch)

    owner.take = take


def slow_agent(seconds: float) -> None:
    """Every batch takes the aggregator so long."""
    from pipeline.stream.aggregator.aggregator import Aggregator

    original = Aggregator.take

    async def take(self: Any, batch: Any) -> None:
        await asyncio.sleep(seconds)
        await original(self, batch)

    Aggregator.take = take  # type: ignore[method-assign]


def stuck_consumer(after_fetches: int) -> None:
    """The consumer stays in its group and answers, but never fetches again."""
    from pipeline.stream.kafka.fetch import BatchConsumerThread, Fetched

    original = BatchConsumerThread._fetch_records
    count = 0

    async def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count <= after_fetches:
            return await original(self, *args, **kwargs)
        await asyncio.sleep(0.5)
        return Fetched({}, {})

    BatchConsumerThread._fetch_records = fetch  # type: ignore[method-assign]


def impatient_watchdog(stall_seconds: float) -> None:
    """The watchdog waits ``stall_seconds`` instead of a minute."""
    from pipeline.stream.aggregator import aggregator
    from pipeline.stream.controller import app as control_app

    for module in (aggregator, control_app):
        module.stall_seconds = lambda _settings: stall_seconds  # type: ignore[attr-defined]


def wall_clock(shift: Path) -> None:
    """``time.time`` of this process is off by the seconds that the file ``shift`` holds, read at every call."""
    real = time.time

    def shifted() -> float:
        try:
            return real() + float(shift.read_text() or 0)
        except (OSError, ValueError):
            return real()

    time.time = shifted


def limit_file_bytes(limit: int) -> None:
    """No file of this process may grow beyond ``limit`` bytes: a full disk, where none can be mounted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails instead of killing
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
