"""The newest hours of a pool's demand in memory."""

from __future__ import annotations

from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import ManualClock
from pipeline.engine.types import StepOutput
from pipeline.publish.recent_demand import SPANS, RecentDemand
from pipeline.publish.state import LiveState
from pipeline.testing import closed_window
from tests.publish_feed import POOLS

RATES = st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=300)


@given(RATES)
def test_a_step_is_the_mean_of_what_is_known_of_it(rates: list[float | None]) -> None:
    recent, start = RecentDemand(), 1_800_000_000
    for place, rate in enumerate(rates):
        recent.learn(start + 60 * place, rate)
    end = start + 60 * len(rates)
    for name, (seconds, count) in SPANS.items():
        told = recent.rates(name, end)
        assert len(told.requests_per_second) == count
        assert told.start + count * seconds >= end > told.start + (count - 1) * seconds
        for place, value in enumerate(told.requests_per_second):
            slot = told.start + place * seconds
            known = [r for n, r in enumerate(rates) if r is not None and slot <= start + 60 * n < slot + seconds]
            assert value == (pytest.approx(fsum(known) / len(known)) if known else None)


def test_what_is_not_newer_is_left_out() -> None:
    recent = RecentDemand()
    for start, rate in ((600, 1.0), (600, 9.0), (540, 9.0)):
        recent.learn(start, rate)
    assert [r for r in recent.rates("3h", 660).requests_per_second if r is not None] == [1.0]


def test_the_live_state_keeps_it_for_every_pool_and_takes_the_past_of_the_store() -> None:
    live, (model, pool) = LiveState(ManualClock(7_300.0), POOLS), (POOLS[0].model, POOLS[0].pool)
    live.recall_demand([(model, pool, 6_840, 4.0), ("nobody", "knows", 6_840, 9.0), (model, pool, 7_020, None)])
    window = closed_window(7_200, 120, model=model, pool=pool)
    live.update(StepOutput(7_260, windows=(window,)))
    recent = live.recent_demand("3h")
    assert set(recent) == {(one.model, one.pool) for one in POOLS}
    assert recent[model, pool].requests_per_second[-3:] == (4.0, None, 2.0)  # type: ignore[index]
