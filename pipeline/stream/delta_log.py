"""The topic of deltas as a log: append to it, and learn from its tail how far a source partition is covered.

The log is the only memory that aggregators share. The rule by which it is read is ``pipeline.windows.delta.applies``;
docs/adr/0001 says why it makes every kill, rebalance and repeated delta harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from pipeline.errors import CodecError, ServerUnavailable
from pipeline.stream.reader import log_bounds, partition_reader, read_records
from pipeline.stream.topics import DELTA_BYTES
from pipeline.windows.delta import applies, covered_position, decode, encode, first_needed
from pipeline.windows.model import Delta

__all__ = ["DeltaLog", "LogState"]


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log of one partition says: ``position`` is the next source offset wanted (None: it holds no delta),
    ``last_offset`` the offset of its newest record (−1: none)."""

    position: int | None
    last_offset: int


class DeltaLog:
    """Appends and reads the deltas topic; one per aggregator process."""

    def __init__(self, bootstrap: str, topic: str, producer: AIOKafkaProducer) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer = producer

    async def append(self, delta: Delta) -> int:
        """Append one delta to the partition of its source and return its offset once all replicas have it.

        Raises:
            ServerUnavailable: the broker refused it or did not answer; it may or may not be in the log.
        """
        try:
            written = await self._producer.send_and_wait(self._topic, encode(delta), partition=delta.partition)
        except MessageSizeTooLargeError as error:
            raise ServerUnavailable(
                f"{self._topic} refuses a delta as too large: set its max.message.bytes to {DELTA_BYTES}, "
                "or lower stream.max_batch_records"
            ) from error
        except KafkaError as error:
            raise ServerUnavailable(f"{self._topic}[{delta.partition}] cannot be written: {error!r}") from error
        return int(written.offset)

    async def state(self, partition: int) -> LogState:
        """Read as much of the partition's tail as needed to know its state.

        Raises:
            CodecError: retention has removed records that are needed.
            ServerUnavailable: the broker does not answer.
        """
        async with partition_reader(self._bootstrap, self._topic, partition) as (consumer, tp):
            begin, end = await log_bounds(consumer, tp)
            if end == 0:
                return LogState(None, -1)
            if begin >= end:
                raise CodecError(
                    f"{self._topic}[{partition}] held {end} deltas and retention has removed them all: the position "
                    "that they covered is unknown; recreate the deltas topic and the store"
                )
            wanted = 1
            start = end
            tail: list[tuple[int, Delta | None]] = []
            while start > begin:
                earlier = max(begin, end - wanted)
                tail = await _read(consumer, tp, earlier, start) + tail
                start = earlier
                if any(delta is not None for _, delta in tail):
                    needed = first_needed(tail)
                    if needed >= start:
                        break
                    wanted = end - needed
                else:
                    wanted *= 4  # records that are no deltas: look further back
            return LogState(covered_position(tail), end - 1)

    async def settle(self, delta: Delta, offset: int) -> int:
        """Return the source position after the delta that was just written at ``offset``.

        It is the delta's end when nobody wrote between ``base_delta_offset`` and it, and otherwise whatever the rule
        makes of what lies there.
        """
        if offset == delta.base_delta_offset + 1:
            return delta.through_offset + 1
        position: int | None = delta.from_offset if delta.base_delta_offset >= 0 else None
        async with partition_reader(self._bootstrap, self._topic, delta.partition) as (consumer, tp):
            for _, found in await _read(consumer, tp, delta.base_delta_offset + 1, offset + 1):
                if found is not None and applies(position, found) == "apply":
                    position = found.through_offset + 1
        return delta.through_offset + 1 if position is None else position


async def _read(consumer: Any, tp: Any, start: int, end: int) -> list[tuple[int, Delta | None]]:
    """The records [start, end) as deltas; None for one that is no delta."""
    return [(record.offset, _decoded(record.value)) for record in await read_records(consumer, tp, start, end)]


def _decoded(value: bytes | None) -> Delta | None:
    try:
        return decode(value)
    except CodecError:
        return None
