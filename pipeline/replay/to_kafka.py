"""Replays a trace into Kafka: the events of ``pipeline.replay.trace``, at a multiple of the speed they happened at."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.settings import Settings
from pipeline.errors import InputError
from pipeline.kafka.topics import ensure_topics
from pipeline.pacing import PaceLimits, overdue_seconds
from pipeline.replay.follow import ClosedWindows, TopicFollower
from pipeline.replay.producer import BatchProducer
from pipeline.replay.trace import CompletedRecord, Trace, completed_records
from pipeline.windows.types import PoolKey

__all__ = ["ReplayTotals", "replay_trace"]

_TICK_SECONDS = 0.05


@dataclass
class ReplayTotals:
    """What was sent so far: the oracle for what the pipeline must count. Times are epoch seconds of event time."""

    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_arrived_at: float | None = None
    last_arrived_at: float | None = None
    last_completed_at: float | None = None
    wall_seconds: float = 0.0

    @property
    def events_per_second(self) -> float:
        """Events per wall second so far; 0 before the first moment has passed."""
        return self.events / self.wall_seconds if self.wall_seconds > 0 else 0.0

    def count(self, record: CompletedRecord) -> None:
        """Add one event."""
        self.events += 1
        self.input_tokens += record.input_tokens
        self.output_tokens += record.output_tokens
        if self.first_arrived_at is None or record.arrived_at < self.first_arrived_at:
            self.first_arrived_at = record.arrived_at
        if self.last_arrived_at is None or record.arrived_at > self.last_arrived_at:
            self.last_arrived_at = record.arrived_at
        self.last_completed_at = record.completed_at


async def replay_trace(
    settings: Settings,
    trace: Trace,
    model: str,
    pool: str = "default",
    *,
    speed: float | None = 0.0,
    start_at: float | None = None,
    seed: int = 7,
    limit: int | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[ReplayTotals], None] | None = None,
) -> ReplayTotals:
    """Send a trace's events to the requests topic in order of completion, key ``model|pool``, timestamp completed_at.

    ``speed`` is event seconds per wall second; 0 means as fast as the broker takes them, None as fast as the pipeline
    closes the windows of what was sent (without limit when no pipeline closes any). Event times are not squeezed:
    only the sending is. ``start_at`` (epoch seconds) moves the whole trace; None keeps its own dates, which lie in the
    past and are therefore good at any speed (a trace moved to the present and sent faster than 1 runs into the future,
    where the pipeline refuses it unless it runs on the same simulated clock). ``progress`` is called about once a
    second. Topics are created first where the settings allow it.

    Raises:
        InputError: the arguments or the trace cannot be used.
        ServerUnavailable: Kafka cannot be reached or lost a batch.
        ConfigError: a topic is missing, or the topics of the cluster do not fit.
    """
    if speed is not None and not (math.isfinite(speed) and speed >= 0):
        raise InputError(f"speed must be 0 (as fast as possible) or positive, not {speed}")
    if limit is not None and limit <= 0:
        raise InputError(f"limit must be positive, not {limit}")
    topic, key = settings.kafka.requests_topic, f"{model}|{pool}".encode()
    if settings.kafka.create_topics:
        await asyncio.to_thread(ensure_topics, settings.kafka, only=[topic])
    totals = ReplayTotals()
    clock = asyncio.get_running_loop().time
    async with contextlib.AsyncExitStack() as stack:
        producer = await stack.enter_async_context(BatchProducer(settings.kafka))
        pace: _AtSpeed | _AsThePipelineDoes
        if speed is not None:
            pace = _AtSpeed(speed, clock)
        else:
            pace = _AsThePipelineDoes(PaceLimits.of(settings), PoolKey(model, pool))
            await stack.enter_async_context(TopicFollower(settings.kafka, settings.kafka.windows_topic, pace.take))
        began = told = clock()
        for chunk in completed_records(trace, model=model, pool=pool, seed=seed, start_at=start_at, limit=limit):
            for record in chunk:
                while (wait := pace.wait_seconds(record)) > 0 and not (stop is not None and stop.is_set()):
                    await producer.push()
                    await asyncio.sleep(min(wait, _TICK_SECONDS))
                if stop is not None and stop.is_set():
                    break
                await producer.add(topic, key, record.value, int(record.completed_at * 1000))
                totals.count(record)
                if progress is not None and not totals.events % 1_000 and clock() - told >= 1.0:
                    told = clock()
                    totals.wall_seconds = told - began
                    progress(totals)
            if stop is not None and stop.is_set():
                break
            await asyncio.sleep(0)  # a replay at full speed must not starve what runs beside it
        await producer.flush()
        totals.wall_seconds = clock() - began
    if progress is not None:
        progress(totals)
    return totals


class _AtSpeed:
    """Event time at ``speed`` event seconds per second of ``clock``, from the first record on; 0: without limit."""

    def __init__(self, speed: float, clock: Callable[[], float]) -> None:
        self._speed = speed
        self._clock = clock
        self._first: tuple[float, float] | None = None  # completion of the first record, and the clock then

    def wait_seconds(self, record: CompletedRecord) -> float:
        """How long to wait before ``record``."""
        if self._speed <= 0:
            return 0.0
        if self._first is None:
            # Not from the start of the replay: opening a large trace takes its time.
            self._first = record.completed_at, self._clock()
        origin, began = self._first
        return began + (record.completed_at - origin) / self._speed - self._clock()


class _AsThePipelineDoes:
    """No record while windows that what was sent made due are open for longer than ``limits`` allow.

    What counts is what was sent, not what comes next: after a gap in the trace nothing is due until more is sent.
    """

    def __init__(self, limits: PaceLimits, pool: PoolKey) -> None:
        self._limits = limits
        self._pool = pool
        self._closed: ClosedWindows | None = None
        self._sent = -math.inf  # newest arrival sent, epoch seconds

    def take(self, value: bytes | None) -> None:
        """Note one record of the windows topic."""
        if self._closed is not None:
            self._closed.take(value)

    def wait_seconds(self, record: CompletedRecord) -> float:
        """How long to wait before ``record``, at least; asking counts it as sent when the answer is 0."""
        if self._closed is None:
            self._closed = ClosedWindows([self._pool], record.arrived_at)
        as_of = self._closed.as_of
        if as_of is not None and overdue_seconds(self._sent, as_of, self._limits) > self._limits.stop_seconds:
            return _TICK_SECONDS
        self._sent = max(self._sent, record.arrived_at)
        return 0.0
