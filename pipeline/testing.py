"""For tests of Tokentide and of programs around it: events, an oracle that counts them, and a pipeline without Kafka.

Nothing here is used by the pipeline itself.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.events.check import EventLimits
from pipeline.store.apply import ApplyResult
from pipeline.store.store import Store
from pipeline.windows.aggregate import PartitionAggregator
from pipeline.windows.delta import applies, covered_position, decode, encode
from pipeline.windows.model import BASE_SECONDS

__all__ = ["MemoryLog", "Oracle", "PipelineTestDriver", "TestAggregator", "request_event"]


def request_event(event_id: str, arrived_at: float, **fields: Any) -> dict[str, Any]:
    """Return a valid request event as plain data; ``fields`` are added or replace its values (None removes one).

    >>> request_event("a", 1000.0, model="m", output_tokens=None)["model"]
    'm'
    """
    event = {
        "schema": "tokentide.request.completed.v1",
        "event_id": event_id,
        "model": "model",
        "status": "ok",
        "arrived_at": arrived_at,
        "e2e_seconds": 2.0,
        "input_tokens": 100,
        "output_tokens": 10,
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


class Oracle:
    """Counts what must come out, from the events that were produced, in the plainest way that there is.

    ``rows`` is {(window start, model, pool): Counter of requests, status, input_tokens, output_tokens, …}.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str, str], Counter[str]] = defaultdict(Counter)
        self.records = self.events = self.duplicates = 0
        self.dead_letters: Counter[str] = Counter()
        self._seen: set[str] = set()

    def event(self, event: dict[str, Any]) -> bytes:
        """Count one valid event (again: as a duplicate) and return it as JSON."""
        self.records += 1
        if event["event_id"] in self._seen:
            self.duplicates += 1
        else:
            self._seen.add(event["event_id"])
            self.events += 1
            start = int(event["arrived_at"] // BASE_SECONDS) * BASE_SECONDS
            row = self.rows[start, event["model"], event.get("pool", "default")]
            row["requests"] += 1
            row[event["status"]] += 1
            for name in ("input_tokens", "output_tokens"):
                row[name] += event[name]
                row[f"{name}_squared"] += event[name] ** 2
        return json.dumps(event).encode()

    def poison(self, value: bytes | None, reason: str) -> bytes | None:
        """Count one record that must become a dead letter for ``reason`` and return it."""
        self.records += 1
        self.dead_letters[reason] += 1
        return value

    def differences(self, store: Store) -> list[str]:
        """Compare with a store; an empty list means that every window, token, histogram and ledger entry is right."""
        found = []
        names = ("requests", "ok", "rejected", "input_tokens", "output_tokens", "input_tokens_squared")
        query = f"SELECT window_start, model, pool, {', '.join(names)} FROM windows JOIN keys USING (key_id)"
        stored = {(int(r[0]), r[1], r[2]): r[3:] for r in store.cursor().execute(query).fetchall()}
        for key in sorted(stored.keys() | self.rows.keys()):
            wanted = tuple(self.rows[key][name] for name in names) if key in self.rows else None
            if stored.get(key) != wanted:
                found.append(f"window {key}: stored {stored.get(key)}, produced {wanted}")
        query = (
            "SELECT window_start, model, pool, sum(n)::BIGINT FROM histograms JOIN keys USING (key_id) "
            "WHERE metric = 0 GROUP BY ALL"
        )
        mass = {(int(r[0]), r[1], r[2]): r[3] for r in store.cursor().execute(query).fetchall()}
        if mass != {key: row["requests"] for key, row in self.rows.items()}:
            found.append("histograms of input_tokens do not hold as many values as the windows hold requests")
        ledger = store.ledger()
        for name, value in (
            ("records", self.records),
            ("events", self.events),
            ("duplicates", self.duplicates),
            ("dead_letters", self.dead_letters.total()),
            ("lost", 0),
        ):
            total = sum(row[name] for row in ledger)
            if total != value:
                found.append(f"ledger: {name} {total}, produced {value}")
        if store.dead_letter_reasons() != dict(self.dead_letters):
            found.append(f"dead letters {store.dead_letter_reasons()}, produced {dict(self.dead_letters)}")
        return found


class MemoryLog:
    """Partitions of byte records that grow at the end: what Kafka is to the pipeline."""

    def __init__(self, partitions: int) -> None:
        self.partitions: list[list[bytes | None]] = [[] for _ in range(partitions)]

    def append(self, partition: int, value: bytes | None) -> int:
        """Append one record and return its offset."""
        self.partitions[partition].append(value)
        return len(self.partitions[partition]) - 1


class TestAggregator:
    """One life of an aggregator on one partition, step by step, so that it can die or sleep between any two.

    It follows the protocol of ``pipeline.stream.aggregator``: learn the covered position from the tail, refill the
    dedupe memory, fold, append, settle.
    """

    __test__ = False  # no test class for pytest

    def __init__(self, driver: PipelineTestDriver, partition: int) -> None:
        self._driver = driver
        self._partition = partition
        self._source = driver.requests.partitions[partition]
        self._log = driver.deltas.partitions[partition]
        self._align()

    def _align(self) -> None:
        tail = [(offset, decode(value)) for offset, value in enumerate(self._log)]
        covered = covered_position(tail[-self._driver.tail_records :] if self._enough(tail) else tail)
        self._position = covered or 0
        self._base = len(tail) - 1
        horizon = self._driver.dedupe_horizon_records
        self._read = max(0, self._position - horizon)
        self._folder = PartitionAggregator("requests", self._partition, "test", self._driver.limits, horizon)

    def _enough(self, tail: Sequence[Any]) -> bool:
        wanted = len(tail) - self._driver.tail_records
        return bool(tail) and tail[-1][1].base_delta_offset + 1 >= wanted

    def fold(self, records: int) -> bytes | None:
        """Read up to ``records`` records and return the delta to append (None: only memory was refilled)."""
        stop = min(self._read + records, len(self._source))
        values = self._source[self._read : stop]
        offsets = list(range(self._read, stop))
        now = self._driver.now
        delta, _ = self._folder.fold(
            values, offsets, [int(now * 1000)] * len(values), self._read, stop, now, emit_from=self._position
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
        position: int | None = delta.from_offset if delta.base_delta_offset >= 0 else None
        for found in self._log[delta.base_delta_offset + 1 : offset + 1]:
            if applies(position, decode(found)) == "apply":
                position = decode(found).through_offset + 1
        self._base = offset
        if position == delta.through_offset + 1:
            self._position = position
        else:
            self._align()


class PipelineTestDriver:
    """Requests, aggregators, deltas and a store in one thread: no broker, no clock, every interleaving by hand."""

    def __init__(
        self, store: Store, partitions: int = 1, dedupe_horizon_records: int = 100, now: float = 1_700_000_000.0
    ) -> None:
        self.store = store
        self.requests = MemoryLog(partitions)
        self.deltas = MemoryLog(partitions)
        self.dedupe_horizon_records = dedupe_horizon_records
        self.tail_records = 4
        self.limits = EventLimits()
        self.now = now

    def produce(self, partition: int, values: Iterable[bytes | None]) -> None:
        """Append records to a partition of the requests."""
        for value in values:
            self.requests.append(partition, value)

    def aggregator(self, partition: int) -> TestAggregator:
        """Start an aggregator on a partition; as many as wanted may believe that they own it."""
        return TestAggregator(self, partition)

    def control(self, partition: int, records: int | None = None, again: int = 0) -> ApplyResult:
        """Store up to ``records`` deltas from where the store is, less ``again`` that it has seen already."""
        start = max(0, self.store.delta_positions().get(partition, 0) - again)
        log = self.deltas.partitions[partition]
        stop = len(log) if records is None else min(start + again + records, len(log))
        return self.store.apply([(partition, offset, decode(log[offset])) for offset in range(start, stop)])

    def finish(self) -> None:
        """Fold and store everything that is left."""
        for partition in range(len(self.requests.partitions)):
            aggregator = self.aggregator(partition)
            while aggregator._read < len(self.requests.partitions[partition]):
                value = aggregator.fold(1_000)
                if value is not None:
                    aggregator.append(value)
            self.control(partition)
