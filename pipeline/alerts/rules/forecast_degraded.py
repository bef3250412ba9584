"""Demand exceeds the forecast's upper band far more often than it should."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="forecast_degraded",
    alert="TokentideForecastDegraded",
    group="forecast",
    severity="warning",
    summary="Demand exceeds the forecast's upper band far more often than it should.",
    description=(
        "Fewer than <coverage %> of the actuals of {{ $labels.model }}/{{ $labels.pool }} stay under the 95 % "
        "band 15 minutes ahead."
    ),
    expr=(
        "min by (model, pool) "
        '(tokentide_forecast_coverage_ratio{signal="requests_per_second",horizon_seconds="900",interval="p95"}) '
        "< <coverage>"
    ),
    for_seconds=1800,
    thresholds={"coverage": 0.85},
)
