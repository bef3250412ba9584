"""A configured pool has no valid advice."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="recommendation_stale",
    alert="TokentideRecommendationStale",
    group="pipeline",
    severity="critical",
    summary="A configured pool has no valid advice.",
    description=(
        "The advice for {{ $labels.model }}/{{ $labels.pool }} has expired or was never given; consumers hold."
    ),
    expr=("max by (model, pool) (tokentide_pool_info) unless on (model, pool) tokentide_recommended_replicas"),
    for_seconds=300,
)
