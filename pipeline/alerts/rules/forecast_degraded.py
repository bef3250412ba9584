"""Demand exceeds the forecast's upper band far more often than it should."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="forecast_degraded",
    alert="TokentideForecastDegraded",
    group="forecast",
    severity="warning",
    summary="Demand exceeds the p95 forecast far more often than it should.",
    description=(
        "Fewer than <coverage %> of the measured request rates of {{ $labels.model }}/{{ $labels.pool }} were at or "
        "below the p95 forecast made 15 minutes before; 95 % should be. The forecast usually adapts within hours; "
        "until then, raise min_replicas."
    ),
    expr=(
        "min by (model, pool) "
        '(tokentide_forecast_coverage_ratio{signal="requests_per_second",horizon_seconds="900",interval="p95"}) '
        "< <coverage>"
    ),
    for_seconds=1800,
    thresholds={"coverage": 0.85},
)
