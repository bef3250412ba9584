"""What raises advice beyond its plan: what was seen while telemetry is missing, requests that wait, newer counts.

Between two decisions the newest one stands for all that no report of the fleet tells: forecasts, capacity, what had
been learned. What is newer is asked in the same way as it was asked there, and only an answer of more counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sizing.errors import SizingError
from sizing.planning.demand_needs import replicas_text, whole
from sizing.planning.plan import Planner, observed_only
from sizing.scaling.cold_start import COLD_GROWTH
from sizing.scaling.limits import limited, step_cap
from sizing.scaling.live_queue import ServingFleet
from sizing.scaling.recommendation import PLANNED_STATES, Advice, moved, observed_in
from sizing.types import Demand, PolicyConfig, Reason, RecommendationState
from sizing.wording import grouped

__all__ = ["Newer", "Saturated", "raised_between", "raised_by_queue", "raised_to_seen"]

#: What the messages of advice say that was made between two decisions.
_BETWEEN = "between two windows"


@dataclass(frozen=True, slots=True)
class Saturated:
    """A fleet whose replicas serve all that they can: ``running`` requests, beside ``queued`` ones that wait."""

    ready: int
    running: int
    queued: int

    @property
    def needed(self) -> int:
        """The replicas that would serve all of these at once, as full as those that serve now.

        No model: replicas before which requests wait are full, so that what runs is what they hold.
        """
        if self.ready <= 0 or self.running <= 0:
            return 0
        return whole(self.ready * (self.running + self.queued) / self.running)


def raised_to_seen(
    advice: Advice, demand: Demand | None, reason: Reason, planner: Planner, policy: PolicyConfig
) -> Advice:
    """Return held advice, raised to what has been seen, where that is known: whatever is missing comes on top of it."""
    if demand is None or demand.observed_requests_per_second is None:
        return advice
    try:
        plan = planner.plan(demand, policy)
    except SizingError:
        return advice
    target, clamped = limited(plan.unclamped, policy)
    if target <= advice.desired:
        return advice
    text = f"{advice.message}, but what was counted needs {replicas_text(plan.unclamped)}; advising {target}"
    return moved(advice, target, reason, text, clamped)._replace(plan=plan)


def raised_by_queue(
    advice: Advice,
    needed: int | None,
    queued_requests: int | None,
    fleet: ServingFleet | None,
    policy: PolicyConfig,
    *,
    between: bool = False,
) -> Advice:
    """Return advice, raised to what requests that wait need (None: no more than serve and start) of a ``fleet``.

    ``between``: it is made between two decisions.
    """
    if needed is None or fleet is None:
        return advice
    target, clamped = limited(needed, policy)
    if target <= advice.desired:
        return advice
    text = f"{queued_requests:,} requests wait for {fleet}; advising {target}"
    text = f"{_BETWEEN}: {text}" if between else text
    return moved(advice, target, Reason.QUEUE_UP, text, clamped)._replace(refused=False)


def _raised_by_count(last: Advice, demand: Demand, planner: Planner, policy: PolicyConfig, ran: int | None) -> Advice:
    """Return the ``last`` advice, raised where the demand that is counted by now needs more.

    Args:
        last: as it was decided.
        demand: that of the decision, with what is observed, and what rules provision for by it, as of now.
        planner: that of the decision; it has been asked for this workload, so that nothing in it changes.
        policy: with the limits.
        ran: replicas at the decision, from which a step is counted (None: unknown): several raises after it come to no
            more than one. No event has confirmed the count yet: none of it is surely needed.
    """
    if last.state not in PLANNED_STATES or last.constraint is None:
        return last  # held: what the newest window says is not believed, or not known
    cold = last.state is RecommendationState.COLD_START
    try:
        plan = planner.plan(observed_only(demand, COLD_GROWTH) if cold else demand, policy)
        observed = observed_in(demand, plan)
    except SizingError:
        return last
    seen = 0 if observed is None else observed.replicas
    wanted = max(plan.unclamped, seen)
    target, clamped = limited(wanted, policy)
    cap = step_cap(last.desired if ran is None else ran, 0, policy)
    if target > max(cap, last.desired):
        target, clamped = max(cap, last.desired), (*clamped, "max_step_up_ratio")
    if target <= last.desired:
        return last
    rate = 0.0 if observed is None else observed.demand
    text = f"{_BETWEEN}: {grouped(rate)} req/s counted since; {plan.message}; advising {replicas_text(target)}"
    reason = Reason.COLD_START if cold else Reason.OBSERVED_UP
    return last._replace(
        desired=target,
        lower=min(plan.lower, target),
        upper=max(plan.upper, target),
        reason=reason,
        message=text,
        constraint=plan.constraint,
        clamped_by=clamped,
        plan=plan,
    )


class Newer(NamedTuple):
    """What is newer than the last decision.

    ``demand`` is that of the decision; ``counted``: with more that was counted since. ``ran`` are the replicas at the
    decision (None: unknown), ``needed`` those that ``queued_requests`` need of a ``fleet`` (None: no more than serve
    and start). ``saturated`` is a fleet that is full, before the first decision; None: that is not known.
    """

    demand: Demand | None
    counted: bool
    ran: int | None
    needed: int | None
    queued_requests: int | None
    fleet: ServingFleet | None
    saturated: Saturated | None


def raised_between(last: Advice, newer: Newer, planner: Planner, policy: PolicyConfig) -> Advice | None:
    """Return the ``last`` advice, raised by what is newer; None: it stays."""
    advice = last
    if newer.counted and newer.demand is not None:
        advice = _raised_by_count(advice, newer.demand, planner, policy, newer.ran)
    if newer.saturated is not None:
        advice = _raised_by_saturation(advice, newer.saturated, policy)
    advice = raised_by_queue(advice, newer.needed, newer.queued_requests, newer.fleet, policy, between=True)
    return _with_plan(advice, newer.demand, planner, policy) if advice.desired > last.desired else None


def _with_plan(advice: Advice, demand: Demand | None, planner: Planner, policy: PolicyConfig) -> Advice:
    """Return advice with the plan of the decision that it raises, for its evidence; held advice has none."""
    if advice.plan is not None or demand is None or advice.state not in PLANNED_STATES:
        return advice
    cold = advice.state is RecommendationState.COLD_START
    try:
        return advice._replace(plan=planner.plan(observed_only(demand, COLD_GROWTH) if cold else demand, policy))
    except SizingError:
        return advice


def _raised_by_saturation(last: Advice, fleet: Saturated, policy: PolicyConfig) -> Advice:
    """Return the ``last`` advice, raised to what would serve all that waits, while nothing is known of a replica.

    A step goes to ``max_step_up_ratio`` times what serves at most, however long the queue becomes until more do.
    """
    cap = step_cap(fleet.ready, 0, policy)
    target, clamped = limited(min(fleet.needed, cap), policy)
    if target <= last.desired:
        return last
    if fleet.needed > cap:
        clamped = (*clamped, "max_step_up_ratio")
    text = f"{_BETWEEN}: {fleet.queued:,} requests wait beside {fleet.running:,} that run on "
    text += f"{replicas_text(fleet.ready)}, which are full; advising {replicas_text(target)}"
    return moved(last, target, Reason.COLD_START, text, clamped)
