"""What raises advice between two decisions, alone and in the controller."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.scaling.controller import ReplicaController
from sizing.scaling.raises import Saturated
from sizing.scaling.situation import Situation
from sizing.types import Demand, Deployment, PolicyConfig, Reason, Recommendation, RecommendationState, Slo, Workload

CHAT = Workload(1000, 200)
POLICY = PolicyConfig(min_replicas=1, max_replicas=40)


def controller(policy: PolicyConfig = POLICY) -> ReplicaController:
    return ReplicaController("chat", "eu", Deployment("llama-3.1-8b", "h100-sxm"), Slo(), policy, "hash", "H100")


PLANNER = controller().planner
assert PLANNER is not None
POINT = PLANNER.operating_point(CHAT)


def demand(replicas: float) -> Demand:
    """Demand that needs ``replicas`` at every quantile, and that is observed."""
    rate = replicas * POINT.requests_per_second
    return Demand((0.1, 0.5, 0.9), (rate,) * 3, CHAT, 120.0, observed_requests_per_second=rate)


def counted(needed: float, replicas: float) -> Demand:
    """The same, with what needs ``replicas`` counted since."""
    return counted_on(demand(needed), replicas)


def counted_on(demand: Demand, replicas: float) -> Demand:
    return replace(demand, observed_requests_per_second=replicas * POINT.requests_per_second)


def fleet(ready: int, queued: int | None = None, newest: float | None = None) -> Situation:
    return Situation(
        ready=ready,
        queued_requests=queued,
        start_up_seconds=120.0,
        newest_requests_per_second=newest,
        window_seconds=60.0,
    )


def decided(needed: float, current: int, policy: PolicyConfig = POLICY) -> ReplicaController:
    """After a first decision at 0."""
    found = controller(policy)
    found.decide(0.0, demand(needed), current, gap=False, warm=True, situation=fleet(current))
    return found


def test_what_was_counted_raises_between_two_windows() -> None:
    subject = decided(2.5, 3)
    said = subject.revise(15.0, counted(2.5, 4.5), 3, situation=fleet(3), counted=True)
    assert said is not None
    assert (said.desired, said.reason, said.direction) == (5, Reason.OBSERVED_UP, "up")
    assert said.state is RecommendationState.FRESH
    assert (said.issued_at, said.expires_at) == (15.0, 15.0 + POLICY.ttl_seconds)
    assert said.generation == 2
    assert said.message.startswith("between two windows: ")
    assert said.evidence["capacity_requests_per_second_per_replica"] == POINT.requests_per_second
    assert said.lower <= 5 <= said.upper
    assert subject.revise(30.0, counted(2.5, 4.5), 3, situation=fleet(3), counted=True) is None, "the same says no more"


def test_the_next_decision_goes_on_from_what_was_raised() -> None:
    subject = decided(2.5, 3)
    subject.revise(45.0, counted(2.5, 4.5), 3, situation=replace(fleet(3), known_after_seconds=60.0), counted=True)
    for minute in range(1, 6):
        said = subject.decide(60.0 * minute, demand(2.5), 5, gap=False, warm=True, situation=fleet(5))
        assert said.desired == 5, "the stabilisation period began with the raise"
        assert said.reason is Reason.STABILISING
    assert minute * 60.0 < 45.0 + 60.0 + POLICY.scale_down_stabilisation_seconds
    for minute in range(6, 9):
        said = subject.decide(60.0 * minute, demand(2.5), 5, gap=False, warm=True, situation=fleet(5))
    assert said.desired == 3


def test_requests_that_wait_raise_where_the_rate_is_known() -> None:
    subject = decided(2.5, 3)
    rate = 6 * POINT.saturation_requests_per_second
    said = subject.revise(15.0, demand(2.5), 3, situation=fleet(3, 400, rate))
    assert said is not None
    assert (said.reason, said.state) == (Reason.QUEUE_UP, RecommendationState.FRESH)
    assert said.desired > 6
    assert said.message.startswith("between two windows: 400 requests wait for 3 replicas")
    assert said.evidence["observed_requests_per_second"] == pytest.approx(2.5 * POINT.requests_per_second)
    blind = decided(2.5, 3)
    assert blind.revise(15.0, None, 3, situation=fleet(3, 400)) is None, "how many come is not known"


def test_a_queue_raises_held_advice_whose_state_stays() -> None:
    subject = decided(2.5, 3)
    told = replace(fleet(3), problems=("broken",))
    assert subject.decide(60.0, demand(2.5), 3, gap=False, warm=True, situation=told).reason is Reason.INPUT_UNHEALTHY
    assert subject.revise(75.0, counted(2.5, 9.0), 3, situation=told, counted=True) is None, "a count alone does not"
    rate = 6 * POINT.saturation_requests_per_second
    said = subject.revise(
        90.0, demand(2.5), 3, situation=replace(told, queued_requests=400, newest_requests_per_second=rate)
    )
    assert said is not None
    assert (said.reason, said.state) == (Reason.QUEUE_UP, RecommendationState.DEGRADED)


def test_a_count_goes_up_by_one_step_of_what_ran_however_often() -> None:
    policy = replace(POLICY, max_step_up_ratio=2.0)
    subject = decided(2.5, 3, policy)
    said = [
        subject.revise(15.0 * turn, counted(2.5, 30.0), 3 * turn, situation=fleet(3), counted=True)
        for turn in (1, 2, 3)
    ]
    assert said[0] is not None
    assert (said[0].desired, said[0].clamped_by) == (6, ("max_step_up_ratio",))
    assert said[1:] == [None, None], "though more run by now"
    limited = decided(2.5, 3, replace(POLICY, max_replicas=4)).revise(
        15.0, counted(2.5, 9.0), 3, situation=fleet(3), counted=True
    )
    assert limited is not None
    assert (limited.desired, limited.clamped_by) == (4, ("max_replicas",))


def test_a_fleet_that_was_set_by_hand_is_left_alone() -> None:
    subject = decided(2.5, 3)
    assert subject.revise(15.0, counted(2.5, 9.0), 7, situation=fleet(7), counted=True) is None, "from 3 to 7 meanwhile"
    subject.decide(60.0, demand(2.5), 7, gap=False, warm=True, situation=fleet(7))
    assert subject.revise(75.0, counted(2.5, 9.0), 7, situation=fleet(7), counted=True) is None
    assert decided(2.5, 3).revise(15.0, counted(2.5, 9.0), 3, situation=fleet(3), counted=True) is not None


def test_replicas_that_are_full_say_how_many_would_serve_all() -> None:
    assert Saturated(ready=2, running=20, queued=10).needed == 3
    assert Saturated(ready=1, running=8, queued=80).needed == 11
    assert Saturated(0, 8, 80).needed == Saturated(1, 0, 80).needed == 0


def test_before_the_first_decision_a_full_fleet_raises_by_one_step_of_what_serves() -> None:
    subject = controller()
    said = subject.revise(15.0, None, 2, situation=fleet(2, 10), saturated=Saturated(2, 20, 10))
    assert said is not None
    assert (said.desired, said.reason, said.state) == (3, Reason.COLD_START, RecommendationState.COLD_START)
    longer = Saturated(2, 20, 9_000)
    assert subject.revise(30.0, None, 3, situation=fleet(2, 900), saturated=longer) is None, "it grows anyway"
    assert subject.decide(60.0, None, 3, gap=False, warm=False, situation=fleet(2)).desired == 3
    assert subject.revise(75.0, None, 3, situation=fleet(2), saturated=longer) is None, "something was decided"
    said = controller().revise(15.0, None, 2, situation=fleet(2), saturated=longer)
    assert said is not None
    assert (said.desired, said.clamped_by) == (8, ("max_step_up_ratio",))


def test_what_cannot_be_sized_is_not_raised() -> None:
    unknown = ReplicaController("chat", "eu", Deployment("none", "h100-sxm"), Slo(), POLICY, "hash")
    unknown.decide(0.0, demand(2.0), 3, gap=False, warm=True)
    assert unknown.revise(15.0, counted(2.0, 9.0), 3, situation=fleet(3, 900, 99.0), counted=True) is None
    broken = replace(demand(2.5), observed_requests_per_second=float("nan"))
    assert decided(2.5, 3).revise(15.0, broken, 3, situation=fleet(3), counted=True) is None


TURNS = st.lists(
    st.tuples(
        st.booleans(),  # a decision, or between two
        st.floats(0.0, 60.0),  # what is needed, or was counted
        st.none() | st.integers(0, 3_000),  # requests that wait
        st.none() | st.integers(0, 50),  # replicas
        st.sampled_from(("", "gap", "problem", "no forecast")),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(TURNS, st.booleans())
def test_whatever_comes_advice_between_decisions_only_goes_up_within_its_limits(
    turns: list[tuple[bool, float, int | None, int | None, str]], warm: bool
) -> None:
    subject = controller()
    last: Recommendation | None = None
    known: Demand | None = None
    generation, now = 0, 0.0
    for decides, needed, queued, current, fault in turns:
        now += 15.0
        situation = Situation(ready=current, queued_requests=queued, window_seconds=60.0, start_up_seconds=120.0)
        if decides:
            known = None if fault == "no forecast" else demand(needed)
            told = replace(situation, problems=("broken",) if fault == "problem" else ())
            last = subject.decide(now, known, current, gap=fault == "gap", warm=warm, situation=told)
        elif last is not None:
            before = pickle.dumps(subject)
            twin = pickle.loads(before)
            more = None if known is None else counted_on(known, needed)
            said = subject.revise(now, more, current, situation=situation, counted=True)
            assert twin.revise(now, more, current, situation=situation, counted=True) == said, "continues identically"
            if said is None:
                assert pickle.dumps(subject) == before, "nothing has changed"
                continue
            assert last.desired < said.desired <= POLICY.max_replicas
            assert said.lower <= said.desired <= said.upper
            assert said.state is last.state
            assert said.expires_at == now + POLICY.ttl_seconds
            assert said.reason in (Reason.OBSERVED_UP, Reason.QUEUE_UP, Reason.COLD_START)
            assert said.generation > generation
            assert subject.revise(now, more, current, situation=situation, counted=True) is None, "raised once"
            last = said
        if last is not None:
            assert last.generation >= generation
            generation = last.generation
