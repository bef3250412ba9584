"""The recommendation has reached the configured maximum."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="capacity_at_max",
    alert="TokentideCapacityAtMax",
    group="capacity",
    severity="warning",
    summary="The recommendation has reached the configured maximum number of replicas.",
    description=(
        "The recommendation for {{ $labels.model }}/{{ $labels.pool }} is {{ $value }} replicas, its configured "
        "maximum (max_replicas); demand may need more. Raise max_replicas, or limit the load."
    ),
    expr=(
        "max by (model, pool) (tokentide_recommended_replicas) >= max by (model, pool) "
        "(tokentide_recommended_replicas_max)"
    ),
    for_seconds=600,
)
