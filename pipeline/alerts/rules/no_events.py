"""No request events arrive at all."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="no_events",
    alert="TokentideNoEvents",
    group="pipeline",
    severity="warning",
    summary="No request events arrive at all.",
    description=(
        "Tokentide has read no record from the request topics for 10 minutes. Run `tokentide doctor`, then check the "
        "emitters and the aggregators."
    ),
    expr="sum(rate(tokentide_events_consumed_total[10m])) == 0",
    for_seconds=600,
)
