"""What results say of Tokentide's advice against the other policies, plainly."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluate.policies.oracle import SPEC as ORACLE
from pipeline.evaluate.policies.tokentide import SPEC as TOKENTIDE
from pipeline.evaluate.result import PolicyResult

__all__ = ["verdict"]

#: Attainment within 0.1 points and replica-hours within 3 % are the same.
_SAME_ATTAINMENT, _SAME_HOURS = 0.001, 1.03


def verdict(results: Sequence[PolicyResult]) -> str:
    """Return whether a rule attains as much or more with as little as Tokentide; empty where that was not evaluated.

    The oracle is no rule that anybody can follow and is left out.
    """
    ours = next((result for result in results if result.policy == TOKENTIDE.name), None)
    if ours is None or ours.slo_attainment is None:
        return ""
    rivals = [r for r in results if r.policy not in (TOKENTIDE.name, ORACLE.name)]
    as_good = [
        r
        for r in rivals
        if (r.slo_attainment or 0.0) >= ours.slo_attainment - _SAME_ATTAINMENT
        and r.replica_hours <= ours.replica_hours * _SAME_HOURS
    ]
    own = f"{TOKENTIDE.name} {_figures(ours)}"
    if as_good:
        told = "; ".join(f"{r.policy} {_figures(r)}" for r in sorted(as_good, key=lambda r: r.replica_hours))
        better = any((r.slo_attainment or 0.0) > ours.slo_attainment + _SAME_ATTAINMENT for r in as_good)
        return f"A simple rule is {'better' if better else 'as good'} here: {told}; {own}."
    more = [r for r in rivals if (r.slo_attainment or 0.0) > ours.slo_attainment + _SAME_ATTAINMENT]
    if more:
        least = min(more, key=lambda r: r.replica_hours)
        return f"More is within the SLO at a higher cost: the cheapest is {least.policy} {_figures(least)}; {own}."
    return (
        f"No rule attains as much with as few replica-hours: {own}." if rivals else f"Nothing to compare with: {own}."
    )


def _figures(result: PolicyResult) -> str:
    return f"{result.slo_attainment or 0.0:.2%} within the SLO with {result.replica_hours:,.2f} replica-hours"
