"""Replays a trace into Kafka: the events of ``pipeline.replay.trace``, at a multiple of the speed they happened at."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.replay.producer import BatchProducer
from pipeline.replay.trace import CompletedRecord, Trace, completed_records
from pipeline.settings import Settings
from pipeline.stream.topics import ensure_topics

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
    speed: float = 0.0,
    start_at: float | None = None,
    seed: int = 7,
    limit: int | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[ReplayTotals], None] | None = None,
) -> ReplayTotals:
    """Send a trace's events to the requests topic in order of completion, key ``model|pool``, timestamp completed_at.

    ``speed`` is event seconds per wall second; 0 means as fast as the broker takes them. Event times are not squeezed:
    only the sending is. ``start_at`` (epoch seconds) moves the whole trace; None keeps its own dates, which lie in the
    past and are therefore good at any speed (a trace moved to the present and sent faster than 1 runs into the future,
    where the pipeline refuses it unless it runs on the same simulated clock). ``progress`` is called about once a
    second. Topics are created first where the settings allow it.

    Raises:
        InputError: the arguments or the trace cannot be used.
        ServerUnavailable: Kafka cannot be reached or lost a batch.
        ConfigError: a topic is missing, or the topics of the cluster do not fit.
    """
    if not (math.isfinite(speed) and speed >= 0):
        raise InputError(f"speed must be 0 (as fast as possible) or positive, not {speed}")
    if limit is not None and limit <= 0:
        raise InputError(f"limit must be positive, not {limit}")
    topic, key = settings.kafka.requests_topic, f"{model}|{pool}".encode()
    if settings.kafka.create_topics:
        await asyncio.to_thread(ensure_topics, settings.kafka)
    totals = ReplayTotals()
    clock = asyncio.get_running_loop().time
    async with BatchProducer(settings.kafka.bootstrap) as producer:
        began = told = paced_from = clock()
        origin: float | None = None
        for chunk in completed_records(trace, model=model, pool=pool, seed=seed, start_at=start_at, limit=limit):
            for record in chunk:
                if origin is None:
                    # Pacing runs from the first record: opening a large trace takes its time.
                    origin, paced_from = record.completed_at, clock()
                due = paced_from + (record.completed_at - origin) / speed if speed > 0 else paced_from
                while clock() < due and not (stop is not None and stop.is_set()):
                    await producer.push()
                    await asyncio.sleep(min(due - clock(), _TICK_SECONDS) if due > clock() else 0)
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
