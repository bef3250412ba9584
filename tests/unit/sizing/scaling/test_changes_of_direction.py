"""Rules that compete may say something else every minute; the advice does not turn round with them.

Up is never delayed, so down may be followed by up at once; down comes no sooner than a stabilisation period after up.
In any such period the advice therefore changes its direction once at most.
"""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.scaling.controller import ReplicaController
from sizing.scaling.situation import Situation
from sizing.types import Demand, Deployment, PolicyConfig, Provision, Reason, RecommendationState, Slo, Workload

WINDOW, HOUR = 600.0, 3_600.0
POLICY = PolicyConfig(min_replicas=1, max_replicas=30, scale_down_stabilisation_seconds=HOUR)
CHAT = Workload(1000, 200)


def controller() -> tuple[ReplicaController, float]:
    who = ReplicaController("m", "p", Deployment("llama-3.1-8b", "h100-sxm"), Slo(), POLICY, "hash", initial_replicas=8)
    assert who.planner is not None
    return who, who.planner.operating_point(CHAT).requests_per_second


def demand(observed: float, wanted: float) -> Demand:
    return Demand(
        (0.1, 0.5, 0.9),
        (0.9 * observed, observed, 1.2 * observed),
        CHAT,
        180.0,
        observed_requests_per_second=observed,
        provision=Provision(wanted, wanted * 1000, wanted * 200, 0.0, (("observed_x1.2", 0.5),)),
    )


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32),
    noise=st.floats(0.0, 0.4),
    drift=st.floats(0.0, 1.0),
    lag=st.integers(0, 5),
    faults=st.floats(0.0, 0.1),
    window=st.sampled_from((0.0, WINDOW)),
    after=st.sampled_from((0.0, 300.0, WINDOW)),
)
@settings(max_examples=10, deadline=None)
def test_one_change_of_direction_in_a_stabilisation_period(
    seed: int, noise: float, drift: float, lag: int, faults: float, window: float, after: float
) -> None:
    """Ten noisy days, with a fleet that follows late, gaps, windows that cannot be believed, and queues."""
    chance = random.Random(seed)
    who, capacity = controller()
    level, went_up, generation, desired = 8.0, -HOUR, 0, 8
    fleet = deque([desired] * (lag + 1), maxlen=lag + 1)
    for step in range(1_440):
        now = WINDOW * step
        level = min(max(level + chance.gauss(0.0, drift), 1.0), 28.0)
        rate = capacity * level * chance.uniform(1.0 - noise, 1.0 + noise)
        gap, ill, blind, queue = (chance.random() < faults for _ in range(4))
        said = who.decide(
            now,
            demand(rate, rate * chance.uniform(0.8, 1.4)),
            None if blind else fleet[0],
            gap=gap,
            warm=True,
            situation=Situation(
                problems=("server_coverage",) if ill else (),
                queued_requests=round(60 * rate) if queue else 0,
                window_seconds=window,
                known_after_seconds=after,
            ),
        )
        assert POLICY.min_replicas <= said.desired <= POLICY.max_replicas
        assert now < said.expires_at
        assert generation + (said.desired != desired) <= said.generation <= generation + 1
        if said.desired > desired:
            went_up = now
        elif said.desired < desired:
            assert said.state is RecommendationState.FRESH
            assert now - went_up >= HOUR
        desired, generation = said.desired, said.generation
        fleet.append(desired)


def test_a_noisy_fleet_still_comes_down() -> None:
    who, capacity = controller()
    chance = random.Random(1)
    replicas = 20
    for step in range(60):
        rate = 5.0 * capacity * chance.uniform(0.9, 1.1)
        replicas = who.decide(WINDOW * step, demand(rate, 1.2 * rate), replicas, gap=False, warm=True).desired
    assert replicas <= 8


def test_up_for_a_queue_starts_the_wait_anew() -> None:
    who, capacity = controller()
    low = demand(2.0 * capacity, 2.0 * capacity)
    for step in range(6):
        assert who.decide(WINDOW * step, low, 8, gap=False, warm=True).desired == 8
    waiting = Situation(queued_requests=100_000_000)
    raised = who.decide(6 * WINDOW - 1.0, low, 8, gap=False, warm=True, situation=waiting)
    assert (raised.desired, raised.reason) == (POLICY.max_replicas, Reason.QUEUE_UP)
    for step in range(6, 12):
        assert who.decide(WINDOW * step, low, 30, gap=False, warm=True).desired == 30
    assert who.decide(WINDOW * 12, low, 30, gap=False, warm=True).desired < 30


@pytest.mark.parametrize("lower", [3.0, 5.0])
def test_up_is_not_delayed_by_a_step_down(lower: float) -> None:
    who, capacity = controller()
    low, high = (demand(by * capacity, by * capacity) for by in (lower, 12.0))
    desired = 8
    for step in range(8):
        desired = who.decide(WINDOW * step, low, 8, gap=False, warm=True).desired
    assert desired < 8
    assert who.decide(WINDOW * 8, high, 8, gap=False, warm=True).desired >= 12
