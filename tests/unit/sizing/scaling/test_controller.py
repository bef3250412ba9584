from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest

from sizing.errors import InvalidInput
from sizing.scaling.controller import ReplicaController
from sizing.scaling.situation import Situation
from sizing.types import (
    Confidence,
    Constraint,
    Demand,
    Deployment,
    PolicyConfig,
    Reason,
    Recommendation,
    RecommendationState,
    Slo,
    Workload,
)

H100 = Deployment("llama-3.1-8b", "h100-sxm")
CHAT = Workload(1000, 200)
POLICY = PolicyConfig(max_replicas=100)


def controller(
    policy: PolicyConfig = POLICY, deployment: Deployment = H100, slo: Slo | None = None
) -> ReplicaController:
    return ReplicaController("chat", "eu", deployment, slo or Slo(), policy, "0123456789ab", "H100")


CAPACITY = controller().planner.operating_point(CHAT).requests_per_second  # type: ignore[union-attr]


def demand(replicas: float, observed: float | None = None) -> Demand:
    """Demand that needs ``replicas`` at every quantile."""
    rate = replicas * CAPACITY
    seen = None if observed is None else observed * CAPACITY
    return Demand((0.1, 0.5, 0.9), (rate, rate, rate), CHAT, 600.0, observed_requests_per_second=seen)


def steady(
    who: ReplicaController, replicas: float, current: int, start: float = 0.0, steps: int = 10
) -> Recommendation:
    for step in range(steps):
        last = who.decide(start + 60.0 * step, demand(replicas), current, gap=False, warm=True)
    return last


def test_up_at_once_with_numbers_and_evidence() -> None:
    advice = controller().decide(1000.0, demand(2.5, observed=1.0), 2, gap=False, warm=True)
    assert (advice.desired, advice.direction, advice.reason) == (3, "up", Reason.FORECAST_UP)
    assert advice.state is RecommendationState.FRESH
    assert advice.expires_at == 1000.0 + POLICY.ttl_seconds
    assert advice.accelerator == "H100"
    assert advice.message.startswith("10-min-ahead p90 of ")
    assert "needs 3 replicas" in advice.message
    assert advice.message.endswith("now 2")
    assert advice.evidence["capacity_requests_per_second_per_replica"] == pytest.approx(CAPACITY)
    assert advice.evidence["forecast_p90_requests_per_second"] == pytest.approx(2.5 * CAPACITY)
    assert advice.evidence["slo_ttft_seconds"] == 1.0
    assert advice.recommendation_id == "chat|eu|1"
    assert advice.confidence is Confidence.INTERPOLATED
    assert 0 < advice.confidence_ratio <= 1


def test_down_only_after_a_consistently_lower_need() -> None:
    who = controller()
    steady(who, 3.5, 4)
    seen = [who.decide(600.0 + 60.0 * i, demand(1.5), 4, gap=False, warm=True) for i in range(7)]
    assert [advice.desired for advice in seen] == [4, 4, 4, 4, 4, 2, 2]
    assert seen[0].reason is Reason.STABILISING
    assert (seen[5].reason, seen[5].direction) == (Reason.FORECAST_DOWN, "down")
    # The same advice again is the same generation.
    assert seen[5].generation == seen[6].generation


