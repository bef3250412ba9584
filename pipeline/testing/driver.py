"""Requests, aggregators, deltas and a store in one thread: no broker, no clock, every interleaving by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pipeline.errors import CodecError
from pipeline.events.validation import EventLimits
from pipeline.store.apply import ApplyResult
from pipeline.windows.delta import applies, covered_position, decode, encode, first_needed
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.types import Delta

__all__ = ["DeltaStore", "MemoryLog", "PipelineTestDriver", "TestAggregator"]


class DeltaStore(Protocol):
    """What the driver needs of a store: ``Store`` and ``MemoryStore`` have it."""

    def delta_positions(self) -> dict[int, int]:
        """Return {delta partition: next offset to read}."""
        ...

    def apply(self, records: list[tuple[int, int, Delta | None]]) -> ApplyResult:
        """Apply records of the delta topic in one transaction."""
        ...


class MemoryLog:
    """Partitions of byte records that grow at the end: what Kafka is to the pipeline.

    ``timestamps`` has the time of each record, epoch milliseconds. ``deltas`` has each record decoded, once.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions: list[list[bytes | None]] = [[] for _ in range(partitions)]
        self.timestamps: list[list[int]] = [[] for _ in range(partitions)]
        self._decoded: list[list[Delta | None]] = [[] for _ in range(partitions)]

    def append(self, partition: int, value: bytes | None, timestamp_ms: int = -1) -> int:
        """Append one record and return its offset."""
        self.partitions[partition].append(value)
        self.timestamps[partition].append(timestamp_ms)
        return len(self.partitions[partition]) - 1

    def deltas(self, partition: int) -> list[Delta | None]:
        """The records of a partition as deltas; None for one that is none."""
        values, decoded = self.partitions[partition], self._decoded[partition]
        for value in values[len(decoded) :]:
            try:
                decoded.append(decode(value))
            except CodecError:
                decoded.append(None)
        return decoded


class TestAggregator:
    """One life of an aggregator on one partition, step by step, so that it can die or sleep between any two.

    It follows the protocol of ``pipeline.stream.aggregator.aggregator``: learn the covered position from the tail,
    refill the dedupe memory, fold, append, settle.
    """

    __test__ = False  # no test class for pytest

    def __init__(self, driver: PipelineTestDriver, partition: int) -> None:
        self._driver = driver
        self._partition = partition
        self._source = driver.requests.partitions[partition]
        self._now = driver.now
        self._align()

    @property
    def caught_up(self) -> bool:
        """Whether it has read everything."""
        return self._read >= len(self._source)

    def _align(self) -> None:
        tail = list(enumerate(self._driver.deltas.deltas(self._partition)))
        newest = tail[-self._driver.tail_records :]
        enough = any(delta is not None for _, delta in newest) and first_needed(newest) >= newest[0][0]
        self._position = covered_position(newest if enough else tail) or 0
        self._base = len(tail) - 1
        horizon = self._driver.dedupe_horizon_records
        self._read = max(0, self._position - horizon)
        self._folder = PartitionAggregator("requests", self._partition, "test", self._driver.limits, horizon)

    def fold(self, records: int) -> bytes | None:
        """Read up to ``records`` records and return the delta to append (None: only memory was refilled)."""
        stop = min(self._read + records, len(self._source))
        self._now = max(self._now, self._driver.now)
        delta, _ = self._folder.fold(
            self._source[self._read : stop],
            list(range(self._read, stop)),
            self._driver.requests.timestamps[self._partition][self._read : stop],
            self._read,
            stop,
            self._now,
            emit_from=self._position,
            caught_up=stop == len(self._source),
        )
        self._read = stop
        if delta is None:
            return None
        delta.base_delta_offset = self._base
        return encode(delta)

    def append(self, value: bytes) -> None:
        """Append a delta made by ``fold`` and go on from where the log says."""
        delta = decode(value)
        offset = self._driver.deltas.append(self._partition, value)
        log = self._driver.deltas.deltas(self._partition)
        position: int | None = delta.from_offset if delta.base_delta_offset >= 0 else None
        for found in log[delta.base_delta_offset + 1 : offset + 1]:
            if found is not None and applies(position, found) == "apply":
                position = found.through_offset + 1
        self._base = offset
        if position == delta.through_offset + 1:
            self._position = position
        else:
            self._align()


class PipelineTestDriver:
    """A pipeline whose every step is a call; ``now`` is its clock, epoch seconds, moved by ``advance`` alone."""

    def __init__(
        self, store: DeltaStore, partitions: int = 1, dedupe_horizon_records: int = 100, now: float = 1_700_000_000.0
    ) -> None:
        self.store = store
        self.requests = MemoryLog(partitions)
        self.deltas = MemoryLog(partitions)
        self.dedupe_horizon_records = dedupe_horizon_records
        self.tail_records = 4
        self.limits = EventLimits()
        self.now = now

    def advance(self, seconds: float) -> None:
        """Move the clock; backwards too."""
        self.now += seconds

    def produce(self, partition: int, values: Iterable[bytes | None]) -> None:
        """Append records to a partition of the requests, with the time of now."""
        for value in values:
            self.requests.append(partition, value, int(self.now * 1000))

    def aggregator(self, partition: int) -> TestAggregator:
        """Start an aggregator on a partition; as many as wanted may believe that they own it."""
        return TestAggregator(self, partition)

    def control(self, partition: int, records: int | None = None, again: int = 0) -> ApplyResult:
        """Store up to ``records`` deltas from where the store is, less ``again`` that it has seen already."""
        start = max(0, self.store.delta_positions().get(partition, 0) - again)
        log = self.deltas.deltas(partition)
        stop = len(log) if records is None else min(start + again + records, len(log))
        return self.store.apply([(partition, offset, log[offset]) for offset in range(start, stop)])

    def finish(self) -> None:
        """Fold and store everything that is left."""
        for partition in range(len(self.requests.partitions)):
            aggregator = self.aggregator(partition)
            while not aggregator.caught_up:
                value = aggregator.fold(1_000)
                if value is not None:
                    aggregator.append(value)
            self.control(partition)
