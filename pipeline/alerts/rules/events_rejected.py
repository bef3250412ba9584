"""More than 1 % of the records are refused."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="events_rejected",
    alert="TokentideEventsRejected",
    group="pipeline",
    severity="warning",
    summary="More than <share %> of the records are rejected.",
    description=(
        "{{ $value | humanizePercentage }} of the records are rejected and become dead letters. Read the headers "
        "dlq.reason and dlq.detail in the dead-letter topic, then repair the emitter."
    ),
    expr="sum(rate(tokentide_events_rejected_total[10m])) / sum(rate(tokentide_events_consumed_total[10m])) > <share>",
    for_seconds=600,
    thresholds={"share": 0.01},
)
