"""Nothing has been written to the store for minutes."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="store_write_failing",
    alert="TokentideStoreWriteFailing",
    group="pipeline",
    severity="critical",
    summary="Nothing has been written to the store for more than <age_seconds> s.",
    description=(
        "The newest transaction of the store is {{ $value | humanizeDuration }} old. Check the free disk space, the "
        "controller's log and whether the aggregators run."
    ),
    expr=(
        "max(tokentide_clock_timestamp_seconds - on (instance) group_right () "
        'tokentide_stage_last_success_timestamp_seconds{stage="store"}) > <age_seconds>'
    ),
    for_seconds=300,
    thresholds={"age_seconds": 120},
)
