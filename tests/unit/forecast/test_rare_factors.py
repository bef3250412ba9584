"""Factors that are nearly all one."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.rare_factors import RareFactors

PLACES = 50
SET = st.lists(st.tuples(st.integers(0, PLACES - 1), st.sampled_from([1.0, 1.0001, 0.5, 1.3, 3.7])), max_size=60)


@given(SET)
def test_they_are_those_of_an_array_in_half_precision(changes: list[tuple[int, float]]) -> None:
    factors, array = RareFactors(), np.ones(PLACES, dtype=np.float16)
    for place, factor in changes:
        factors[place] = array[place] = factor
    factors = pickle.loads(pickle.dumps(factors))
    assert [factors[place] for place in range(PLACES)] == array.tolist()
    assert factors.take(np.arange(PLACES)).tolist() == array.tolist()


def test_what_is_one_again_takes_nothing() -> None:
    factors = RareFactors()
    empty = len(pickle.dumps(factors))
    for place in range(PLACES):
        factors[place] = 2.0
    for place in range(PLACES):
        factors[place] = 1.0
    assert len(pickle.dumps(factors)) == empty
