"""Events arrive after their window has closed."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase
from pipeline.alerts.shares import share_above, share_of

_LATE, _ACCEPTED = "tokentide_events_late_total", "tokentide_events_accepted_total"

RULE = AlertRule(
    name="events_late",
    alert="TokentideEventsLate",
    group="losses",
    severity="warning",
    summary="More than <share %> of the events arrive after their window has closed.",
    description=(
        "{{ $value | humanizePercentage }} of the events of the last 15 minutes arrived after their window had closed. "
        "Check the clocks of the servers and the batching of the emitters."
    ),
    expr=share_above(_LATE, _ACCEPTED),
    for_seconds=900,
    thresholds={"share": 0.01, "least_events": 100},
    panel=Panel(
        title="Late events",
        description="Share of the events that arrived after their window had closed; the alert fires above <share %>.",
        expr=share_of(_LATE, _ACCEPTED),
    ),
    cases=(
        RuleCase(
            name="every twentieth event is late, then none",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+100x120",
                f'{_LATE}{{instance="a"}}': "0x20 0+5x40 200x60",
            },
            silent_at=(20, 90),
            fires_at=(60,),
            description=(
                "5% of the events of the last 15 minutes arrived after their window had closed. Check the clocks of "
                "the servers and the batching of the emitters."
            ),
        ),
        RuleCase(
            name="half a percent, and too few events to judge by",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+200x60 12000+3x60",
                f'{_LATE}{{instance="a"}}': "0+1x60 60+1x60",
            },
            silent_at=(60, 110),
        ),
    ),
)
