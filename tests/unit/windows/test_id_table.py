"""The table of ids against a dictionary."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.byte_columns import hashes_of
from pipeline.windows.id_table import IdTable


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=8), st.booleans())
def test_like_a_dictionary(batches, crowded):
    table, truth, clock = IdTable(), {}, 0
    if crowded:
        table._salts = [np.uint64(0)] * 2  # all want one slot
    for names in batches:
        ids = hashes_of([f"id-{name}" for name in names])
        values = np.arange(clock, clock + len(names), dtype=np.uint32)
        clock += len(names)
        expected = []
        for name, value in zip(names, values.tolist(), strict=True):
            expected.append(truth.get(name, -1))
            truth[name] = value
        assert table.put(ids, values).tolist() == expected
        assert len(table) == len(truth)
    every = hashes_of([f"id-{name}" for name in range(50)])
    assert table.find(every).tolist() == [truth.get(name, -1) for name in range(50)]


def test_growing_keeps_what_was_noted_and_clearing_keeps_the_memory():
    table = IdTable()
    ids = hashes_of([f"id-{i}" for i in range(20_000)])
    for start in range(0, 20_000, 500):
        table.put(ids[start : start + 500], np.arange(start, start + 500, dtype=np.uint32))
    assert table.find(ids).tolist() == list(range(20_000))
    size = table.nbytes
    assert size <= 20_000 * 8 * 20
    table.clear()
    assert len(table) == 0
    assert (table.find(ids) == -1).all()
    table.put(ids, np.arange(20_000, dtype=np.uint32))
    assert table.nbytes == size


def test_chosen_ids_do_not_share_a_place():
    rows = np.arange(20_000, dtype=np.uint64)
    same_first = np.stack((np.full(20_000, 7, np.uint64), 2 * rows + 1), axis=1)
    same_top = np.stack((rows, np.full(20_000, 1, np.uint64)), axis=1)
    tables = [IdTable() for _ in range(2)]
    for table in tables:
        table._make(1 << 16)
    for ids in (same_first, same_top):
        homes = [table._home(ids) for table in tables]
        assert all(len(set(home.tolist())) > 100 for home in homes)
        assert (homes[0] != homes[1]).any(), "nobody knows the places beforehand"
    assert tables[0].put(same_first, rows.astype(np.uint32)).max() == -1
    assert tables[0].find(same_first).tolist() == rows.tolist()
