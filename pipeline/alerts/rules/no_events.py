"""No request events arrive at all."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="no_events",
    alert="TokentideNoEvents",
    group="pipeline",
    severity="warning",
    summary="No request events arrive at all.",
    description="Not one record has been read from the request topic for ten minutes.",
    expr="sum(rate(tokentide_events_consumed_total[10m])) == 0",
    for_seconds=600,
)
