"""Emits a simulated fleet's events and replica status to Kafka, paced by a clock, and obeys its recommendations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.clock import Clock
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.fleet import events
from pipeline.demo.scenario import Scenario
from pipeline.demo.service import BLOCK_SECONDS
from pipeline.errors import ServerUnavailable
from pipeline.events.model import RequestEvent
from pipeline.replay.producer import BatchProducer
from pipeline.settings import KafkaSettings
from pipeline.stream.topics import ensure_topics

__all__ = ["EmitTotals", "apply_recommendation", "emit"]

_TICK_SECONDS = 0.05

_encode = msgspec.json.Encoder().encode


@dataclass
class EmitTotals:
    """What was emitted so far, by pool (``model|pool``): the oracle for what the pipeline must count."""

    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests_by_pool: dict[str, int] = field(default_factory=dict)
    recommendations_applied: int = 0
    recommendations_refused: int = 0
    event_time: float = 0.0

    def count(self, event: RequestEvent) -> None:
        """Add one event."""
        self.events += 1
        self.input_tokens += event.input_tokens
        self.output_tokens += event.output_tokens
        pool = f"{event.model}|{event.pool}"
        self.requests_by_pool[pool] = self.requests_by_pool.get(pool, 0) + 1


async def emit(
    kafka: KafkaSettings,
    scenario: Scenario,
    clock: Clock,
    actuator: FleetActuator,
    *,
    end: float = math.inf,
    follow: bool = True,
    stop: asyncio.Event | None = None,
    progress: Callable[[EmitTotals], None] | None = None,
) -> EmitTotals:
    """Emit what ``scenario`` asks for from its live start until ``end`` (event time) or until ``stop`` is set.

    An event is sent when ``clock`` reaches its completion; its record timestamp is that completion, its key is
    ``model|pool``. Once per event-minute the replicas of every pool go to the replicas topic. With ``follow`` the
    recommendations topic drives ``actuator``: only unexpired advice that is newer than the start of this call counts.
    ``progress`` is called once per event-minute. When the clock is ahead, events are sent as fast as the broker takes
    them.

    Raises:
        ServerUnavailable: Kafka cannot be reached or lost a batch.
        ConfigError: a topic is missing, or the topics of the cluster do not fit.
    """
    if kafka.create_topics:
        await asyncio.to_thread(ensure_topics, kafka)
    stop = stop if stop is not None else asyncio.Event()
    totals = EmitTotals(event_time=scenario.live_start)
    follower: asyncio.Task[None] | None = None
    try:
        async with BatchProducer(kafka.bootstrap) as producer:
            if follow:
                follower = asyncio.create_task(_follow(kafka, clock, actuator, totals))
            await _emit_blocks(kafka, scenario, clock, actuator, end, stop, producer, totals, progress, follower)
    finally:
        if follower is not None:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError, ServerUnavailable):
                await follower
    return totals


async def _emit_blocks(
    kafka: KafkaSettings,
    scenario: Scenario,
    clock: Clock,
    actuator: FleetActuator,
    end: float,
    stop: asyncio.Event,
    producer: BatchProducer,
    totals: EmitTotals,
    progress: Callable[[EmitTotals], None] | None,
    follower: asyncio.Task[None] | None,
) -> None:
    block_start = scenario.live_start
    await _send_status(kafka, actuator, block_start, producer)
    # 4e9 is 2096: an end of the world for the generator, which needs a whole number of blocks.
    for chunk in events(scenario, scenario.live_start, min(end, 4e9), actuator):
        await _send_chunk(kafka, clock, stop, producer, chunk, totals)
        block_start += BLOCK_SECONDS
        totals.event_time = block_start
        # The next block is drawn only when its time has come, with the replicas that are ready then.
        while clock.now() < block_start and not stop.is_set() and block_start < end:
            await asyncio.sleep(_TICK_SECONDS)
        if follower is not None and follower.done():
            follower.result()  # raises what ended it
        if stop.is_set():
            return
        await _send_status(kafka, actuator, block_start, producer)
        if progress is not None:
            progress(totals)


async def _send_status(kafka: KafkaSettings, actuator: FleetActuator, at: float, producer: BatchProducer) -> None:
    for status in actuator.status(at):
        key = f"{status['model']}|{status['pool']}".encode()
        await producer.add(kafka.replicas_topic, key, json.dumps(status).encode(), int(at * 1000))
    await producer.push()


async def _send_chunk(
    kafka: KafkaSettings,
    clock: Clock,
    stop: asyncio.Event,
    producer: BatchProducer,
    chunk: Sequence[tuple[float, RequestEvent]],
    totals: EmitTotals,
) -> None:
    position = 0
    while position < len(chunk) and not stop.is_set():
        now = clock.now()
        while position < len(chunk) and chunk[position][0] <= now:
            completed, event = chunk[position]
            key = f"{event.model}|{event.pool}".encode()
            await producer.add(kafka.requests_topic, key, _encode(event), int(completed * 1000))
            totals.count(event)
            position += 1
        await producer.push()
        if position < len(chunk):
            await asyncio.sleep(_TICK_SECONDS)


async def _follow(kafka: KafkaSettings, clock: Clock, actuator: FleetActuator, totals: EmitTotals) -> None:
    """Apply every fresh recommendation to the fleet."""
    consumer = AIOKafkaConsumer(
        kafka.recommendations_topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="latest", group_id=None
    )
    try:
        await consumer.start()
        async for record in consumer:
            if apply_recommendation(record.value, actuator, clock.now()):
                totals.recommendations_applied += 1
            else:
                totals.recommendations_refused += 1
    except KafkaError as error:
        raise ServerUnavailable(f"recommendations cannot be read from {kafka.bootstrap}: {error}") from error
    finally:
        await consumer.stop()


def apply_recommendation(value: bytes | None, actuator: FleetActuator, now: float) -> bool:
    """Apply one record of the recommendations topic; return False for a tombstone, an expired or an unreadable one."""
    try:
        record: Any = json.loads(value or b"null")
        model, pool = str(record["model"]), str(record["pool"])
        desired, expires_at = int(record["desired"]), float(record["expires_at"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return False
    if not expires_at > now or desired < 0:
        return False
    actuator.apply(model, pool, desired, now)
    return True
