"""Windows close far behind the clock."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="pipeline_lagging",
    alert="TokentidePipelineLagging",
    group="pipeline",
    severity="warning",
    summary="Windows close far behind the clock.",
    description="The watermark is {{ $value | humanizeDuration }} behind.",
    expr="max(tokentide_watermark_lag_seconds) > <lag_seconds>",
    for_seconds=300,
    thresholds={"lag_seconds": 300},
)
