"""Windows close far behind the clock."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="pipeline_lagging",
    alert="TokentidePipelineLagging",
    group="pipeline",
    severity="warning",
    summary="The pipeline is more than <lag_seconds> s behind the clock.",
    description=(
        "The watermark is {{ $value | humanizeDuration }} behind the clock: forecasts and recommendations are as old "
        "as that. Check the lag by topic (tokentide_consumer_lag_records) and the clocks of the emitters."
    ),
    expr="max(tokentide_watermark_lag_seconds) > <lag_seconds>",
    for_seconds=300,
    thresholds={"lag_seconds": 300},
)
