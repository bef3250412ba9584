"""Reading fetched records in columns, on the very bytes that a broker would send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c as crc32c
from faust.types import TP

from pipeline.events.validation import EventLimits
from pipeline.stream.kafka.cutting import cut
from pipeline.stream.kafka.fetch import (
    FETCHES_OF_A_CORRUPT_BATCH,
    BatchConsumerThread,
    fold_records,
    missing_names,
    read_columns,
)
from pipeline.stream.unreadable import name_unreadable
from pipeline.windows.partition_folder import PartitionAggregator

OWN = TopicPartition("t", 0)


def wire(base: int, values: list[bytes], transactional: bool = False, producer: int = -1) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(transactional),
        producer_id=producer,
        producer_epoch=0 if transactional else -1,
        base_sequence=0 if transactional else -1,
        batch_size=1_000_000,
    )
    for i, value in enumerate(values):
        builder.append(i, 1_000 + base + i, b"k", value, [("h", b"%d" % i)] if i == 1 else [])
    data = builder.build()
    data[0:8] = base.to_bytes(8, "big")
    return data


class Assignment:
    active = True

    def __init__(self, position: int) -> None:
        self.state = SimpleNamespace(position=position, paused=False, consumed_to=self.move)

    def move(self, position: int) -> None:
        self.state.position = position

    def state_value(self, tp: Any) -> Any:
        return self.state


def result(*batches: bytearray, position: int = 0, aborted: Any = None, level: int = 0) -> tuple[Any, Assignment]:
    records = MemoryRecords(bytes(b"".join(batches)))
    part = fetcher.PartitionRecords(OWN, records, aborted, position, None, None, True, level)
    assignment = Assignment(position)
    return fetcher.FetchResult(OWN, assignment=assignment, partition_records=part, backoff=0), assignment


def test_this_aiokafka_has_every_name() -> None:
    assert missing_names() == []


def test_missing_names_are_told() -> None:
    fake = SimpleNamespace(
        READ_COMMITTED=1,
        Fetcher=fetcher.Fetcher,
        FetchResult=type("FetchResult", (), {"__init__": fetcher.FetchResult.__init__}),
    )
    missing = missing_names(fake)
    assert "PartitionRecords" in missing
    assert "FetchResult._update_position" in missing
    assert not any(name.startswith("Fetcher.") for name in missing)


def test_columns_hold_what_the_records_hold() -> None:
    found, assignment = result(wire(0, [b"a", b"b"]), wire(2, [b"c"]))
    batch = read_columns(found, 100)
    assert batch is not None
    assert (batch.first_offset, batch.next_offset) == (0, 3)
    assert batch.values == [b"a", b"b", b"c"]
    assert list(batch.offsets) == [0, 1, 2]
    assert list(batch.timestamps) == [1_000, 1_001, 1_002]
    assert list(batch.headers) == [1]
    assert assignment.state.position == 3
    assert read_columns(found, 100) is None


def test_a_limit_leaves_the_rest_for_the_next_call() -> None:
    found, assignment = result(wire(0, [b"a", b"b"]), wire(2, [b"c"]))
    first, second = read_columns(found, 1), read_columns(found, 1)
    assert first is not None
    assert second is not None
    assert (first.values, second.values) == ([b"a", b"b"], [b"c"])
    assert second.first_offset == first.next_offset == 2
    assert assignment.state.position == 3


def test_a_limit_in_bytes_ends_a_batch_too() -> None:
    found, _ = result(wire(0, [b"a" * 60, b"b" * 60]), wire(2, [b"c" * 10]))
    first, second = read_columns(found, 100, 100), read_columns(found, 100, 100)
    assert first is not None
    assert second is not None
    assert (len(first), first.value_bytes, len(second), second.value_bytes) == (2, 120, 1, 10)


def test_a_position_inside_a_wire_batch_skips_its_beginning() -> None:
    found, _ = result(wire(10, [b"a", b"b", b"c"]), position=11)
    batch = read_columns(found, 100)
    assert batch is not None
    assert (batch.first_offset, batch.values, batch.next_offset) == (11, [b"b", b"c"], 13)


def test_compaction_holes_stay_inside_the_range() -> None:
    found, _ = result(wire(5, [b"a"]), wire(40, [b"b"]), position=3)
    batch = read_columns(found, 100)
    assert batch is not None
    assert (batch.first_offset, list(batch.offsets), batch.next_offset) == (3, [5, 40], 41)


def test_a_seek_meanwhile_gives_nothing() -> None:
    found, assignment = result(wire(0, [b"a"]))
    assignment.state.position = 77
    assert read_columns(found, 100) is None


def test_what_precedes_a_corrupt_batch_is_handed_over_first() -> None:
    broken = wire(2, [b"c"])
    broken[-1] ^= 0xFF
    found, assignment = result(wire(0, [b"a", b"b"]), broken)
    batch = read_columns(found, 100)
    assert batch is not None
    assert batch.values == [b"a", b"b"]
    assert assignment.state.position == 2
    assert not found.has_more(), "the corrupt batch is fetched again"
    again, _ = result(broken, position=2)
    with pytest.raises(CorruptRecordException):
        read_columns(again, 100)


def test_aborted_transactions_are_covered_but_not_read() -> None:
    aborted = wire(0, [b"a"], transactional=True, producer=9)
    kept = wire(1, [b"b"], transactional=True, producer=8)
    found, _ = result(aborted, kept, aborted=[(9, 0)], level=fetcher.READ_COMMITTED)
    batch = read_columns(found, 100)
    assert batch is not None
    assert (batch.first_offset, batch.values, batch.next_offset) == (0, [b"b"], 2)
    only, _ = result(aborted, aborted=[(9, 0)], level=fetcher.READ_COMMITTED)
    empty = read_columns(only, 100)
    assert empty is not None
    assert (len(empty), empty.next_offset) == (0, 1)


def test_folding_records_gives_the_same_columns() -> None:
    columns = read_columns(result(wire(0, [b"a", b"b"]))[0], 100)
    folded = fold_records(TP("t", 0), result(wire(0, [b"a", b"b"]))[0].getall())
    assert columns is not None
    for name in ("first_offset", "next_offset", "offsets", "timestamps", "keys", "values"):
        assert getattr(folded, name) == getattr(columns, name)
    assert {i: tuple(h) for i, h in folded.headers.items()} == {i: tuple(h) for i, h in columns.headers.items()}


def test_a_corrupt_batch_is_given_up_when_asked_and_what_follows_is_read() -> None:
    broken = wire(2, [b"c", b"d"])
    broken[-1] ^= 0xFF
    found, assignment = result(broken, wire(4, [b"e"]), position=2)
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    assert (batch.first_offset, list(batch.offsets), batch.values) == (2, [2, 3, 4], [None, None, b"e"])
    assert list(batch.unreadable) == [2, 3]
    assert "batch of offsets 2..3: CorruptRecordException" in batch.unreadable[2]
    assert assignment.state.position == 5


def test_one_corrupt_batch_is_given_up_at_a_time() -> None:
    first, second = wire(0, [b"a"]), wire(1, [b"b"])
    first[-1] ^= 0xFF
    second[-1] ^= 0xFF
    found, assignment = result(first, second)
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    assert list(batch.unreadable) == [0]
    assert assignment.state.position == 1, "the second is fetched again"


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 7])
def test_what_cannot_be_decompressed_is_unreadable_and_what_follows_is_read(codec: int) -> None:
    """A batch whose header names a codec, over bytes that no such codec has written."""
    broken = wire(0, [b"a", b"b"])
    broken[22] |= codec  # the low byte of the attributes
    broken[17:21] = crc32c(broken[21:]).to_bytes(4, "big")
    found, assignment = result(broken, wire(2, [b"c"]))
    batch = read_columns(found, 100)
    assert batch is not None
    assert (list(batch.offsets), batch.values) == ([0, 1, 2], [None, None, b"c"])
    assert list(batch.unreadable) == [0, 1]
    assert assignment.state.position == 3


def test_a_header_that_claims_too_much_moves_on_by_one() -> None:
    broken = wire(0, [b"a"])
    broken[23:27] = (2**31 - 1).to_bytes(4, "big")
    found, assignment = result(broken)
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    assert list(batch.unreadable) == [0]
    assert assignment.state.position == 1


def test_bytes_that_are_no_batch_at_all_move_on_by_one_and_are_fetched_again() -> None:
    broken = wire(0, [b"a"])
    broken[8:12] = (3).to_bytes(4, "big")
    found, assignment = result(broken)
    with pytest.raises(CorruptRecordException):
        read_columns(found, 100)
    found, assignment = result(broken)
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    assert (list(batch.unreadable), assignment.state.position) == ([0], 1)
    assert not found.has_more()


def test_the_parts_of_a_batch_still_say_what_is_unreadable() -> None:
    broken = wire(0, [b"a", b"b", b"c", b"d"])
    broken[-1] ^= 0xFF
    found, _ = result(broken)
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    for part in [*batch.split(2), *cut(batch, [1])]:
        assert part.unreadable.keys() >= set(part.offsets)


def test_dead_letters_of_unreadable_records_are_named() -> None:
    broken = wire(0, [b"a", b"b"])
    broken[-1] ^= 0xFF
    found, _ = result(broken, wire(2, [b"nonsense"]))
    batch = read_columns(found, 100, skip_corrupt=True)
    assert batch is not None
    folder = PartitionAggregator("t", 0, "p", EventLimits(1000, 1000.0, 1000.0), 100)
    delta, letters = folder.fold(batch.values, batch.offsets, batch.timestamps, 0, 3, 1_000.0)
    assert delta is not None
    letters = name_unreadable(batch, delta, letters)
    reasons = [(letter.offset, str(letter.reason)) for letter in letters]
    assert reasons == [(0, "unreadable"), (1, "unreadable"), (2, "malformed")]
    assert [(ref.offset, str(ref.reason)) for ref in delta.dead_letters] == reasons
    assert delta.records == 3


def test_a_transport_fetches_a_corrupt_batch_a_few_times_before_it_gives_it_up() -> None:
    broken = wire(0, [b"a"])
    broken[-1] ^= 0xFF
    thread = BatchConsumerThread.__new__(BatchConsumerThread)
    thread.consumer = SimpleNamespace(transport=SimpleNamespace(max_batch_records=100, max_batch_bytes=1_000))
    thread.transport, thread._corrupt = thread.consumer.transport, {}
    tries = [thread._read(OWN, result(broken)[0]) for _ in range(FETCHES_OF_A_CORRUPT_BATCH)]
    assert [len(batches) for batches in tries] == [0] * (FETCHES_OF_A_CORRUPT_BATCH - 1) + [1]
