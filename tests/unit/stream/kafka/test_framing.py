"""Records found where they lie, compared with what aiokafka's own parser says of the same bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka import conn as aiokafka_conn
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.events.sliced_values import SlicedValues
from pipeline.stream.kafka import wire_bytes
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.fetch import read_columns
from pipeline.stream.kafka.framing import _bounds_of_any, bounds_of, frames_of
from pipeline.stream.kafka.wire_bytes import KeptRecords

Record = tuple[int, bytes | None, bytes | None]
OWN = TopicPartition("t", 0)


def wire(base: int, records: list[Record], codec: int = 0, headers: list[tuple[str, bytes]] | None = None) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 10_000_000)
    for i, (timestamp, key, value) in enumerate(records):
        builder.append(i, timestamp, key, value, headers or [])
    data: bytearray = builder.build()
    data[0:8] = base.to_bytes(8, "big")
    return data


def resealed(data: bytearray) -> bytearray:
    """With the CRC that fits what the bytes are now."""
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return data


def read(data: bytes, position: int = 0, kept: bool = True, most: int = 10**6) -> RecordBatch | None:
    records: Any = KeptRecords(data) if kept else MemoryRecords(data)
    part = fetcher.PartitionRecords(OWN, records, None, position, None, None, True, 0)
    state = SimpleNamespace(position=position, paused=False, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return read_columns(fetcher.FetchResult(OWN, assignment=assignment, partition_records=part, backoff=0), most)


def told(batch: RecordBatch | None) -> Any:
    assert batch is not None
    return (
        batch.first_offset,
        batch.next_offset,
        list(batch.offsets),
        list(batch.timestamps),
        list(batch.sizes),
        batch.keys,
        list(batch.values),
        dict(batch.headers),
        batch.unreadable,
        batch.value_bytes,
    )


BYTES = st.binary(max_size=20) | st.sampled_from([b"x" * 63, b"x" * 64, b"x" * 8_200, b"\0" * 130])
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1 << 20) | st.sampled_from([0, 1 << 27, 1 << 41]),
        st.none() | BYTES,
        BYTES | st.sampled_from([b"v" * 1_000, None]),
    ),
    min_size=1,
    max_size=6,
)


@given(st.lists(RECORDS, min_size=1, max_size=3), st.integers(0, 20), st.integers(0, 3))
@example([[(1, b"k", b"value")], [(2, None, b"another")]], 0, 0)
@example([[(1, b"k", b"v" * 100)] * 3], 2, 0)
@example([[(1, b"k", b"v" * 100), (1 << 41, b"k", b"v" * 100)]], 0, 0)
def test_the_same_as_aiokafka_reads(batches: list[list[Record]], position: int, hole: int) -> None:
    base, data = 0, b""
    for records in batches:
        data += bytes(wire(base, records))
        base += len(records) + hole
    position = min(position, base - hole - 1)
    expected = read(data, position, kept=False)
    found = read(data, position)
    assert told(found) == told(expected)
    assert found is not None
    assert expected is not None
    parts, apart = found.split(2, 900), expected.split(2, 900)
    assert [told(part) for part in parts] == [told(part) for part in apart]


def test_usual_records_are_not_made_into_objects() -> None:
    batch = read(bytes(wire(5, [(1_000 + i, b"k%d" % i, b"value-%d" % i) for i in range(100)])), 5)
    assert batch is not None
    assert isinstance(batch.values, SlicedValues)
    assert batch.values[99] == b"value-99"
    assert batch.offsets == range(5, 105)


@pytest.mark.parametrize("headers", [None, [("h", b"1")]])
@pytest.mark.parametrize("codec", [0, 1])
def test_what_follows_unusual_batches_stays_in_order(headers: Any, codec: int) -> None:
    usual: list[Record] = [(i, b"k", b"a usual value %d" % i) for i in range(5)]
    data = bytes(wire(0, usual) + wire(5, usual, codec, headers) + wire(10, usual))
    assert told(read(data)) == told(read(data, kept=False))


@given(st.integers(61, 400), st.integers(0, 255))
def test_broken_records_under_a_right_crc_are_read_as_aiokafka_reads_them(at: int, byte: int) -> None:
    data = wire(0, [(i, b"key", b"value %d" % i) for i in range(20)])
    data[min(at, len(data) - 1)] = byte
    raw = bytes(resealed(data) + wire(20, [(1, b"k", b"the next one")]))
    assert told(read(raw)) == told(read(raw, kept=False))


@pytest.mark.parametrize("sizes", [(5, 500), (500, 5, 500), (500, 9_000), (9_000, 500, 5, 500)])
def test_lengths_of_one_to_three_bytes_are_usual(sizes: tuple[int, ...]) -> None:
    batch = read(bytes(wire(0, [(1, b"k", b"v" * size) for size in sizes])))
    assert batch is not None
    assert isinstance(batch.values, SlicedValues)
    assert [len(value) for value in batch.values] == list(sizes)


@given(
    st.lists(st.integers(50, 300), min_size=1, max_size=8),
    st.integers(0, 2_000),
    st.integers(0, 255),
    st.integers(0, 9),
)
def test_two_bytes_of_length_are_followed_as_any_others(sizes: list[int], at: int, byte: int, count: int) -> None:
    data = bytearray(b"".join(bytes((0x80 | 2 * size & 0x7F, size >> 6)) + b"\x81" * size for size in sizes))
    data[at % len(data)] = byte
    found = bounds_of(bytes(data), 0, len(data), count)
    expected = _bounds_of_any(bytes(data), 0, len(data), count)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert [column.tolist() for column in found] == [column.tolist() for column in expected]


@given(st.binary(max_size=200), st.integers(0, 12))
def test_any_bytes_are_framed_within_themselves_or_not_at_all(data: bytes, count: int) -> None:
    bounds = bounds_of(data, 0, len(data), count)
    frames = None if bounds is None else frames_of(data, bounds, np.arange(count))
    if frames is not None:
        assert (frames.starts >= 0).all()
        assert (frames.ends >= frames.starts).all()
        assert (frames.ends < len(data)).all()


@pytest.mark.parametrize("hardware", [True, False])
@given(at=st.integers(21, 10_000), bit=st.integers(0, 7))
def test_a_changed_bit_is_noticed(hardware: bool, at: int, bit: int) -> None:
    data = wire(0, [(i, b"key", b"value %d" % i) for i in range(50)])
    data[21 + at % (len(data) - 21)] ^= 1 << bit
    before = wire_bytes._crc32c
    try:
        if not hardware:
            wire_bytes._crc32c = None
        with pytest.raises(CorruptRecordException):
            read(bytes(data))
    finally:
        wire_bytes._crc32c = before


def test_a_changed_crc_is_noticed_in_the_second_batch_too() -> None:
    good, bad = wire(0, [(1, b"k", b"v" * 50)]), wire(1, [(1, b"k", b"v" * 50)])
    bad[18] ^= 1
    batch = read(bytes(good + bad))
    assert batch is not None
    assert batch.next_offset == 1


def test_consumers_of_this_aiokafka_can_be_told_to_keep_bytes() -> None:
    assert hasattr(fetcher, "MemoryRecords")
    assert "MemoryRecords" in fetcher.Fetcher._proc_fetch_request.__code__.co_names
    assert hasattr(aiokafka_conn, "READER_LIMIT")


def test_a_batch_ends_before_the_limit_in_bytes_where_the_next_would_pass_it() -> None:
    data = b"".join(bytes(wire(10 * i, [(1, b"k", b"v" * 100)] * 10)) for i in range(3))
    records = KeptRecords(data)
    part = fetcher.PartitionRecords(OWN, records, None, 0, None, None, True, 0)
    state = SimpleNamespace(position=0, paused=False)
    state.consumed_to = lambda position: setattr(state, "position", position)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = fetcher.FetchResult(OWN, assignment=assignment, partition_records=part, backoff=0)
    found = [read_columns(result, 10**6, 2_500) for _ in range(2)]
    assert [batch.offsets for batch in found if batch is not None] == [range(20), range(20, 30)]


def test_records_laid_out_can_be_followed_by_others() -> None:
    batch = read(bytes(wire(0, [(7, None, b"first value"), (8, b"k", b"second value")])))
    assert batch is not None
    batch.extend([SimpleNamespace(offset=2, timestamp=9, key=b"j", value=None, headers=[("h", b"1")])])
    assert list(batch.values) == [b"first value", b"second value", None]
    assert batch.keys == [None, b"k", b"j"]
    assert list(batch.timestamps) == [7, 8, 9]
    assert batch.headers == {2: [("h", b"1")]}
    assert batch.value_bytes == 23
    batch.release()
    assert (len(batch), batch.keys, list(batch.sizes)) == (0, [], [])


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_older_formats_are_read_as_aiokafka_reads_them(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 10_000)
    for offset in range(3):
        builder.append(offset, 7 + offset, b"k", b"an old value %d" % offset)
    old, new = bytes(builder.build()), bytes(wire(3, [(1, b"k", b"a new value")] * 3))
    for raw in (old, old + new):
        assert told(read(raw)) == told(read(raw, kept=False))
        assert list(read(raw).offsets)[:3] == [0, 1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("newest", [-1, -5, 1_790_000_000_000])
def test_the_time_of_the_log_is_taken_whatever_it_is(newest: int) -> None:
    data = wire(0, [(5, b"k", b"value one"), (6, b"k", b"value two")])
    data[22] |= 8
    data[35:43] = newest.to_bytes(8, "big", signed=True)
    raw = bytes(resealed(data) + wire(2, [(9, b"k", b"value three")]))
    assert list(read(raw).timestamps) == [newest, newest, 9]  # type: ignore[union-attr]


def test_offsets_that_were_there_already_are_left_out() -> None:
    usual: list[Record] = [(i, b"k", b"a usual value %d" % i) for i in range(5)]
    raw = bytes(wire(0, usual) + wire(3, usual) + wire(0, usual))
    assert told(read(raw)) == told(read(raw, kept=False))
    assert list(read(raw).offsets) == list(range(8))  # type: ignore[union-attr]


def test_a_length_of_more_than_four_bytes_is_left_to_aiokafka() -> None:
    # A number of five bytes; the record is as long as if it had sixteen.
    value = bytes([0xA8, 0x80, 0x80, 0x80, 0x00]) + b"v" * 20 + b"\0" * 12
    body = bytes([0, 0, 0, 1]) + value
    data = wire(0, [(0, b"k", b"v" * 20)])
    raw = bytearray(data[:61] + bytes([2 * len(body)]) + body)
    raw[8:12] = (len(raw) - 12).to_bytes(4, "big")
    raw = resealed(raw) + wire(1, [(1, b"k", b"the next one")])
    assert told(read(bytes(raw))) == told(read(bytes(raw), kept=False))


@pytest.mark.parametrize("kept", [True, False])
def test_an_unreadable_batch_behind_a_great_hole_has_its_dead_letters(kept: bool) -> None:
    data = wire(30_000_000, [(1, b"k", b"value %d" % i) for i in range(3)])
    data[65] = 0x7F  # the length of the first record's key does not fit
    batch = read(bytes(resealed(data)), kept=kept)
    assert batch is not None
    assert (list(batch.unreadable), batch.next_offset) == ([30_000_000, 30_000_001, 30_000_002], 30_000_003)


def test_a_control_batch_that_compaction_has_emptied_ends_no_transaction() -> None:
    data = wire(0, [(1, b"k", b"v")])[:61]
    data[8:12] = (len(data) - 12).to_bytes(4, "big")
    data[22] |= 0x30
    data[43:51] = (7).to_bytes(8, "big")
    data[57:61] = bytes(4)
    raw = bytes(resealed(data) + wire(1, [(1, b"k", b"the next one")]))
    records = KeptRecords(raw)
    part = fetcher.PartitionRecords(OWN, records, [], 0, None, None, True, fetcher.READ_COMMITTED)
    state = SimpleNamespace(position=0, paused=False, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    batch = read_columns(fetcher.FetchResult(OWN, assignment=assignment, partition_records=part, backoff=0), 10)
    assert batch is not None
    assert list(batch.offsets) == [1]
