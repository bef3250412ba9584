"""Batches of records cannot be read."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase
from pipeline.alerts.shares import SPAN

_UNREADABLE = 'tokentide_events_rejected_total{reason="unreadable"}'

RULE = AlertRule(
    name="batches_unreadable",
    alert="TokentideBatchesUnreadable",
    group="losses",
    severity="warning",
    summary="Batches of records cannot be read.",
    description=(
        "{{ $value | humanize }} records of the last 15 minutes were in batches that cannot be read. Read dlq.detail "
        "of the dead letters, then check the producer and the broker's disks."
    ),
    expr=f"sum(increase({_UNREADABLE}[{SPAN}])) > <records>",
    for_seconds=60,
    thresholds={"records": 0},
    panel=Panel(
        title="Unreadable records",
        description="Records of the last 15 minutes in batches that cannot be read; the alert fires above <records>.",
        expr=f"sum(increase({_UNREADABLE}[{SPAN}]))",
        unit="short",
    ),
    cases=(
        RuleCase(
            name="one batch of 300 records is damaged; other refusals are not meant",
            series={
                'tokentide_events_rejected_total{reason="unreadable",instance="a"}': "0x20 300x40",
                'tokentide_events_rejected_total{reason="malformed",instance="a"}': "0+9x60",
            },
            silent_at=(20, 50),
            fires_at=(30,),
            description=(
                "300 records of the last 15 minutes were in batches that cannot be read. Read dlq.detail of the dead "
                "letters, then check the producer and the broker's disks."
            ),
        ),
    ),
)
