from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.publish.http.allowance import Allowance


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 10)), max_size=50))
def test_what_is_used_never_exceeds_the_share_and_the_burst(steps):
    clock = Clock()
    allowance = Allowance(0.25, 2.0, clock)
    used = 0.0
    for cost, pause in steps:
        clock.now += pause
        wait = allowance.wait_seconds()
        assert 0 <= wait <= 2.0 / 0.25
        clock.now += wait
        assert used <= 2.0 + 0.25 * (clock.now - 100.0) + 1e-6
        allowance.spend(min(cost, 2.0))  # more than that one query cannot owe
        used += min(cost, 2.0)


def test_a_query_runs_and_is_paid_for_also_when_it_fails():
    allowance = Allowance(0.5, 1e-6, Clock())
    assert allowance.run(lambda: sum(range(100_000))) == 4999950000
    assert allowance.wait_seconds() > 0
    allowance.end()  # nobody waits any more
    with pytest.raises(ZeroDivisionError):
        allowance.run(lambda: 1 / 0)
