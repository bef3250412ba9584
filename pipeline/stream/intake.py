"""What the controller takes in: batches of deltas, in order and exactly once, into the store.

Who stores and who closes windows take turns (``pipeline.stream.controller``); everything here that writes is called in
turn. All batches that wait, of whatever partitions, are one transaction. What may not be stored while a step is
computed is held until ``release``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any, Protocol, TypeVar

from faust.types import TP

from pipeline.clock import Clock
from pipeline.errors import CodecError, TokentideError
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.batch import RecordBatch
from pipeline.stream.health import HealthBoard
from pipeline.stream.held import HeldDeltas, Record
from pipeline.stream.progress import EventTime, even_seconds
from pipeline.stream.reader import log_bounds, partition_reader
from pipeline.windows.delta import decode
from pipeline.windows.model import Delta

__all__ = ["MAX_HELD_BATCHES", "MAX_TOGETHER_BYTES", "DeltaIntake", "InThread"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: A partition that was not heard of for so many heartbeats could not deliver: the broker stood still.
BREAK_HEARTBEATS = 10
#: Bytes of JSON that are stored together, or one batch: as objects they take several times as much memory.
MAX_TOGETHER_BYTES = 16 * 1024 * 1024
#: Batches that may wait in memory for the end of a step; further ones wait in Kafka.
MAX_HELD_BATCHES = 16


class InThread(Protocol):
    """Runs a function in a thread of its own and returns what it returns."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Run ``function(*args)``."""
        ...


