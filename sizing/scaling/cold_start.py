"""Advice before forecasts can be trusted: what was observed, with room to grow, and never fewer than run."""

from __future__ import annotations

from sizing.planning.demand_needs import replicas_text
from sizing.planning.plan import Plan
from sizing.scaling.limits import limited
from sizing.scaling.recommendation import Advice
from sizing.types import PolicyConfig, Reason, RecommendationState
from sizing.wording import rule_words

__all__ = ["COLD_GROWTH", "cold_advice"]

#: Before forecasts can be trusted, and where no rule says what to provision for, demand is taken to grow so much.
COLD_GROWTH = 1.2


def cold_advice(reference: int | None, plan: Plan, policy: PolicyConfig, rule: str | None) -> Advice:
    """Return what a plan says while nothing may be taken away.

    Args:
        reference: what runs or was advised, whichever is more; None: neither is known.
        plan: for what was observed, with room to grow.
        policy: with the limits.
        rule: that says most of what is provisioned for; None: there is none, and demand grows by ``COLD_GROWTH``.
    """
    base = policy.min_replicas if reference is None else reference
    target, clamped = limited(max(plan.unclamped, base), policy)
    # Limits bound what is added; they never take away what runs while nothing is known yet.
    desired = max(target, base)
    rate, capacity = (need := plan.decisive).figures()
    basis = f"{COLD_GROWTH:g} times what was observed" if rule is None else f"mostly by {rule_words(rule)}"
    text = f"cold start: {rate} {need.unit} needs {replicas_text(plan.unclamped)} ({capacity} {need.unit} each), "
    text += f"{basis}; advising {replicas_text(desired)}"
    return Advice(
        desired,
        min(plan.lower, desired),
        max(plan.upper, desired),
        Reason.COLD_START,
        RecommendationState.COLD_START,
        text,
        plan.constraint,
        clamped,
        plan,
    )
