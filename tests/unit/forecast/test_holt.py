"""Holt's smoothing, against River's."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.experts.holt import Holt

RATES = st.floats(0.01, 1.0)


@pytest.mark.slow  # River brings SciPy's statistics
@given(st.lists(st.floats(0.0, 1e6), min_size=2, max_size=30), RATES, RATES)
def test_it_is_that_of_river_bit_for_bit(values: list[float], alpha: float, beta: float) -> None:
    from river.time_series import HoltWinters

    own, rivers = Holt(alpha, beta), HoltWinters(alpha=alpha, beta=beta)
    for value in values:
        own.learn_one(value)
        rivers.learn_one(value)
        own = pickle.loads(pickle.dumps(own))
    assert own.forecast(3) == rivers.forecast(3)
    assert own.forecast_at([1, 3]) == own.forecast(3)[::2]


def test_one_value_is_too_few() -> None:
    model = Holt(0.3, 0.05)
    model.learn_one(1.0)
    with pytest.raises(ValueError, match="too few"):
        model.forecast(1)
