"""Duplicates are an unusual share of the events."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase
from pipeline.alerts.shares import share_above, share_of

_DUPLICATE, _ACCEPTED = "tokentide_events_duplicate_total", "tokentide_events_accepted_total"

RULE = AlertRule(
    name="events_duplicate",
    alert="TokentideEventsDuplicate",
    group="losses",
    severity="warning",
    summary="More than <share %> of the events are duplicates.",
    description=(
        "{{ $value | humanizePercentage }} of the events of the last 15 minutes were duplicates; each event counts "
        "once. Check whether an emitter sends events twice, or two emitters report the same requests."
    ),
    expr=share_above(_DUPLICATE, _ACCEPTED, _DUPLICATE),
    for_seconds=900,
    thresholds={"share": 0.05, "least_events": 100},
    panel=Panel(
        title="Duplicates",
        description="Share of the events that had been seen before; the alert fires above <share %>.",
        expr=share_of(_DUPLICATE, _ACCEPTED, _DUPLICATE),
    ),
    cases=(
        RuleCase(
            name="a tenth of the events is sent twice, then none",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+90x60 5400+90x60",
                f'{_DUPLICATE}{{instance="a"}}': "0x20 0+10x40 400x60",
            },
            silent_at=(15, 20, 90),
            fires_at=(60,),
            description=(
                "10% of the events of the last 15 minutes were duplicates; each event counts once. Check whether an "
                "emitter sends events twice, or two emitters report the same requests."
            ),
        ),
        RuleCase(
            name="retries of a few, and too few events to judge by",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+98x60 5880+3x60",
                f'{_DUPLICATE}{{instance="a"}}': "0+2x60 120+1x60",
            },
            silent_at=(60, 110),
        ),
    ),
)
