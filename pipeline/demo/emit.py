"""Emits a simulated fleet's events and replica status to Kafka, paced by a clock, and obeys its recommendations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.clock import Clock
from pipeline.config.settings import KafkaSettings
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.fleet import events
from pipeline.demo.router_count import RouterCount
from pipeline.demo.scenario import Scenario
from pipeline.demo.service import BLOCK_SECONDS
from pipeline.events.request_event import RequestEvent
from pipeline.kafka.topics import ensure_topics
from pipeline.pacing import Pacemaker
from pipeline.replay.follow import ClosedWindows, TopicFollower
from pipeline.replay.producer import BatchProducer
from pipeline.windows.types import PoolKey

__all__ = ["EmitTotals", "apply_recommendation", "emit"]

_TICK_SECONDS = 0.05
#: Between two adjustments of the pace; several fit into ``pipeline.pacing.LEASE_SECONDS``.
_PACE_SECONDS = 0.1
#: Between two reports of the replicas, as real fleets report, in seconds of event time; a block is a multiple of it.
_REPORT_SECONDS = 15.0

_encode = msgspec.json.Encoder().encode


@dataclass
class EmitTotals:
    """What was emitted so far, by pool (``model|pool``): the oracle for what the pipeline must count.

    ``event_time`` is the start of the current event-minute; the broker has every event completed up to ``sent_until``.
    Both are epoch seconds.
    """

    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests_by_pool: dict[str, int] = field(default_factory=dict)
    recommendations_applied: int = 0
    recommendations_refused: int = 0
    event_time: float = 0.0
    sent_until: float = 0.0

    def count(self, event: RequestEvent) -> None:
        """Add one event; the simulated fleet knows the tokens of all its requests."""
        self.events += 1
        self.input_tokens += event.input_tokens or 0
        self.output_tokens += event.output_tokens or 0
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
    closed: ClosedWindows | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[EmitTotals], None] | None = None,
) -> EmitTotals:
    """Emit what ``scenario`` asks for from its live start until ``end`` (event time) or until ``stop`` is set.

    An event is sent when ``clock`` reaches its completion; its record timestamp is that completion, its key is
    ``model|pool``. Every 15 seconds of event time the replicas of every pool, and the requests that its router has
    counted, go to the replicas topic. With ``follow`` the recommendations topic drives ``actuator``: only unexpired
    advice that is newer than the start of this call counts. ``progress`` is called once per event-minute. When the
    clock is ahead, events are sent as fast as the broker takes them.

    A ``Pacemaker`` as ``clock`` is slowed down to what the pipeline keeps up with, by the windows topic; ``closed`` is
    what is known of the pipeline before (None: not even that there is one).

    Raises:
        ServerUnavailable: Kafka cannot be reached or lost a batch.
        ConfigError: a topic is missing, or the topics of the cluster do not fit.
    """
    if kafka.create_topics:
        await asyncio.to_thread(ensure_topics, kafka, only=[kafka.requests_topic, kafka.replicas_topic])
    stop = stop if stop is not None else asyncio.Event()
    totals = EmitTotals(event_time=scenario.live_start, sent_until=scenario.live_start)
    closed = closed if closed is not None else ClosedWindows([p.key for p in scenario.pools], scenario.live_start)

    def advised(value: bytes | None) -> None:
        if apply_recommendation(value, actuator, clock.now()):
            totals.recommendations_applied += 1
        else:
            totals.recommendations_refused += 1

    async with contextlib.AsyncExitStack() as stack:
        producer = await stack.enter_async_context(BatchProducer(kafka))
        follower = None
        if follow:
            follower = await stack.enter_async_context(TopicFollower(kafka, kafka.recommendations_topic, advised))
        if isinstance(clock, Pacemaker):
            await stack.enter_async_context(TopicFollower(kafka, kafka.windows_topic, closed.take))
            pacing = asyncio.create_task(_pace(clock, closed, totals))
            stack.callback(pacing.cancel)
        await _emit_blocks(kafka, scenario, clock, actuator, end, stop, producer, totals, progress, follower)
    return totals


class _Acknowledged:
    """Moves ``totals.sent_until`` on as the broker acknowledges what was sent."""

    def __init__(self, producer: BatchProducer, totals: EmitTotals) -> None:
        self._producer = producer
        self._totals = totals
        self._waiting: deque[tuple[int, float]] = deque()  # batches submitted when all up to a time had been sent

    def up_to(self, time: float) -> None:
        """Everything up to ``time`` has been handed to the producer."""
        self._waiting.append((self._producer.submitted_batches, time))
        acknowledged = self._producer.acknowledged_batches()
        while self._waiting and self._waiting[0][0] <= acknowledged:
            self._totals.sent_until = max(self._totals.sent_until, self._waiting.popleft()[1])


async def _pace(pacemaker: Pacemaker, closed: ClosedWindows, totals: EmitTotals) -> None:
    while True:
        pacemaker.adjust(closed.as_of, totals.sent_until)
        await asyncio.sleep(_PACE_SECONDS)


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
    follower: TopicFollower | None,
) -> None:
    block_start = scenario.live_start
    sent = _Acknowledged(producer, totals)
    router = RouterCount()
    reports = _Reports(kafka, actuator, router, producer, block_start)
    # 4e9 is 2096: an end of the world for the generator, which needs a whole number of blocks.
    for chunk in events(scenario, scenario.live_start, min(end, 4e9), actuator, router):
        block_start += BLOCK_SECONDS
        await _send_chunk(kafka, clock, stop, producer, chunk, totals, sent, reports)
        totals.event_time = block_start
        # The next block is drawn only when its time has come, with the replicas that are ready then.
        while (now := clock.now()) < block_start and not stop.is_set() and block_start < end:
            await reports.up_to(now)
            sent.up_to(now)
            await asyncio.sleep(_TICK_SECONDS)
        sent.up_to(block_start)
        if follower is not None:
            follower.check()
        if stop.is_set():
            return
        await reports.up_to(block_start)
        if progress is not None:
            progress(totals)


class _Reports:
    """Reports the replicas of every pool, and the requests of its router, every ``_REPORT_SECONDS`` of event time."""

    def __init__(
        self,
        kafka: KafkaSettings,
        actuator: FleetActuator,
        router: RouterCount,
        producer: BatchProducer,
        start: float,
    ) -> None:
        self._topic = kafka.replicas_topic
        self._actuator = actuator
        self._router = router
        self._producer = producer
        self._next = start

    async def up_to(self, now: float) -> None:
        """Send what is due by ``now`` (epoch seconds), which lies within the newest block or at its end."""
        if now < self._next:
            return
        while self._next <= now:
            await self._send(self._next)
            self._next += _REPORT_SECONDS
        await self._producer.push()

    async def _send(self, at: float) -> None:
        for status in self._actuator.status(at):
            told = status | self._router.told(PoolKey(status["model"], status["pool"]), at)
            key = f"{status['model']}|{status['pool']}".encode()
            await self._producer.add(self._topic, key, json.dumps(told).encode(), int(at * 1000))


async def _send_chunk(
    kafka: KafkaSettings,
    clock: Clock,
    stop: asyncio.Event,
    producer: BatchProducer,
    chunk: Sequence[tuple[float, RequestEvent]],
    totals: EmitTotals,
    sent: _Acknowledged,
    reports: _Reports,
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
        await reports.up_to(min(now, chunk[-1][0]))
        sent.up_to(now if position < len(chunk) else min(now, chunk[-1][0]))
        if position < len(chunk):
            await asyncio.sleep(_TICK_SECONDS)


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
