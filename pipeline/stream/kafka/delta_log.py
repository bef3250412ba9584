"""The topics of deltas as logs, one for each shard: append to them, and learn from their tails how far a source
partition is covered.

The logs are the only memory that aggregators share. The rule by which each is read is
``pipeline.windows.delta.applies``; docs/adr/0001 says why it makes every kill, rebalance and repeated delta harmless,
docs/adr/0003 why shards change nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import CodecError, ServerUnavailable
from pipeline.kafka.partition_reader import log_bounds, partition_reader, read_records
from pipeline.kafka.security import explain
from pipeline.windows.delta import applies, covered_position, decode, encode, first_needed, validate_outline
from pipeline.windows.sharding import Chain, ShardChains
from pipeline.windows.types import Delta

__all__ = ["DeltaLog", "DeltaTooLarge", "LogState"]


#: Newest deltas of a partition that this process remembers to have written.
_REMEMBERED = 256


class DeltaTooLarge(ServerUnavailable):
    """The topic refuses a delta of this size; one of fewer records may fit."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log of one partition says: ``position`` is the next source offset wanted (None: it holds no delta),
    ``last_offset`` the offset of its newest record (−1: none)."""

    position: int | None
    last_offset: int


class DeltaLog:
    """Appends to and reads the deltas topics, one for each shard; one per aggregator process."""

    def __init__(self, kafka: KafkaSettings, topics: Sequence[str], producer: AIOKafkaProducer) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._producer = producer
        self._written: dict[tuple[str, int], deque[tuple[int, str]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    async def chains(self, source: str, partition: int, begin: int) -> ShardChains:
        """Learn from the tails how far each shard covers a partition of the topic ``source``; a log without deltas of
        it: up to ``begin``. Deltas of other topics in the same partition are passed over.

        Raises:
            CodecError: retention has removed records that are needed.
            ServerUnavailable: the broker does not answer.
        """
        states = await asyncio.gather(*(self._state(topic, source, partition) for topic in self._topics))
        return ShardChains([Chain(begin if s.position is None else s.position, s.last_offset) for s in states])

    async def append(self, delta: Delta, chains: ShardChains) -> None:
        """Append a delta to the partition of its source in the log of every shard that wants it; returns once all
        replicas have it and ``chains`` says what the logs say.

        Raises:
            CodecError: no reader would take such a delta; written, it would be a gap in the log for ever.
            DeltaTooLarge: a topic does not take records of this size; ``chains`` says which shards have it.
            ServerUnavailable: the broker refused it or did not answer; it may or may not be in some of the logs.
        """
        writes = (self._append(shard, part, chains) for shard, part in chains.parts(delta))
        failures = [e for e in await asyncio.gather(*writes, return_exceptions=True) if e is not None]
        for failure in sorted(failures, key=lambda e: isinstance(e, DeltaTooLarge)):  # what cannot be mended first
            raise failure

    async def _append(self, shard: int, delta: Delta, chains: ShardChains) -> None:
        topic = self._topics[shard]
        validate_outline(delta)
        value = encode(delta)
        try:
            written = await self._producer.send_and_wait(topic, value, partition=delta.partition)
        except MessageSizeTooLargeError as error:
            raise DeltaTooLarge(
                f"{topic} refuses a delta of {len(value):,} bytes for {delta.records:,} records as too large"
            ) from error
        except KafkaError as error:
            raise ServerUnavailable(
                f"{topic}[{delta.partition}] cannot be written: {explain(error, self._kafka)}"
            ) from error
        offset = int(written.offset)
        self._written[topic, delta.partition].append((offset, delta.topic))
        chains.move(shard, await self._settle(topic, delta, offset), offset)

    async def _state(self, topic: str, source: str, partition: int) -> LogState:
        """Read as much of the partition's tail as needed to know its state."""
        async with partition_reader(self._kafka, topic, partition) as (consumer, tp):
            begin, end = await log_bounds(consumer, tp)
            if end == 0:
                return LogState(None, -1)
            if begin >= end:
                raise CodecError(
                    f"{topic}[{partition}] held {end} deltas and retention has removed them all: the position "
                    "that they covered is unknown; recreate the deltas topic and the store"
                )
            wanted = 1
            start = end
            tail: list[tuple[int, Delta | None]] = []
            while start > begin:
                earlier = max(begin, end - wanted)
                tail = await _read(consumer, tp, earlier, start, source) + tail
                start = earlier
                if any(delta is not None for _, delta in tail):
                    needed = first_needed(tail)
                    if needed >= start:
                        break
                    wanted = end - needed
                else:
                    wanted *= 4  # records that are no deltas: look further back
            return LogState(covered_position(tail), end - 1)

    async def _settle(self, topic: str, delta: Delta, offset: int) -> int:
        """Return the source position after the delta that was just written at ``offset``.

        It is the delta's end when nobody wrote between ``base_delta_offset`` and it, and otherwise whatever the rule
        makes of what lies there.
        """
        if offset == delta.base_delta_offset + 1 or self._only_other_topics(topic, delta, offset):
            return delta.through_offset + 1
        position: int | None = delta.from_offset if delta.base_delta_offset >= 0 else None
        async with partition_reader(self._kafka, topic, delta.partition) as (consumer, tp):
            for _, found in await _read(consumer, tp, delta.base_delta_offset + 1, offset + 1, delta.topic):
                if found is not None and applies(position, found) == "apply":
                    position = found.through_offset + 1
        return delta.through_offset + 1 if position is None else position

    def _only_other_topics(self, topic: str, delta: Delta, offset: int) -> bool:
        """Whether this process itself wrote everything since ``base_delta_offset``, of other source topics."""
        between = range(delta.base_delta_offset + 1, offset)
        others = {at for at, source in self._written[topic, delta.partition] if source != delta.topic}
        return others.issuperset(between)


async def _read(consumer: Any, tp: Any, start: int, end: int, source: str) -> list[tuple[int, Delta | None]]:
    """The records [start, end) as deltas of the topic ``source``; None for one that is none."""
    found = [(record.offset, _decoded(record.value)) for record in await read_records(consumer, tp, start, end)]
    return [(offset, delta if delta is not None and delta.topic == source else None) for offset, delta in found]


def _decoded(value: bytes | None) -> Delta | None:
    try:
        return decode(value)
    except CodecError:
        return None
