"""The recommendation has reached the configured maximum."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="capacity_at_max",
    alert="TokentideCapacityAtMax",
    group="capacity",
    severity="warning",
    summary="The recommendation has reached the configured maximum.",
    description="The advice for {{ $labels.model }}/{{ $labels.pool }} is at max_replicas; more may be needed.",
    expr=(
        "max by (model, pool) (tokentide_recommended_replicas) >= max by (model, pool) "
        "(tokentide_recommended_replicas_max)"
    ),
    for_seconds=600,
)
