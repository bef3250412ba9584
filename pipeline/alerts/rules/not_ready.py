"""The controller is not ready."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="not_ready",
    alert="TokentideNotReady",
    group="pipeline",
    severity="warning",
    summary="The controller is not ready.",
    description="The controller has been up but not ready for five minutes.",
    expr="max(tokentide_ready) == 0",
    for_seconds=300,
)
