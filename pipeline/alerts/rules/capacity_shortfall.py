"""A pool has run with fewer replicas than recommended for longer than they take to start."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, RuleCase

_ADVISED = "max by (model, pool) (tokentide_recommended_replicas)"
_LOWER = "max by (model, pool) (tokentide_recommended_replicas_lower)"
_CURRENT = "max by (model, pool) (tokentide_current_replicas)"
_SAID = (
    "m/p has had fewer replicas than recommended for 5 minutes. Check that the autoscaler follows the recommendation "
    "and that accelerators are free; if not, scale by hand."
)


def _series(recommended: str, lower: str, current: str) -> dict[str, str]:
    values = {"recommended_replicas": recommended, "recommended_replicas_lower": lower, "current_replicas": current}
    return {f'tokentide_{name}{{model="m",pool="p",instance="a"}}': text for name, text in values.items()}


RULE = AlertRule(
    name="capacity_shortfall",
    alert="TokentideCapacityShortfall",
    group="capacity",
    severity="critical",
    summary="A pool has had fewer replicas than recommended for longer than a replica usually takes to start.",
    description=(
        "{{ $labels.model }}/{{ $labels.pool }} has had fewer replicas than recommended for 5 minutes. Check that the "
        "autoscaler follows the recommendation and that accelerators are free; if not, scale by hand."
    ),
    # The HPA leaves differences of up to 10 % alone by default, so such advice may never be followed.
    expr=f"{_ADVISED} > <ratio> * {_CURRENT} or {_LOWER} > {_CURRENT}",
    for_seconds=300,
    thresholds={"ratio": 1.1},
    cases=(
        RuleCase(
            name="a tenth more than runs is within the tolerance of autoscalers, more is not",
            series=_series("11x20 12x20", "9x40", "10x40"),
            silent_at=(20, 25),
            fires_at=(27,),
            labels={"model": "m", "pool": "p"},
            description=_SAID,
        ),
        RuleCase(
            name="what is surely needed is missing, however little",
            series=_series("42x40", "40x10 41x10 40x20", "40x40"),
            silent_at=(10, 30),
            fires_at=(17,),
            labels={"model": "m", "pool": "p"},
            description=_SAID,
        ),
    ),
)
