from __future__ import annotations

import math

import pytest

from sizing.replica.root_finding import narrow


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-13])
def test_the_zero_is_between_the_ends_and_they_are_near(tolerance: float) -> None:
    for zero in (1e-5, 0.3, 1.0, 77.0, 999.0):
        for power in (0.5, 1.0, 3.0):

            def function(x: float, zero: float = zero, power: float = power) -> float:
                return x**power - zero**power

            low, high = narrow(function, 0.0, 1000.0, function(0.0), function(1000.0), tolerance)
            assert function(low) <= 0 < function(high)
            assert high - low <= tolerance * high


def test_few_evaluations_of_what_is_smooth() -> None:
    asked = []

    def function(x: float) -> float:
        asked.append(x)
        return math.log(0.01 + 1.0 / (100.0 - x))

    narrow(function, 1e-4, 99.9, function(1e-4), function(99.9), 1e-6)
    assert len(asked) < 20  # bisecting takes 27


def test_jumps_and_infinities_are_bisected() -> None:
    def function(x: float) -> float:
        return -math.inf if x < 2.0 else -1.0 if x < 3.0 else math.inf

    low, high = narrow(function, 0.0, 8.0, -math.inf, math.inf, 1e-9)
    assert low < 3.0 <= high
    assert high - low <= 3e-9


def test_a_zero_at_the_low_end_itself_ends() -> None:
    low, high = narrow(lambda x: x, 0.0, 1.0, 0.0, 1.0, 1e-6)
    assert low == 0.0
    assert high < 1e-9
