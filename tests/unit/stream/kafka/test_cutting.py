from __future__ import annotations

from faust.types import TP

from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.cutting import cut


def batch() -> RecordBatch:
    made = RecordBatch(TP("t", 3), 10)
    made.next_offset = 30
    made.offsets = [10, 11, 15, 20, 28]  # compaction leaves holes
    made.timestamps = [1, 2, 3, 4, 5]
    made.keys = [b"a", None, b"c", b"d", b"e"]
    made.values = [b"0", b"1", b"2", b"3", None]
    made.headers = {1: [("h", b"1")], 3: [("h", b"3")]}
    made.epoch, made.generation_id, made.caught_up = 4, 9, True
    return made


def test_nothing_to_cut_gives_the_batch_itself() -> None:
    whole = batch()
    assert cut(whole, []) == [whole]
    assert cut(whole, [3, 10, 30, 99]) == [whole]


def test_the_parts_cover_the_same_offsets_and_end_at_the_cuts() -> None:
    parts = cut(batch(), [5, 15, 17, 30])
    assert [(p.first_offset, p.next_offset, p.offsets) for p in parts] == [
        (10, 15, [10, 11]),
        (15, 17, [15]),
        (17, 30, [20, 28]),
    ]
    assert [p.values for p in parts] == [[b"0", b"1"], [b"2"], [b"3", None]]
    assert [p.keys for p in parts] == [[b"a", None], [b"c"], [b"d", b"e"]]
    assert [p.timestamps for p in parts] == [[1, 2], [3], [4, 5]]
    assert [p.headers for p in parts] == [{1: [("h", b"1")]}, {}, {0: [("h", b"3")]}]
    assert all((p.tp, p.epoch, p.generation_id) == (TP("t", 3), 4, 9) for p in parts)
    assert [p.caught_up for p in parts] == [False] * (len(parts) - 1) + [True]
