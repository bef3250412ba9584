from __future__ import annotations

import math

import numpy as np
import pytest

from sizing.errors import InvalidInput
from sizing.replica.distributions import (
    combine_deviations,
    decode_spread,
    length_quantile,
    normal_quantile,
    squared_variation,
)
from sizing.replica.queueing import StateDependentQueue, erlang_c, general_wait


def test_erlang_c_against_the_textbook_sum() -> None:
    for servers, offered in ((1, 0.5), (2, 1.5), (10, 8.0), (50, 45.0)):
        tail = offered**servers / math.factorial(servers) * servers / (servers - offered)
        head = sum(offered**k / math.factorial(k) for k in range(servers))
        assert erlang_c(servers, offered) == pytest.approx(tail / (head + tail))


def test_erlang_c_does_not_overflow_and_saturates() -> None:
    assert 0 < erlang_c(2000, 1990.0) < 1
    assert erlang_c(3, 3.0) == 1.0
    assert erlang_c(3, 0.0) == 0.0
    with pytest.raises(InvalidInput):
        erlang_c(0, 1.0)
    with pytest.raises(InvalidInput):
        erlang_c(2, float("nan"))


def test_servers_that_slow_down_make_more_wait() -> None:
    linear = np.arange(1, 11, dtype=float)
    # Same capacity when full, faster below it: fewer arrivals find everything full.
    concave = linear[-1] * (linear / linear[-1]) ** 0.5
    assert StateDependentQueue(concave).wait_probability(8.0) < StateDependentQueue(linear).wait_probability(8.0)


def test_mm1_wait() -> None:
    wait = general_wait(0.5, 1.0, 0.5, 1.0, 1.0)
    assert wait.mean_seconds == pytest.approx(1.0)
    assert wait.quantile_seconds(0.5) == pytest.approx(0.0)
    assert wait.quantile_seconds(0.99) == pytest.approx(math.log(0.5 / 0.01) / 0.5)
    assert general_wait(1.0, 1.0, 1.0, 1.0, 1.0).quantile_seconds(0.9) == math.inf


def test_length_quantiles() -> None:
    assert length_quantile(100.0, None, 0.95) == 100.0
    assert length_quantile(100.0, 9_999.0, 0.95) == 100.0
    rng = np.random.default_rng(1)
    sample = rng.lognormal(5.0, 0.8, 200_000)
    estimate = length_quantile(float(sample.mean()), float((sample**2).mean()), 0.95)
    assert estimate == pytest.approx(np.quantile(sample, 0.95), rel=0.03)
    assert squared_variation(10.0, 200.0) == pytest.approx(1.0)


def test_deviations_and_spread() -> None:
    assert combine_deviations(1.0, math.inf) == math.inf
    assert combine_deviations(-3.0, 0.0) == -3.0
    assert decode_spread(0.2, 0.99) == pytest.approx(1.04)
    assert decode_spread(1.0, 0.99) == pytest.approx(1.23)
    assert decode_spread(1.0, 0.5) == 1.0
    with pytest.raises(InvalidInput):
        normal_quantile(1.0)
