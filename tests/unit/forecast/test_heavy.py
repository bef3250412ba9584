"""Space-saving counters."""

import math

import numpy as np
import pytest

from pipeline.forecast.heavy import HeavyHitters


def test_counts_are_exact_while_there_is_room():
    heavy = HeavyHitters(4, half_life=1e9)
    heavy.learn({"a": 6.0, "b": 3.0})
    heavy.learn({"a": 0.0, "c": 1.0})
    assert heavy.shares() == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})
    assert list(heavy.shares()) == ["a", "b", "c"]


def test_the_heavy_are_found_among_many_and_memory_is_bounded():
    random = np.random.default_rng(1)
    heavy = HeavyHitters(32, half_life=1e9)
    for step in range(400):
        noise = {f"n{number}": 1.0 for number in random.integers(0, 10_000, 20)}
        heavy.learn(noise | {"big": 20.0, "middle": 8.0, f"once-{step}": 1.0})
    shares = heavy.shares()
    assert len(shares) == 32
    assert list(shares)[:2] == ["big", "middle"]
    truth = 20.0 / (20.0 + 8.0 + 21.0)
    assert truth <= shares["big"] <= truth + 1.0 / 32


def test_old_counts_are_forgotten():
    heavy = HeavyHitters(4, half_life=10.0)
    heavy.learn({"old": 1000.0})
    for _ in range(200):
        heavy.learn({"new": 1.0})
    assert heavy.shares()["old"] < 0.01


def test_others_count_in_the_total_alone():
    heavy = HeavyHitters(4, half_life=1e9)
    heavy.learn({"a": 1.0}, 3.0)
    heavy.learn({}, math.nan)
    heavy.learn({}, -1.0)
    assert heavy.shares() == pytest.approx({"a": 0.25})


def test_the_order_of_names_does_not_matter_and_nonsense_is_left_out():
    one, two = HeavyHitters(2, 5.0), HeavyHitters(2, 5.0)
    one.learn({"a": 1.0, "b": 1.0, "c": 1.0})
    two.learn({"c": 1.0, "b": 1.0, "a": 1.0, "d": math.nan, "e": -1.0, "f": math.inf})
    assert one.shares() == two.shares()


def test_weights_do_not_overflow():
    heavy = HeavyHitters(2, half_life=1.0)
    for _ in range(5000):
        heavy.learn({"a": 3.0, "b": 1.0})
    assert heavy.shares() == pytest.approx({"a": 0.75, "b": 0.25})


@pytest.mark.parametrize("arguments", [(0, 1.0), (1, 0.0), (1, math.nan)])
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="counters"):
        HeavyHitters(*arguments)
