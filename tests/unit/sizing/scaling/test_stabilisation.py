"""A need counts as lower over what demand was known for: the window, and what the fleet counted after it."""

from __future__ import annotations

import pickle

import pytest

from sizing.scaling.controller import ReplicaController
from sizing.scaling.situation import Situation
from sizing.scaling.stabilisation import Span, Stabilisation
from sizing.types import Demand, Deployment, PolicyConfig, Provision, Reason, RecommendationState, Slo, Workload

CHAT = Workload(1000, 200)


def controller() -> tuple[ReplicaController, float]:
    policy = PolicyConfig(max_replicas=100, scale_down_stabilisation_seconds=120.0)
    who = ReplicaController("m", "p", Deployment("llama-3.1-8b", "h100-sxm"), Slo(), policy, "hash")
    assert who.planner is not None
    return who, who.planner.operating_point(CHAT).requests_per_second


def demand(rate: float, wanted: float | None = None) -> Demand:
    provision = None if wanted is None else Provision(wanted, 0.0, 0.0, 0.0, (("observed_x1.3", 1.0),))
    levels, rates = (0.1, 0.5, 0.9), (rate, rate, rate)
    return Demand(levels, rates, CHAT, 180.0, observed_requests_per_second=rate, provision=provision)


def span(end: float, window: float = 60.0, after: float = 0.0) -> Span:
    return Span(end - window, end, end + after)


def lower_at(window: float, after: float, seconds: float = 120.0) -> float:
    """Return the end of the window at which a need that fell at 600 s has been lower for the whole period."""
    stable = Stabilisation(seconds)
    for end in range(60, 2400, 60):
        need = 8 if end <= 600 else 4
        stable.remember(span(end, window, after), need, need)
        if need == 8:
            stable.not_lower()
        elif stable.lower(span(end, window, after)) and stable.most(4) == (4, 4):
            return float(end)
    raise AssertionError("never lower")


def test_points_in_time_speak_from_the_decision_on() -> None:
    assert lower_at(window=0.0, after=0.0) == 780.0


def test_a_window_speaks_from_its_start_on() -> None:
    assert lower_at(window=60.0, after=0.0) == 720.0


def test_what_was_counted_since_speaks_too() -> None:
    assert lower_at(window=60.0, after=60.0) == 660.0


def test_the_demand_was_lower_for_the_whole_period_whatever_it_is() -> None:
    for seconds in (60.0, 120.0, 300.0, 900.0):
        for after in (0.0, 45.0, 60.0):
            end = lower_at(60.0, after, seconds)
            assert end + after - 600.0 >= seconds
            assert end == 660.0 or end + after - 60.0 - 600.0 < seconds  # and no window sooner


def test_what_was_raised_stays_for_the_period() -> None:
    stable = Stabilisation(120.0)
    stable.remember(span(60.0, after=60.0), 8, 8)
    stable.raised(120.0)
    assert not stable.lower(span(120.0, after=60.0))
    assert stable.lower_for(span(120.0, after=60.0)) == 60.0
    assert stable.lower(span(180.0, after=60.0))


def test_what_was_raised_stays_although_its_needs_are_forgotten() -> None:
    stable = Stabilisation(120.0)
    stable.raised(120.0)
    stable.forget()
    assert not stable.lower(span(120.0, after=60.0))
    assert stable.lower(span(180.0, after=60.0))


def test_the_highest_need_of_the_period_bounds_a_step() -> None:
    stable = Stabilisation(180.0)
    for end, need in ((60.0, 9), (120.0, 7), (180.0, 5), (240.0, 4)):
        stable.remember(span(end), need, need + 1)
    assert stable.most(3) == (7, 8)
    stable = pickle.loads(pickle.dumps(stable))
    stable.remember(span(300.0), 4, 5)
    assert stable.most(3) == (5, 6)
    stable.forget()
    assert stable.most(3) == (3, 3)


@pytest.mark.parametrize(("share", "windows"), [(1.0, 5), (0.3, 2)])
def test_a_step_that_was_cut_begins_a_share_of_the_period_anew(share: float, windows: int) -> None:
    stable = Stabilisation(300.0)
    assert not stable.lower(span(60.0))
    assert stable.lower(span(300.0))
    stable.stepped(span(300.0), share)
    proved = [stable.lower(span(300.0 + 60.0 * step)) for step in range(1, windows + 1)]
    assert proved == [False] * (windows - 1) + [True]


def test_a_fleet_that_counts_comes_down_as_soon_as_the_period_is_over() -> None:
    counting = Situation(window_seconds=60.0, known_after_seconds=60.0)
    for situation, windows in ((counting, 1), (Situation(window_seconds=60.0), 2), (Situation(), 3)):
        who, each = controller()
        for step in range(10):
            said = who.decide(60.0 * step, demand(7.5 * each), 8, gap=False, warm=True, situation=situation)
            assert said.desired == 8
        told = [
            who.decide(600.0 + 60.0 * step, demand(3.5 * each), 8, gap=False, warm=True, situation=situation).desired
            for step in range(windows)
        ]
        assert told == [8] * (windows - 1) + [4]


def test_the_first_window_raises_what_is_held_although_it_was_seen_in_part() -> None:
    who, each = controller()
    first = Situation(whole=False, window_seconds=60.0)
    said = who.decide(60.0, demand(3.0 * each, 3.9 * each), 1, gap=False, warm=False, situation=first)
    assert (said.desired, said.reason, said.state) == (4, Reason.COLD_START, RecommendationState.COLD_START)
    who, each = controller()
    said = who.decide(60.0, demand(3.0 * each, 3.9 * each), 6, gap=False, warm=False, situation=first)
    assert said.desired == 6
    # Later windows that were not seen whole follow a gap: they hold.
    who, each = controller()
    assert who.decide(60.0, demand(3.0 * each, 3.9 * each), 1, gap=False, warm=True, situation=first).desired == 1
