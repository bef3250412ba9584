"""Turns what aiokafka fetched into record batches, without a Python object per record where that is possible.

The quick way reads the records of a fetch response in columns and so repeats the control flow of aiokafka's
``Fetcher.fetched_records``, ``FetchResult.getall`` and ``PartitionRecords._unpack_records`` (0.14): CRC check, aborted
transactions, control batches, holes left by compaction, the position that every consumed batch moves. Those names are
private; ``missing_names`` says which of them this aiokafka lacks, and then the ``ConsumerRecord`` lists of the ordinary
way are folded instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka import conn as _conn
from aiokafka.consumer import fetcher as _fetcher
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as _driver
from faust.types import TP

from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.frames import receive_in_place
from pipeline.stream.kafka.laid_wires import LaidWires
from pipeline.stream.kafka.wire_bytes import KeptRecords, keep_wire_bytes, wire_is_intact
from pipeline.stream.unreadable import add_unreadable

__all__ = ["BatchConsumerThread", "Fetched", "fold_records", "missing_names", "read_columns"]

_log = logging.getLogger(__name__)

#: A broker answers a fetch when it has so much, or after so long.
FETCH_MIN_BYTES = 256 * 1024
FETCH_WAIT_MILLISECONDS = 200
#: What one answer may hold of all partitions together; more would be held in memory without being read any faster.
FETCH_MAX_BYTES = 16 * 1024 * 1024
#: How often a batch with a wrong CRC is fetched before its records are given up: the log may be right and what the
#: network delivered wrong.
FETCHES_OF_A_CORRUPT_BATCH = 3
#: A header that claims more records than this is not believed.
_MOST_BATCH_RECORDS = 10_000_000

_METHODS = {
    "Fetcher": ("_create_fetch_waiter", "_notify"),
    "FetchResult": ("check_assignment", "has_more", "_update_position", "getall"),
    "PartitionRecords": ("_consume_aborted_up_to", "_contains_abort_marker"),
}
_ATTRIBUTES = {
    "Fetcher": ("_records", "_subscriptions", "_wait_consume_future", "_closed"),
    "FetchResult": ("_topic_partition", "_partition_records"),
    "PartitionRecords": ("_records", "_aborted_producers", "_check_crcs", "_isolation_level", "next_fetch_offset"),
}


def missing_names(module: Any = _fetcher) -> list[str]:
    """Names that reading in columns needs and that ``module`` (aiokafka's fetcher) does not have, sorted."""
    missing = [name for name in ("READ_COMMITTED", *_METHODS) if not hasattr(module, name)]
    for owner, names in _METHODS.items():
        cls = getattr(module, owner, None)
        missing += [f"{owner}.{name}" for name in names if cls is not None and not hasattr(cls, name)]
    for owner, names in _ATTRIBUTES.items():
        code = getattr(getattr(getattr(module, owner, None), "__init__", None), "__code__", None)
        missing += [f"{owner}.{name}" for name in names if code is not None and name not in code.co_names]
    return sorted(missing)


def fold_records(tp: TP, records: list[Any]) -> RecordBatch:
    """Make one batch of ``ConsumerRecord``s: the way without private names.

    The offsets before the first record are not known here, so a hole between two batches looks like loss; that only
    happens on compacted or transactional topics, which request topics are not.
    """
    batch = RecordBatch(tp, records[0].offset)
    batch.extend(records)
    batch.next_offset = records[-1].offset + 1
    return batch


def read_columns(
    result: Any, max_records: int, max_bytes: int | None = None, skip_corrupt: bool = False
) -> RecordBatch | None:
    """Take whole wire batches out of a ``FetchResult``, up to about ``max_records`` records or ``max_bytes`` of values.

    Returns None when nothing is left or the partition was sought, paused or taken away meanwhile. The batch may hold no
    record: the offsets it covers held only transaction markers or aborted records. The records of a wire batch that
    cannot be decompressed or parsed are ``unreadable``; with ``skip_corrupt`` those of one that fails its CRC too.

    Raises:
        CorruptRecordException: the next wire batch fails its CRC; what came before it was handed over already.
    """
    tp = result._topic_partition
    if not result.has_more() or not result.check_assignment(tp):
        return None
    part = result._partition_records
    records = part._records
    read_committed = part._isolation_level == _fetcher.READ_COMMITTED
    batch = RecordBatch(ensure_TP(tp), part.next_fetch_offset)
    next_offset = part.next_fetch_offset
    corrupt = False
    room = float("inf") if max_bytes is None else max_bytes
    laid = LaidWires(records) if type(records) is KeptRecords else None
    while (
        len(batch) + (0 if laid is None else len(laid)) < max_records
        and batch.value_bytes < room
        and (laid is None or laid.fits(room))
        and records.has_next()
        and not corrupt
    ):
        wire, problem = _next_wire(records, part._check_crcs)
        if problem is not None:
            if next_offset != batch.first_offset:
                corrupt = True  # hand over what is good; the position points at the corrupt batch: fetched again
                continue
            if not skip_corrupt:
                raise problem
            skip_corrupt = False
            end = _end_of(wire, next_offset)
            add_unreadable(batch, next_offset, end, problem)
            next_offset = end
            corrupt = wire is None  # where the next one begins is not known
            laid = None
            continue
        if read_committed and wire.producer_id is not None:
            part._consume_aborted_up_to(wire.base_offset)
            if wire.is_control_batch and _aborts(part, wire):
                part._aborted_producers.discard(wire.producer_id)
            if wire.is_transactional and wire.producer_id in part._aborted_producers:
                next_offset = wire.next_offset
                continue
        if not wire.is_control_batch and not (laid is not None and laid.take(wire, next_offset)):
            if laid is not None:  # what comes after an unusual one is read as it is
                _settle(laid, batch)
                laid = None
            if not _add_rows(batch, wire, next_offset):
                next_offset = _end_of(wire, max(next_offset, wire.base_offset))
                continue
        # Format 2 keeps the last offset of a batch whose last records were compacted away.
        next_offset = max(next_offset, wire.next_offset)
    if laid is not None:
        _settle(laid, batch)
    part.next_fetch_offset = batch.next_offset = next_offset
    result._update_position()
    if corrupt or not records.has_next():
        result._partition_records = None
    return batch if next_offset > batch.first_offset else None


def _aborts(part: Any, wire: Any) -> bool:
    """Whether a control batch ends an aborted transaction; one that compaction has emptied, or that cannot be read,
    ends none (aiokafka raises an error that would stop the partition for good)."""
    try:
        return bool(part._contains_abort_marker(wire))
    except Exception as error:
        _log.warning("control batch at offset %d: %r", wire.base_offset, error)
        return False


def _add_rows(batch: RecordBatch, wire: Any, position: int) -> bool:
    """Append the records of a wire batch from an offset on, as aiokafka parses them; False: they cannot be read."""
    try:
        rows = list(wire)
    except Exception as error:  # a codec that is missing or fails, or what only looks like records
        start = max(position, wire.base_offset)  # there may be a hole before it
        add_unreadable(batch, start, _end_of(wire, start), error)
        return False
    if rows and rows[0].offset < position:  # a position inside a wire batch
        rows = [row for row in rows if row.offset >= position]
    batch.extend(rows)
    return True


def _settle(laid: LaidWires, batch: RecordBatch) -> None:
    """Put the records that were to be read together into an empty batch: in columns, else one by one."""
    if len(laid) and not laid.lay_in(batch):
        for wire, position in laid.wires:
            _add_rows(batch, wire, position)


def _next_wire(records: Any, check_crcs: bool) -> tuple[Any, CorruptRecordException | None]:
    """The next wire batch (None: not even its bounds can be read), and what is wrong with its bytes."""
    try:
        wire = records.next_batch()
    except Exception as error:  # whatever bytes that are no batch make the parser do
        return None, CorruptRecordException(f"not a record batch: {error!r}")
    if check_crcs and not wire_is_intact(records, wire):
        return wire, CorruptRecordException("the CRC does not fit the bytes")
    return wire, None


def _end_of(wire: Any, position: int) -> int:
    """The offset after a batch of which nothing but the header can be believed, and that hardly."""
    end = position if wire is None else int(wire.next_offset)
    return end if position < end <= position + _MOST_BATCH_RECORDS else position + 1


class Fetched(dict[TP, list[Any]]):
    """Records or batches by partition, and the epochs of the partitions at the instant when they were taken."""

    def __init__(self, found: Mapping[TP, list[Any]], epochs: Mapping[TP, int]) -> None:
        super().__init__(found)
        self.epochs = {tp: epochs.get(tp, 0) for tp in found}


class BatchConsumerThread(_driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, handing out record batches for the topics that asked for them.

    Seeking and taking records out of the fetcher both happen in this thread, so that every record is known to be from
    before or from after a seek. Judged from the main thread, a fetch that was under way during a seek would be thrown
    away although it may hold the first records after it, and they would be lost.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epochs: dict[TP, int] = {}
        self._corrupt: dict[Any, tuple[int, int]] = {}  # offset of a batch with a wrong CRC, how often it was fetched

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        keep_wire_bytes()
        receive_in_place()
        # Where answers are not received in place: an answer comes in hundreds of pieces; with aiokafka's 64 KiB reading
        # is paused and resumed at nearly each.
        _conn.READER_LIMIT = FETCH_MAX_BYTES
        # The broker collects for a moment: answered at once, twelve partitions of a quiet topic would make hundreds of
        # batches of a few records each second, and each costs its delta and a share of a transaction.
        consumer._fetch_min_bytes = FETCH_MIN_BYTES
        consumer._fetch_max_wait_ms = FETCH_WAIT_MILLISECONDS
        consumer._fetch_max_bytes = FETCH_MAX_BYTES
        # What a transaction wrote counts when it is committed; Faust would ask for it only in transactions of its own.
        consumer._isolation_level = "read_committed"
        return consumer

    async def seek_epochs(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        """Seek to (offset, epoch) of each partition; what is taken from now on carries that epoch."""
        await self.call_thread(self._seek_epochs, positions)

    async def _seek_epochs(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        consumer = self._ensure_consumer()
        for tp, (offset, epoch) in positions.items():
            self._epochs[tp] = epoch
            consumer.seek(tp, offset)
        await asyncio.wait_for(
            asyncio.gather(*[consumer.position(tp) for tp in positions]), self.app.conf.broker_request_timeout
        )

    async def group_positions(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Where the group has committed; the start of the log where it has not."""
        found: dict[TP, int] = await self.call_thread(self._group_positions, list(tps))
        return found

    async def _group_positions(self, tps: list[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        positions = {}
        for tp in tps:
            own = TopicPartition(tp.topic, tp.partition)
            committed = await consumer.committed(own)
            positions[tp] = (await consumer.beginning_offsets([own]))[own] if committed is None else committed
        return positions

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Fetched:
        transport: Any = self.transport
        if not transport.reads_columns:
            found = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
            return Fetched(self._fold_found(found), self._epochs)
        if not self.consumer.flow_active:
            return Fetched({}, {})
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError()
        with fetcher._subscriptions.fetch_context():
            found = await self._fetched(fetcher, active_partitions, timeout or 0.0, max_records)
            return Fetched(found, self._epochs)  # no await since they were taken

    def _fold_found(self, found: Mapping[Any, list[Any]]) -> dict[TP, list[Any]]:
        transport: Any = self.transport
        folded: dict[TP, list[Any]] = {}
        for found_tp, records in found.items():
            tp = ensure_TP(found_tp)
            if records and tp.topic in transport.batch_topics:
                folded[tp] = fold_records(tp, records).split(transport.max_batch_records, transport.max_batch_bytes)
            else:
                folded[tp] = records
        return folded

    async def _fetched(
        self, fetcher: Any, partitions: Iterable[TP], timeout: float, max_records: int | None
    ) -> dict[TP, list[Any]]:
        """Wait up to ``timeout`` seconds for fetched records; the control flow of ``Fetcher.fetched_records``."""
        deadline = time.monotonic() + timeout
        while True:
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            drained = self._drain(fetcher, partitions, max_records)
            remaining = deadline - time.monotonic()
            if drained or remaining <= 0:
                return drained
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=remaining)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()  # raises authorisation errors

    def _drain(self, fetcher: Any, partitions: Iterable[TP], max_records: int | None) -> dict[TP, list[Any]]:
        transport: Any = self.transport
        drained: dict[TP, list[Any]] = {}
        for tp in list(fetcher._records):
            if partitions and tp not in partitions:
                if not fetcher._subscriptions.is_assigned(tp):
                    del fetcher._records[tp]
                continue
            result = fetcher._records[tp]
            if type(result) is not _fetcher.FetchResult:
                if drained:
                    return drained  # hand over what is good; the next call raises the error
                self._drop(fetcher, tp)
                result.check_raise()
                continue
            batched = tp.topic in transport.batch_topics
            found: list[Any] = self._read(tp, result) if batched else result.getall(max_records)
            if not result.has_more():
                self._drop(fetcher, tp)
            if found:
                drained[ensure_TP(tp)] = found
        return drained

    def _read(self, tp: Any, result: Any) -> list[RecordBatch]:
        """The batches of one fetch result; of a corrupt one nothing, so that it is fetched again, a few times."""
        transport: Any = self.transport
        limits = transport.max_batch_records, transport.max_batch_bytes
        position = result._partition_records.next_fetch_offset if result.has_more() else -1
        known, fetches = self._corrupt.get(tp, (-1, 0))
        try:
            batch = read_columns(
                result, *limits, skip_corrupt=known == position and fetches + 1 >= FETCHES_OF_A_CORRUPT_BATCH
            )
        except CorruptRecordException as error:
            result._partition_records = None
            self._corrupt[tp] = position, fetches + 1 if known == position else 1
            _log.warning("%s[%d] at offset %d: %s", tp.topic, tp.partition, position, error)
            return []
        if batch is not None and batch.unreadable:
            first, why = next(iter(batch.unreadable.items()))
            _log.error("%s[%d] at offset %d cannot be read: %s", tp.topic, tp.partition, first, why)
        return [] if batch is None else batch.split(*limits)

    @staticmethod
    def _drop(fetcher: Any, tp: Any) -> None:
        """Forget a result, so that the partition is fetched again."""
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)
