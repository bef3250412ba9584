"""A pool has run with more replicas than even the upper end of the advice for half an hour."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="scale_down_opportunity",
    alert="TokentideScaleDownOpportunity",
    group="capacity",
    severity="info",
    summary="A pool has had more replicas than the upper end of its recommendation for 30 minutes.",
    description=(
        "{{ $labels.model }}/{{ $labels.pool }} has more replicas than the upper end of its recommendation, which is "
        "{{ $value }}. Scale down to that number, unless an announced event is near."
    ),
    expr=(
        "max by (model, pool) (tokentide_recommended_replicas_upper) < max by (model, pool) "
        "(tokentide_current_replicas)"
    ),
    for_seconds=1800,
)
