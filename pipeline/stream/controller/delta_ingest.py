"""What the controller takes in: batches of deltas, in order and exactly once, into the store.

Who stores and who closes windows take turns (``pipeline.stream.controller.controller``); everything here that writes is
called in turn. All batches that wait, of whatever partitions, are one transaction.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any, Protocol, TypeVar

from faust.types import TP

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.errors import CodecError, TokentideError
from pipeline.kafka.partition_reader import log_bounds, partition_reader
from pipeline.store.apply import SourcePosition
from pipeline.store.store import Store
from pipeline.stream.controller.event_time import EventTime, boottime_seconds
from pipeline.stream.controller.health import HealthBoard
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.windows.bridged import is_bridged
from pipeline.windows.delta import decode
from pipeline.windows.types import Delta

__all__ = ["MAX_TOGETHER_BATCHES", "MAX_TOGETHER_BYTES", "DeltaIntake", "InThread"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: A partition that was not heard of for so many heartbeats could not deliver: the broker stood still.
BREAK_HEARTBEATS = 10
#: Bytes of JSON that are stored together, or one batch: as objects they take several times as much memory.
MAX_TOGETHER_BYTES = 16 * 1024 * 1024
#: Batches that are stored together at most.
MAX_TOGETHER_BATCHES = 16

#: (delta partition, delta offset, delta or None for what is none), as ``Store.apply`` takes them.
Record = tuple[int, int, Delta | None]


class InThread(Protocol):
    """Runs a function in a thread of its own and returns what it returns."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Run ``function(*args)``."""
        ...


class DeltaIntake:
    """Stores what waits, knows how far that is, and how far event time has come with it.

    ``consumer`` gives the app's ``BatchConsumer``; ``write`` runs a function in the thread that writes to the store;
    ``sources`` are the topics of events with their partitions (None: the requests topic with ``partitions``).
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
        sources: Mapping[str, int] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._health = health
        self._partitions = partitions
        self._get_consumer = consumer
        self._write = write
        counts = {settings.kafka.requests_topic: partitions} if sources is None else sources
        #: Every partition of every source by a number of its own.
        self._sources = {
            key: number
            for number, key in enumerate((topic, p) for topic, count in counts.items() for p in range(count))
        }
        stored = {
            self._sources[key]: position for key, position in store.source_positions().items() if key in self._sources
        }
        paced = settings.clock.pace_file is not None
        speed = settings.clock.speed if paced or settings.clock.origin is not None else 1.0
        self.event_time = EventTime(
            clock,
            len(self._sources),
            settings.advise.gap_accept_seconds,
            stored,
            # A paced clock is even by construction, but at no constant speed.
            even=None if paced else lambda: boottime_seconds() * speed,
            # Whoever sets the pace never lets time run further ahead of what the broker has than the allowed lateness:
            # silence can be believed at once, and must be where time stands until the next window is closed.
            break_seconds=math.inf if paced else BREAK_HEARTBEATS * settings.stream.heartbeat_seconds * speed,
            settle_seconds=settings.windows.allowed_lateness_seconds,
        )
        self._observe_bridged(store.source_positions())
        self._epochs: dict[TP, int] = {}
        self._blocked: set[int] = set()  # delta partitions with a gap
        self._waiting: list[RecordBatch] = []  # not stored yet, in order

    @property
    def assigned(self) -> bool:
        """Whether there are partitions to read."""
        return bool(self._epochs)

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
            async with partition_reader(self._settings.kafka, tp.topic, tp.partition) as (reader, own):
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
        """Whether a batch has not been stored yet."""
        return batch in self._waiting

    async def store_waiting(self) -> None:
        """Store the first of what waits; call in turn.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        waiting = _together(self._waiting)
        current = [b for b in waiting if self._epochs.get(b.tp) == b.epoch and b.partition not in self._blocked]
        await self._apply(await self._write(_all_records, current))
        self._waiting = self._waiting[len(waiting) :]
        for batch in waiting:
            batch.release()

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
        for source, position in result.positions.items():
            if source in self._sources:
                self.event_time.observe(self._sources[source], position)
        self._observe_bridged(result.positions)
        for gap in result.gaps:
            _log.error("%s; this partition stops here: rebuild the store (docs/adr/0001)", gap)
        self._blocked |= result.blocked

    def _observe_bridged(self, positions: Mapping[tuple[str, int], SourcePosition]) -> None:
        for (source, _), position in positions.items():
            if is_bridged(source):
                self.event_time.observe_bridged(position.max_event_at)


def _together(waiting: Sequence[RecordBatch]) -> list[RecordBatch]:
    """Return the first batches, at least one: at most ``MAX_TOGETHER_BATCHES`` with ``MAX_TOGETHER_BYTES``."""
    sizes = accumulate(batch.value_bytes for batch in waiting)
    fitting = sum(1 for _ in takewhile(lambda size: size <= MAX_TOGETHER_BYTES, sizes))
    return list(waiting[: max(1, min(MAX_TOGETHER_BATCHES, fitting))])


def _all_records(batches: Sequence[RecordBatch]) -> list[Record]:
    return [
        (batch.partition, offset, _decoded(batch, offset, value))
        for batch in batches
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    ]


def _decoded(batch: RecordBatch, offset: int, value: bytes | None) -> Delta | None:
    try:
        return decode(value)
    except CodecError as error:
        _log.error("%s[%d] offset %d is not a delta: %s", batch.topic, batch.partition, offset, error)
        return None
