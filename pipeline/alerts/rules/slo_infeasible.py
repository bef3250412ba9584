"""No number of replicas can hold the latency objective."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts
from sizing.types import Constraint


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:  # noqa: ARG001
    advice = facts.recommendation
    if advice is None or advice.constraint is not Constraint.SLO_INFEASIBLE:
        return None
    return Condition(float(facts.window.end), "critical", None, None, advice.message)


RULE = AlertRule(
    name="slo_infeasible",
    alert="TokentideSloInfeasible",
    group="capacity",
    severity="critical",
    summary="No number of replicas can meet the latency objective.",
    description=(
        "The latency objective of {{ $labels.model }}/{{ $labels.pool }} cannot be met by adding replicas. Read the "
        "message of the recommendation: it names the smallest change that helps."
    ),
    expr="max by (model, pool) (tokentide_slo_infeasible) == 1",
    for_seconds=300,
    engine=EngineRule(
        condition=_condition, title="SLO infeasible", one="SLO infeasible", many="SLOs infeasible", colour="red"
    ),
)
