"""The controller is not ready."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="not_ready",
    alert="TokentideNotReady",
    group="pipeline",
    severity="warning",
    summary="The controller is not ready.",
    description=(
        "The controller has run for 5 minutes without being ready, and gives no new recommendations. /readyz says why."
    ),
    expr="max(tokentide_ready) == 0",
    for_seconds=300,
)
