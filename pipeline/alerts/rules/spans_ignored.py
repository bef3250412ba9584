"""Nearly all spans that arrive are no requests."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase
from pipeline.alerts.shares import share_above, share_of

_IGNORED = "tokentide_event_parts_ignored_total"
_WHOLE = (_IGNORED, "tokentide_events_accepted_total", "tokentide_events_duplicate_total")

RULE = AlertRule(
    name="spans_ignored",
    alert="TokentideSpansIgnored",
    group="losses",
    severity="warning",
    summary="More than <share %> of the spans are not recognised as requests.",
    description=(
        "{{ $value | humanizePercentage }} of the spans of the last 15 minutes were not recognised as requests. Run "
        "`tokentide events tap` to see why, and filter other spans in the collector."
    ),
    expr=share_above(_IGNORED, *_WHOLE),
    for_seconds=1800,
    thresholds={"share": 0.95, "least_events": 1000},
    panel=Panel(
        title="Ignored spans",
        description="Share of spans, of all parts of records and events, that are no requests; the alert fires above "
        "<share %>.",
        expr=share_of(_IGNORED, *_WHOLE),
    ),
    cases=(
        RuleCase(
            name="an update renames the attributes: all spans are ignored",
            series={
                f'{_IGNORED}{{instance="a"}}': "0+300x30 9000+400x60",
                'tokentide_events_accepted_total{instance="a"}': "0+100x30 3000x60",
                'tokentide_events_duplicate_total{instance="a"}': "0x90",
            },
            silent_at=(30, 60),
            fires_at=(80,),
            description=(
                "100% of the spans of the last 15 minutes were not recognised as requests. Run `tokentide events tap` "
                "to see why, and filter other spans in the collector."
            ),
        ),
        RuleCase(
            name="traces of a quiet application without requests",
            series={
                f'{_IGNORED}{{instance="a"}}': "0+10x90",
                'tokentide_events_accepted_total{instance="a"}': "0x90",
                'tokentide_events_duplicate_total{instance="a"}': "0x90",
            },
            silent_at=(90,),
        ),
    ),
)
