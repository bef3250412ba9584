"""Numbers of the places of a cycle, which take memory from when they were seen."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.season_column import SeasonColumn


@given(st.lists(st.tuples(st.integers(0, 49), st.floats(-100.0, 100.0, width=32)), max_size=120))
def test_it_is_an_array_whose_places_are_nan_until_they_are_set(settings: list[tuple[int, float]]) -> None:
    column, array = SeasonColumn(50, np.float32), np.full(50, np.nan, dtype=np.float32)
    for place, number in settings:
        column[place] = number
        array[place] = number
        assert column[place] == number
    every = np.arange(50)
    assert np.array_equal(column.take(every), array, equal_nan=True)
    assert column.take(every).dtype == np.float32
    assert np.array_equal(np.array([column[place] for place in range(50)]), array, equal_nan=True)
    assert sorted(column.known().tolist()) == sorted(array[np.isfinite(array)].tolist())
    restored = pickle.loads(pickle.dumps(column))
    assert np.array_equal(restored.take(every), array, equal_nan=True)


@pytest.mark.parametrize(("set_places", "most"), [(0, 8), (60, 400), (1_440, 6_000), (5_000, 6_000)])
def test_it_takes_memory_for_what_was_seen(set_places: int, most: int) -> None:
    column = SeasonColumn(1_440, np.float32)
    for place in range(700, 700 + set_places):
        column[place % 1_440] = 1.0
    assert column._numbers.nbytes <= most


def test_half_precision_is_kept() -> None:
    column = SeasonColumn(4, np.float16)
    column[3] = 0.1
    assert column[3] == float(np.float16(0.1))
    column[0] = 1e-9
    assert column[0] == 0.0
