"""Events were lost."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="events_lost",
    alert="TokentideEventsLost",
    group="pipeline",
    severity="critical",
    summary="Events were lost.",
    description=(
        "Offsets or window deltas are missing: the demand of the affected windows is under-counted for good. Lengthen "
        "the retention of the topics; add aggregators if reading cannot keep up."
    ),
    expr=("sum(increase(tokentide_events_lost_total[15m])) > 0 or sum(increase(tokentide_delta_gaps_total[15m])) > 0"),
    for_seconds=60,
)
