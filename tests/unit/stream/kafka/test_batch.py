from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.kafka.batch import RecordBatch


def record(offset: int, headers: tuple[tuple[str, bytes], ...] = ()) -> SimpleNamespace:
    return SimpleNamespace(offset=offset, timestamp=offset * 10, key=None, value=b"%d" % offset, headers=headers)


def batch(offsets: list[int], first: int, after: int) -> RecordBatch:
    made = RecordBatch(TP("t", 3), first)
    made.extend(record(offset, (("o", b"%d" % offset),) if offset % 2 else ()) for offset in offsets)
    made.next_offset = after
    return made


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 50), st.integers(0, 5), st.integers(1, 5))
def test_split_covers_the_same_offsets_and_records(found: set[int], limit: int, before: int, after: int) -> None:
    offsets = sorted(found)
    whole = batch(offsets, max(0, offsets[0] - before), offsets[-1] + after)
    whole.epoch, whole.caught_up = 7, True
    parts = whole.split(limit)
    assert parts[0].first_offset == whole.first_offset
    assert parts[-1].next_offset == whole.next_offset
    assert all(a.next_offset == b.first_offset for a, b in pairwise(parts))
    assert [o for part in parts for o in part.offsets] == offsets
    assert [v for part in parts for v in part.values] == whole.values
    assert all(part.first_offset <= o < part.next_offset for part in parts for o in part.offsets)
    assert all(len(part) <= limit + limit // 4 for part in parts)
    assert {part.epoch for part in parts} == {7}
    assert [part.caught_up for part in parts] == [False] * (len(parts) - 1) + [True]
    headers = {part.offsets[i]: h for part in parts for i, h in part.headers.items()}
    assert headers == {o: (("o", b"%d" % o),) for o in offsets if o % 2}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 100), st.integers(1, 20))
def test_split_bounds_the_bytes_too(sizes: list[int], most_bytes: int, most_records: int) -> None:
    whole = RecordBatch(TP("t", 3), 0)
    whole.extend(
        SimpleNamespace(offset=i, timestamp=i, key=None, value=None if n == 0 else b"x" * n, headers=())
        for i, n in enumerate(sizes)
    )
    whole.next_offset = len(sizes)
    assert whole.value_bytes == sum(sizes)
    parts = whole.split(most_records, most_bytes)
    assert [v for part in parts for v in part.values] == whole.values
    assert all(a.next_offset == b.first_offset for a, b in pairwise(parts))
    assert [o for part in parts for o in part.offsets] == list(range(len(sizes)))
    assert all(part.value_bytes == sum(len(v or b"") for v in part.values) for part in parts)
    assert all(part.value_bytes <= most_bytes or sum(v is not None for v in part.values) == 1 for part in parts)
    assert all(len(part) <= most_records + most_records // 4 for part in parts)


def test_a_batch_without_records_still_covers_offsets() -> None:
    empty = batch([], 10, 12)
    assert len(empty) == 0
    assert empty.offset == 11
    assert empty.split(5) == [empty]


def test_headers_are_looked_up_without_a_look_at_every_record() -> None:
    made = batch([1, 2, 3], 1, 4)
    looked_up = made.headers_at
    assert [list(looked_up.get(i, ())) for i in range(3)] == [[("o", b"1")], [], [("o", b"3")]]
    assert dict(made.headers) == {0: (("o", b"1"),), 2: (("o", b"3"),)}
    assert made.headers_at is made.headers, "once they are known"
