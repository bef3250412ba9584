"""Duplicates are a property of the log, whatever the batches and restarts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.byte_columns import hashes_of
from pipeline.windows.dedupe import Deduplicator as Hashed


class Deduplicator(Hashed):
    """Told ids as texts."""

    def first_seen(self, ids, offsets):
        return super().first_seen(hashes_of(ids), offsets)


def oracle(ids, offsets, horizon):
    return [
        not any(ids[j] == ids[i] and offsets[i] - horizon <= offsets[j] < offsets[i] for j in range(i))
        for i in range(len(ids))
    ]


def test_within_a_batch_and_across_batches():
    memory = Deduplicator(100)
    assert memory.first_seen(["a", "b", "a"], [0, 1, 2]).tolist() == [True, True, False]
    assert memory.first_seen(["b", "c"], [3, 4]).tolist() == [False, True]


def test_an_id_counts_again_beyond_the_horizon():
    memory = Deduplicator(10)
    memory.first_seen(["a"], [0])
    assert memory.first_seen(["a"], [11]).tolist() == [True]
    assert memory.first_seen(["a"], [21]).tolist() == [False]


def test_zero_turns_it_off():
    assert Deduplicator(0).first_seen(["a", "a"], [0, 1]).all()


def test_negative_horizon():
    with pytest.raises(ValueError, match="negative"):
        Deduplicator(-1)


def test_memory_is_bounded():
    memory = Deduplicator(1_000)
    for start in range(0, 50_000, 500):
        memory.first_seen([f"id{i}" for i in range(start, start + 500)], range(start, start + 500))
        assert len(memory) <= 2_000


LOG = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4)), min_size=1, max_size=60)


@settings(deadline=None)
@given(LOG, st.integers(1, 12), st.lists(st.integers(0, 60)), st.integers(0, 60))
def test_batches_and_restarts_do_not_matter(log, horizon, cuts, restart):
    ids = [name for name, _ in log]
    offsets = np.cumsum([step for _, step in log]).tolist()
    expected = oracle(ids, offsets, horizon)
    memory = Deduplicator(horizon)
    edges = sorted({0, len(ids), *(c for c in cuts if c < len(ids))})
    got = [value for a, b in pairwise(edges) for value in memory.first_seen(ids[a:b], offsets[a:b]).tolist()]
    assert got == expected
    # A new instance that reads the horizon before its start decides alike from there on.
    start = min(restart, len(ids) - 1)
    first = next(i for i, o in enumerate(offsets) if o >= offsets[start] - horizon)
    fresh = Deduplicator(horizon)
    fresh.first_seen(ids[first:start], offsets[first:start])
    assert fresh.first_seen(ids[start:], offsets[start:]).tolist() == expected[start:]


def test_seeking_back_starts_afresh():
    memory = Deduplicator(100)
    memory.first_seen(["a", "b"], [10, 11])
    assert memory.first_seen(["a", "b"], [10, 11]).tolist() == [True, True]