class DeltaIntake:
    """Stores what waits, knows how far that is, and how far event time has come with it.

    ``consumer`` gives the app's ``BatchConsumer``; ``write`` runs a function in the thread that writes to the store.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        store: Store,
        health: HealthBoard,
        partitions: int,
        consumer: Callable[[], Any],
        write: InThread,
    ) -> None:
        self._settings = settings
        self._store = store
        self._health = health
        self._partitions = partitions
        self._get_consumer = consumer
        self._write = write
        topic = settings.kafka.requests_topic
        stored = {p: position for (name, p), position in store.source_positions().items() if name == topic}
        speed = 1.0 if settings.clock.origin is None else settings.clock.speed
        self.event_time = EventTime(
            clock,
            partitions,
            settings.advise.gap_accept_seconds,
            stored,
            even=lambda: even_seconds() * speed,
            break_seconds=BREAK_HEARTBEATS * settings.stream.heartbeat_seconds * speed,
            settle_seconds=settings.windows.allowed_lateness_seconds,
        )
        self.held = HeldDeltas()
        self._epochs: dict[TP, int] = {}
        self._blocked: set[int] = set()  # delta partitions with a gap
        self._waiting: list[RecordBatch] = []  # not stored yet, in order

    @property
    def assigned(self) -> bool:
        """Whether there are partitions to read."""
        return bool(self._epochs)

    @property
    def full(self) -> bool:
        """Whether no more may be held in memory until a step is over."""
        return len(self.held) >= MAX_HELD_BATCHES

    @property
    def blocked(self) -> int:
        """How many delta partitions have stopped at a gap."""
        return len(self._blocked)

    async def start_partitions(self, epochs: Mapping[TP, int]) -> dict[TP, int]:
        """The position source: where the store has got to in each delta partition.

        Raises:
            TokentideError: the deltas topic ends before the stored position (it was recreated), or has more partitions
                than when this process started.
        """
        beyond = [tp for tp in epochs if tp.partition >= self._partitions]
        if beyond:
            raise TokentideError(f"{beyond[0].topic} has grown beyond {self._partitions} partitions: starting again")
        self._epochs = dict(epochs)
        starts = {}
        for tp in epochs:
            stored = self._store.delta_positions().get(tp.partition, 0)
            async with partition_reader(self._settings.kafka.bootstrap, tp.topic, tp.partition) as (reader, own):
                begin, end = await log_bounds(reader, own)
            if stored > end:
                raise TokentideError(
                    f"{tp.topic}[{tp.partition}] ends at offset {end}, but the store has applied it up to {stored}: "
                    "the topic was recreated; start with a new store"
                )
            starts[tp] = max(begin, stored)
        return starts

    def forget(self, revoked: Iterable[TP]) -> None:
        """Stop applying partitions that were taken away."""
        for tp in revoked:
            self._epochs.pop(tp, None)

    def put(self, batch: RecordBatch) -> None:
        """Let a batch wait to be stored."""
        self._waiting.append(batch)

    def waits(self, batch: RecordBatch) -> bool:
        """Whether a batch has not been stored or held yet."""
        return batch in self._waiting

    async def store_waiting(self) -> None:
        """Store the first of what waits, except what has to wait for a step; call in turn.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        waiting = _together(self._waiting, MAX_HELD_BATCHES - len(self.held))
        current = [b for b in waiting if self._epochs.get(b.tp) == b.epoch and b.partition not in self._blocked]
        found = await self._write(_all_records, current)
        records: list[Record] = []
        for batch, own in zip(current, found, strict=True):
            if self.held.holds(own):
                self.held.add(batch.epoch, own)
            else:
                records += own
        await self._apply(records)
        self._waiting = self._waiting[len(waiting) :]
        for batch in waiting:
            batch.release()

    async def release(self, *, drop: bool) -> None:
        """The step is over: store what waited for it, or ``drop`` it; call in turn.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        released: list[Record] = []
        for epoch, records in self.held.release():
            partition = records[0][0]
            tp = TP(self._settings.kafka.deltas_topic, partition)
            if self._epochs.get(tp) == epoch and partition not in self._blocked:
                released += records
        if not drop:
            await self._apply(released)

    def reached(self) -> float | None:
        """Move event time on as far as is safe and return it, epoch seconds; None: not known yet."""
        caught_up = self.assigned and not any(self.lag().values())
        return self.event_time.advance(caught_up)

    def lag(self) -> dict[tuple[str, int], int]:
        """Deltas not yet stored, by partition; unknown counts as one."""
        positions = self._store.delta_positions()
        lag = {}
        for tp in self._epochs:
            end = self._get_consumer().highwater(tp)
            stored = positions.get(tp.partition, 0)
            lag[str(tp.topic), int(tp.partition)] = 1 if end is None else max(0, end - stored)
        return lag

    def work(self) -> tuple[dict[int, int], int]:
        """Stored positions of the delta partitions, and how many deltas wait in those that did not stop at a gap.

        A controller needs every partition. One that was given fewer (a rebalance against a broker that had just
        started and did not know the topic yet) has work waiting and no position that moves.
        """
        missing = self._partitions - len(self._epochs)
        if missing > 0:
            return {}, missing
        lag = self.lag().items()
        return self._store.delta_positions(), sum(n for (_, p), n in lag if p not in self._blocked)

    async def _apply(self, records: list[Record]) -> None:
        if not records:
            return
        began = time.monotonic()
        result = await self._write(self._store.apply, records)
        self._health.applied(result, time.monotonic() - began)
        for (topic, partition), position in result.positions.items():
            if topic == self._settings.kafka.requests_topic:
                self.event_time.observe(partition, position)
        for gap in result.gaps:
            _log.error("%s; this partition stops here: rebuild the store (docs/adr/0001)", gap)
        self._blocked |= result.blocked


def _together(waiting: Sequence[RecordBatch], most: int) -> list[RecordBatch]:
    """Return the first batches, at least one: ``most`` of them, and as many as have ``MAX_TOGETHER_BYTES``."""
    sizes = accumulate(batch.value_bytes for batch in waiting)
    fitting = sum(1 for _ in takewhile(lambda size: size <= MAX_TOGETHER_BYTES, sizes))
    return list(waiting[: max(1, min(most, fitting))])


def _all_records(batches: Sequence[RecordBatch]) -> list[list[Record]]:
    return [
        [
            (batch.partition, offset, _decoded(batch, offset, value))
            for offset, value in zip(batch.offsets, batch.values, strict=True)
        ]
        for batch in batches
    ]


def _decoded(batch: RecordBatch, offset: int, value: bytes | None) -> Delta | None:
    try:
        return decode(value)
    except CodecError as error:
        _log.error("%s[%d] offset %d is no delta: %s", batch.topic, batch.partition, offset, error)
        return None
