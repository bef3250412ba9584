"""A live queue as a fluid: what serves and starts works it off, what is left needs more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.planning.plan import Planner
from sizing.scaling.live_queue import ClearingCost, LiveQueue, ServingFleet, backlog, clearing_replicas, queue_need
from sizing.scaling.situation import Situation
from sizing.types import Demand, Deployment, Slo, Workload

PLANNER = Planner(Deployment("llama-3.1-8b", "h100-sxm"), Slo())
#: One replica carries 8 requests/s within the objective and serves 10/s while requests wait.
POINT = replace(
    PLANNER.operating_point(Workload(1000, 200)), requests_per_second=8.0, saturation_requests_per_second=10.0
)

TIMES = st.none() | st.integers(0, 400).map(float)
FLEETS = st.builds(ServingFleet, st.integers(0, 20), st.lists(TIMES, max_size=8), st.integers(0, 300).map(float))
QUEUES = st.integers(1, 10_000)
RATES = st.integers(0, 300).map(float)


def need(queued: int | None, fleet: ServingFleet | None, rate: float | None = 20.0, ttft: float | None = 1.0) -> int:
    """What is needed; 0: nothing."""
    return queue_need(queued, fleet, rate, POINT, ttft) or 0


def test_the_backlog_when_a_replica_ordered_now_serves() -> None:
    """30/s come, two replicas serve 20/s: 10/s more for 60 s, then one more serves and nothing grows."""
    assert backlog(100, 30.0, 10.0, ServingFleet(2, (), 180.0)) == 1_900
    assert backlog(100, 30.0, 10.0, ServingFleet(2, (60.0,), 180.0)) == 700
    assert backlog(100, 30.0, 10.0, ServingFleet(2, (60.0, 60.0), 180.0)) == 0, "never below zero"
    assert backlog(0, 30.0, 10.0, ServingFleet(0, (60.0, 60.0, 60.0, 60.0, 90.0), 100.0)) == 1_300


def test_a_replica_that_starts_at_an_unknown_time_or_late_serves_no_sooner_than_one_ordered_now() -> None:
    late = ServingFleet(1, (None, -5.0, 0.0, 500.0, 20.0), 100.0)
    assert late.joining_seconds() == [20.0, 100.0, 100.0, 100.0, 100.0]
    assert str(late) == "1 replica, 5 more start"


def test_what_serves_and_starts_is_not_ordered_again() -> None:
    queued = 600
    assert need(queued, ServingFleet(2, (), 180.0)) == 3, "20/s and 600 in a minute by 10/s each"
    assert need(queued, ServingFleet(2, (60.0,), 180.0)) == 0, "120 s of 10/s more work off all but what is left"
    assert need(queued, ServingFleet(2, (170.0,), 180.0)) == 3
    # A crowd that two replicas cannot hold, with many that serve and with few.
    assert need(1_000, ServingFleet(2, (), 180.0), 60.0) == 20
    assert need(1_000, ServingFleet(7, (), 180.0), 60.0) == 0, "they work it off before others could"
    assert need(100, ServingFleet(5, (), 180.0), 60.0) == 10, "by then 1,900 wait"


def test_a_backlog_of_a_long_start_up_is_worked_off_as_cheaply_as_possible() -> None:
    """30/s come, one replica serves: 12,001 wait after 600 s. A minute would need 20 replicas beside three, and one."""
    cost = ClearingCost(under_to_over=9.0, kept_seconds=300.0)
    fleet = ServingFleet(1, (), 600.0)
    assert queue_need(1, fleet, 30.0, POINT, 1.0) == 24
    assert queue_need(1, fleet, 30.0, POINT, 1.0, cost) == 10, "3 + sqrt(9 * 3 * 1,200.1 / 900)"
    assert queue_need(1, ServingFleet(2, (), 60.0), 30.0, POINT, 1.0, cost) == 5, "601 in a minute"
    assert queue_need(1, fleet, 30.0, POINT, 1.0, ClearingCost(1e9, 300.0)) == 24, "never faster than in a minute"


@given(st.floats(1.0, 1e4), st.floats(1.0, 50.0), st.floats(60.0, 3_000.0), st.floats(0.1, 99.0))
def test_no_other_number_of_replicas_clears_more_cheaply(
    backlog_seconds: float, carried: float, paid_seconds: float, ratio: float
) -> None:
    def cost(replicas: float) -> float:
        return replicas * paid_seconds + ratio * carried * backlog_seconds / replicas

    best = clearing_replicas(backlog_seconds, carried, paid_seconds, ratio)
    assert cost(best) <= min(cost(0.9 * best), cost(1.1 * best))


def test_replicas_that_work_off_a_queue_are_busy_by_how_it_shrinks() -> None:
    queue = LiveQueue(PLANNER, 1.0)
    queue._point = POINT
    fleet = ServingFleet(4)
    assert queue.busy_with(0.0, 3_000, fleet) == 0.0, "nothing is known yet"
    assert queue.busy_with(60.0, 1_800, fleet) == 2.0, "20/s by replicas of 10/s"
    assert queue.busy_with(120.0, 1_900, fleet) == 0.0, "it has not shrunk"
    assert queue.busy_with(180.0, 30, fleet) == 0.0, "shorter than the objective allows"
    assert queue.busy_with(240.0, None, fleet) == 0.0
    assert queue.busy_with(300.0, 9_000, fleet) == 0.0, "before was not known"
    assert queue.busy_with(360.0, 3_000, fleet) == 4.0, "no more than serve"


def test_without_what_is_known_nothing_is_asked_for() -> None:
    fleet = ServingFleet(2, (), 180.0)
    assert [need(queued, fleet) for queued in (None, 0, -5)] == [0, 0, 0]
    assert need(600, None) == 0
    assert queue_need(600, fleet, 20.0, None, 1.0) is None
    assert queue_need(600, ServingFleet(0), 20.0, None, 1.0) == 1
    assert need(600, ServingFleet(0, (), 0.0), 0.0) == 1
    assert need(2_000, fleet, None) == 6, "arrivals are what two serve; 2,000 in a minute need 3.3 more"
    assert need(2_000, fleet, float("nan")) == 6
    assert need(600, fleet, 20.0, None) == 0, "a minute stands for an objective that there is none of"


def test_a_queue_before_the_first_plan_is_sized_by_the_requests_seen() -> None:
    queue = LiveQueue(PLANNER, 1.0)
    fleet = ServingFleet(1, (), 100.0)
    assert queue.need(100_000, fleet, 5.0, None, None) is None
    demand = Demand((0.5,), (5.0,), Workload(1000, 200), 60.0)
    first = queue.need(100_000, fleet, 5.0, None, demand)
    assert first is not None
    assert first > 1
    assert queue.need(100_000, fleet, 5.0, None, None) == first, "what was learned stays known"
    assert LiveQueue(None, 1.0).need(100_000, fleet, 5.0, None, demand) is None


@given(QUEUES, QUEUES, FLEETS, RATES, RATES)
def test_more_queue_or_more_arrivals_never_need_fewer(
    queued: int, more: int, fleet: ServingFleet, rate: float, faster: float
) -> None:
    assert need(queued + more, fleet, rate) >= need(queued, fleet, rate)
    assert need(queued, fleet, rate + faster) >= need(queued, fleet, rate)


@given(QUEUES, FLEETS, RATES | st.none(), TIMES)
def test_one_more_that_starts_or_serves_never_needs_more(
    queued: int, fleet: ServingFleet, rate: float | None, seconds: float | None
) -> None:
    more = replace(fleet, starting_seconds=(*fleet.starting_seconds, seconds))
    assert need(queued, more, rate) <= need(queued, fleet, rate)
    if rate is not None:
        assert need(queued, replace(fleet, ready=fleet.ready + 1), rate) <= need(queued, fleet, rate)
    sooner = replace(fleet, starting_seconds=tuple(None if s is None else s / 2 for s in fleet.starting_seconds))
    assert need(queued, sooner, rate) <= need(queued, fleet, rate)


@given(QUEUES, FLEETS, RATES)
def test_the_backlog_is_what_a_step_by_step_simulation_leaves(queued: int, fleet: ServingFleet, rate: float) -> None:
    joining, left = fleet.joining_seconds(), float(queued)
    for second in range(int(fleet.start_up_seconds)):
        serving = fleet.ready + sum(at <= second for at in joining)
        left = max(left + rate - 10.0 * serving, 0.0)
    assert backlog(queued, rate, 10.0, fleet) == pytest.approx(left, abs=1e-6)


def test_what_comes_and_what_serves_by_what_is_known() -> None:
    demand = Demand((0.5,), (5.0,), Workload(1000, 200), 60.0, observed_requests_per_second=5.0)
    assert Situation().arrivals_per_second(None) is None
    assert Situation().arrivals_per_second(demand) == 5.0
    assert Situation(newest_requests_per_second=9.0).arrivals_per_second(demand) == 9.0
    assert Situation(newest_requests_per_second=2.0).arrivals_per_second(demand) == 5.0, "never less than observed"
    assert Situation(newest_requests_per_second=2.0).arrivals_per_second(None) == 2.0
    assert Situation().fleet(None, 120.0) is None
    assert Situation().fleet(3, 120.0) == ServingFleet(3, (), 120.0), "the lead time stands for the start-up"
    told = Situation(ready=1, starting_seconds=(30.0, None), start_up_seconds=90.0)
    assert told.fleet(3, 120.0) == ServingFleet(1, (30.0, None), 90.0)