def test_a_peak_in_between_starts_the_wait_anew_and_bounds_the_step() -> None:
    who = controller()
    steady(who, 3.5, 4)
    needs = [1.5, 1.5, 3.5, 1.5, 2.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    seen = [who.decide(600.0 + 60.0 * i, demand(x), 4, gap=False, warm=True).desired for i, x in enumerate(needs)]
    assert seen == [4, 4, 4, 4, 4, 4, 4, 4, 3, 3]


def test_a_need_that_falls_in_steps_is_followed_a_stabilisation_period_after_each() -> None:
    """A window in which demand fell half-way does not cost a second period of waiting."""
    who = controller()
    steady(who, 12.5, 13)
    needs = [12.5, 10.5, *[7.5] * 8]
    seen = [who.decide(600.0 + 60.0 * i, demand(x), 13, gap=False, warm=True).desired for i, x in enumerate(needs)]
    assert seen == [13, 13, 13, 13, 13, 13, 11, 8, 8, 8]


def test_a_need_that_swings_around_a_whole_number_moves_the_fleet_once() -> None:
    who = controller()
    running = steady(who, 2.9, 3).desired
    told = []
    for step in range(60):
        need = 3.05 if step % 10 == 0 else 2.8
        running = who.decide(600.0 + 60.0 * step, demand(need), running, gap=False, warm=True).desired
        told.append(running)
    assert set(told) == {4}
    # A need that leaves room to what would remain does bring the fleet down.
    assert steady(who, 2.6, running, start=6000.0).desired == 3


def test_steps_are_limited_both_ways() -> None:
    who = controller()
    feared = replace(demand(50.0), requests_per_second=(0.5 * CAPACITY, CAPACITY, 50.0 * CAPACITY))
    first = who.decide(0.0, feared, 2, gap=False, warm=True)
    assert (first.desired, first.reason, first.clamped_by) == (8, Reason.STEP_LIMIT, ("max_step_up_ratio",))
    assert who.decide(60.0, feared, 2, gap=False, warm=True).desired == 8
    assert who.decide(120.0, feared, 8, gap=False, warm=True).desired == 32
    who = controller()
    steady(who, 40.0, 40)
    down = steady(who, 3.5, 40, start=600.0, steps=6)
    assert (down.desired, down.clamped_by) == (20, ("max_step_down_ratio",))
    # The next step needs a part of the period: what remains has to be seen to carry the demand.
    after = [who.decide(960.0 + 60.0 * step, demand(3.5), 20, gap=False, warm=True).desired for step in range(3)]
    assert after[0] == 20
    assert after[-1] == 10


def test_what_the_fleet_counts_raises_advice_in_a_gap_and_never_lowers_it() -> None:
    who = controller()
    steady(who, 4.5, 5)
    more, fewer = (demand(need, observed=need) for need in (9.5, 1.5))
    told = [who.decide(6_000.0 + 60.0 * step, fewer, 5, gap=True, warm=True) for step in range(12)]
    assert {said.desired for said in told} == {5}
    raised = who.decide(7_000.0, more, 5, gap=True, warm=True)
    assert (raised.desired, raised.reason, raised.state) == (10, Reason.OBSERVED_UP, RecommendationState.DEGRADED)


def test_what_is_surely_needed_takes_one_step_even_from_nothing() -> None:
    who = controller(replace(POLICY, min_replicas=0))
    assert who.decide(0.0, demand(0.0), 0, gap=False, warm=True).desired == 0
    assert who.decide(60.0, demand(18.5), 0, gap=False, warm=True).desired == 19
    seen = replace(demand(1.5, observed=18.5), requests_per_second=(0.0, CAPACITY, CAPACITY))
    assert controller().decide(0.0, seen, 1, gap=False, warm=True).desired == 19


def test_the_caps_of_a_step_are_settings() -> None:
    who = controller(replace(POLICY, max_step_up_ratio=1.5, max_step_down_ratio=0.9))
    feared = replace(demand(50.0), requests_per_second=(0.5 * CAPACITY, CAPACITY, 50.0 * CAPACITY))
    assert who.decide(0.0, feared, 10, gap=False, warm=True).desired == 15
    who = controller(replace(POLICY, max_step_down_ratio=0.9))
    steady(who, 40.0, 40)
    assert steady(who, 3.5, 40, start=600.0, steps=6).desired == 36


def test_replicas_set_by_hand_are_left_alone_for_the_stabilisation_period() -> None:
    who = controller()
    steady(who, 9.5, 10)
    seen = [who.decide(600.0 + 60.0 * i, demand(9.5), 15, gap=False, warm=True) for i in range(6)]
    assert [advice.desired for advice in seen] == [15, 15, 15, 15, 15, 10]
    who = controller()
    steady(who, 9.5, 10)
    seen = [who.decide(600.0 + 60.0 * i, demand(9.5), 6, gap=False, warm=True) for i in range(6)]
    assert [advice.desired for advice in seen] == [6, 6, 6, 6, 6, 10]
    assert {advice.reason for advice in seen[:5]} == {Reason.MANUAL_CHANGE}
    assert "set to 6 by hand" in seen[0].message
    # More than what somebody raised it to may still be needed.
    who = controller()
    steady(who, 9.5, 10)
    assert who.decide(600.0, demand(20.5), 15, gap=False, warm=True).desired == 21


def test_a_fleet_that_follows_late_or_not_at_all_was_not_set_by_hand() -> None:
    who = controller()
    steady(who, 4.5, 5)
    for step, current in enumerate((5, 7, 10)):  # on its way to what was advised
        advice = who.decide(600.0 + 60.0 * step, demand(9.5), current, gap=False, warm=True)
        assert (advice.desired, advice.reason) == (10, Reason.FORECAST_UP if current < 10 else Reason.WITHIN_BAND)
    who = controller()
    steady(who, 9.5, 20)  # another autoscaler rules: the advice goes on
    for step, current in enumerate((6, 7, 5)):
        assert who.decide(900.0 + 60.0 * step, demand(9.5), current, gap=False, warm=True).desired >= 10


def test_nobody_is_believed_to_have_set_zero() -> None:
    who = controller()
    steady(who, 9.5, 10)
    assert who.decide(600.0, demand(9.5), 0, gap=False, warm=True).desired == 10


def test_inputs_that_cannot_be_believed_hold_and_say_why() -> None:
    who = controller()
    steady(who, 9.5, 10)
    doubt = Situation(problems=("10 of 19 servers sent events",), evidence={"input_problem_server_coverage": 1.0})
    for step in range(20):
        held = who.decide(600.0 + 60.0 * step, demand(2.5), 10, gap=False, warm=True, situation=doubt)
    assert (held.desired, held.reason, held.state) == (10, Reason.INPUT_UNHEALTHY, RecommendationState.DEGRADED)
    assert "10 of 19 servers" in held.message
    assert held.evidence["input_problem_server_coverage"] == 1.0
    more = who.decide(8000.0, demand(2.5, observed=14.5), 10, gap=False, warm=True, situation=doubt)
    assert (more.desired, more.reason, more.state) == (15, Reason.OBSERVED_UP, RecommendationState.DEGRADED)
    who = controller()
    steady(who, 9.5, 10)
    part = who.decide(9000.0, demand(99.5), 10, gap=False, warm=False, situation=Situation(whole=False))
    assert (part.desired, part.state) == (10, RecommendationState.COLD_START)


def test_a_live_queue_wakes_a_pool_and_overrides_the_forecast() -> None:
    asleep = controller(replace(POLICY, min_replicas=0))
    assert asleep.decide(0.0, None, 0, gap=True, warm=False).desired == 0
    woken = asleep.decide(60.0, None, 0, gap=True, warm=False, situation=Situation(queued_requests=3))
    assert (woken.desired, woken.reason, woken.direction) == (1, Reason.QUEUE_UP, "up")
    who = controller()
    steady(who, 2.5, 3)
    short, long = (Situation(ready=3, queued_requests=queued) for queued in (2, round(300 * CAPACITY)))
    assert who.decide(600.0, demand(2.5, 2.5), 3, gap=False, warm=True, situation=short).desired == 3
    up = who.decide(660.0, demand(2.5, 2.5), 3, gap=False, warm=True, situation=long)
    assert up.reason is Reason.QUEUE_UP
    assert 3 < up.desired <= 8, "2.5 for what arrives, at most 5 to work the queue off in a minute"
    starting = replace(long, starting_seconds=(10.0,) * 5, start_up_seconds=120.0)
    coming = copy.deepcopy(who).decide(720.0, demand(2.5, 2.5), 8, gap=False, warm=True, situation=starting)
    assert coming.reason is not Reason.QUEUE_UP, "those that start will have worked it off"
    # Whatever else cannot be believed, and never beyond the limits.
    low = controller(replace(POLICY, max_replicas=5))
    steady(low, 2.5, 3)
    doubt = replace(long, problems=("telemetry is late",))
    assert low.decide(600.0, None, 3, gap=False, warm=True, situation=doubt).desired == 5


@pytest.mark.parametrize("ratio", [0.2, 1.0, 8.0])
def test_the_width_of_the_interval_changes_no_decision(ratio: float) -> None:
    plain, told, widths = controller(), controller(), set()
    for step, needed in enumerate([3.0, 9.0, 2.0, 2.0, 2.5, 40.0, 1.0, 1.0, 1.0]):
        now = 400.0 * step
        one = plain.decide(now, demand(needed), 4, gap=step == 3, warm=step > 0)
        other = told.decide(
            now, demand(needed), 4, gap=step == 3, warm=step > 0, situation=Situation(interval_ratio=ratio)
        )
        assert replace(other, lower=0, upper=0, confidence_ratio=0.0) == replace(
            one, lower=0, upper=0, confidence_ratio=0.0
        )
        assert other.lower <= other.desired <= other.upper
        if one.state is RecommendationState.DEGRADED or ratio == 1.0:
            assert other == one
        else:
            wide, narrow = (other, one) if ratio > 1 else (one, other)
            assert wide.lower <= narrow.lower
            assert wide.upper >= narrow.upper
            widths |= {(wide.upper - wide.lower, narrow.upper - narrow.lower)}
    assert (ratio == 1.0) == (not any(wide > narrow for wide, narrow in widths))


def test_limits_of_the_policy() -> None:
    low = controller(replace(POLICY, min_replicas=3)).decide(0.0, demand(0.5), 3, gap=False, warm=True)
    assert (low.desired, low.reason, low.clamped_by) == (3, Reason.MIN_REPLICAS, ("min_replicas",))
    assert low.constraint is Constraint.MIN_REPLICAS
    high = controller(replace(POLICY, max_replicas=4)).decide(0.0, demand(9.0), 4, gap=False, warm=True)
    assert (high.desired, high.reason, high.clamped_by) == (4, Reason.MAX_REPLICAS, ("max_replicas",))
    with pytest.raises(InvalidInput):
        controller(replace(POLICY, min_replicas=9, max_replicas=3))


def test_scale_to_zero_and_back() -> None:
    who = controller(replace(POLICY, min_replicas=0))
    steady(who, 0.5, 1)
    assert steady(who, 0.0, 1, start=600.0).desired == 0
    assert who.decide(2000.0, demand(0.5), 0, gap=False, warm=True).desired == 1


def test_small_moves_within_the_interval_are_not_worth_it() -> None:
    who = controller()
    steady(who, 39.5, 40)
    up = who.decide(600.0, demand(41.5), 40, gap=False, warm=True)
    assert (up.desired, up.reason) == (40, Reason.WITHIN_BAND)
    assert who.decide(660.0, demand(43.5), 40, gap=False, warm=True).desired == 44
    who = controller()
    steady(who, 39.5, 40)
    assert steady(who, 37.5, 40, start=600.0).reason is Reason.WITHIN_BAND


def test_a_gap_holds_and_never_lowers() -> None:
    who = controller()
    steady(who, 3.5, 4)
    steady(who, 1.5, 4, start=600.0, steps=5)
    gap = who.decide(900.0, None, 4, gap=True, warm=True)
    assert (gap.desired, gap.reason, gap.state) == (4, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED)
    # The wait starts anew after the gap.
    assert who.decide(960.0, demand(1.5), 4, gap=False, warm=True).reason is Reason.STABILISING
    assert who.decide(1200.0, demand(1.5), 4, gap=False, warm=True).desired == 4
    silent = who.decide(1230.0, None, None, gap=False, warm=True)
    assert (silent.desired, silent.state, silent.reason) == (4, RecommendationState.HOLD, Reason.TELEMETRY_GAP)
    assert silent.evidence["lead_time_seconds"] == 120.0


def test_a_gap_with_demand_ignores_it() -> None:
    advice = controller().decide(0.0, demand(50.0), 2, gap=True, warm=True)
    assert advice.desired == 2
    assert controller().decide(0.0, None, None, gap=True, warm=False).desired == POLICY.min_replicas


def test_cold_start_sizes_on_what_is_observed_and_never_below_current() -> None:
    who = controller()
    assert who.decide(0.0, None, 3, gap=False, warm=False).reason is Reason.COLD_START
    low = who.decide(60.0, demand(50.0, observed=0.5), 3, gap=False, warm=False)
    assert (low.desired, low.state) == (3, RecommendationState.COLD_START)
    assert who.decide(120.0, demand(0.5, observed=4.5), 3, gap=False, warm=False).desired == 6, (
        "a fifth more than observed"
    )
    assert who.decide(180.0, demand(0.5), 3, gap=False, warm=False).desired == 6


def test_observed_demand_above_the_plan_wins() -> None:
    advice = controller().decide(0.0, demand(1.5, observed=3.5), 2, gap=False, warm=True)
    assert (advice.desired, advice.reason) == (4, Reason.OBSERVED_UP)
    assert "more than forecast" in advice.message


def test_pending_replicas_count() -> None:
    who = controller()
    who.decide(0.0, demand(5.5), 2, gap=False, warm=True)
    pending = who.decide(60.0, demand(4.5), 2, gap=False, warm=True)
    assert (pending.desired, pending.direction, pending.reason) == (6, "up", Reason.STABILISING)


def test_an_infeasible_slo_is_said_and_load_still_followed() -> None:
    advice = controller(slo=Slo(tpot_seconds=0.001)).decide(0.0, demand(2.5), 1, gap=False, warm=True)
    assert (advice.reason, advice.constraint) == (Reason.SLO_INFEASIBLE, Constraint.SLO_INFEASIBLE)
    assert "no number of replicas" in advice.message
    assert advice.desired >= 2


def test_unknown_profiles_and_misfits_hold() -> None:
    unknown = controller(deployment=Deployment("nothing", "h100")).decide(0.0, demand(5.0), 2, gap=False, warm=True)
    assert (unknown.desired, unknown.reason, unknown.confidence) == (2, Reason.NO_PROFILE, Confidence.REFUSED)
    misfit = controller(deployment=Deployment("llama-3.3-70b", "h100"))
    advice = misfit.decide(0.0, demand(5.0), 2, gap=False, warm=True)
    assert (advice.desired, advice.state) == (2, RecommendationState.HOLD)
    assert "GiB" in advice.message


def test_demand_that_cannot_be_holds() -> None:
    broken = replace(demand(1.0), requests_per_second=(1.0, float("nan"), 2.0))
    advice = controller().decide(0.0, broken, 2, gap=False, warm=True)
    assert (advice.desired, advice.state) == (2, RecommendationState.DEGRADED)
    seen = controller().decide(0.0, replace(demand(1.0), observed_requests_per_second=-1.0), 2, gap=False, warm=True)
    assert seen.desired == 2


def test_generations_grow_only_with_the_advice() -> None:
    who = controller()
    first = who.decide(0.0, demand(2.5), 3, gap=False, warm=True)
    second = who.decide(60.0, demand(2.6), 3, gap=False, warm=True)
    third = who.decide(120.0, demand(3.5), 3, gap=False, warm=True)
    assert first.generation == second.generation == third.generation - 1


def test_a_restored_controller_says_the_same() -> None:
    needs = [1.5, 3.5, 3.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 2.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]

    def run(restore: bool) -> list[Recommendation]:
        who, current, out = controller(), 1, []
        for step, need in enumerate(needs):
            if restore:
                who = pickle.loads(pickle.dumps(who)) if step % 2 else copy.deepcopy(who)
            out.append(who.decide(60.0 * step, demand(need), current, gap=step == 12, warm=step > 1))
            current = out[-1].desired
        return out

    assert run(restore=False) == run(restore=True)
