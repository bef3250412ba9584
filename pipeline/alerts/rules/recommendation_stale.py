"""A configured pool has no valid advice."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="recommendation_stale",
    alert="TokentideRecommendationStale",
    group="pipeline",
    severity="critical",
    summary="A configured pool has no valid recommendation.",
    description=(
        "The recommendation for {{ $labels.model }}/{{ $labels.pool }} has expired or was never made; autoscalers keep "
        "the replicas that run. Check /v1/status and the other alerts of the pipeline."
    ),
    expr=("max by (model, pool) (tokentide_pool_info) unless on (model, pool) tokentide_recommended_replicas"),
    for_seconds=300,
)
