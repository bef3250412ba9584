"""Telemetry of a pool is missing."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:  # noqa: ARG001
    window = facts.window
    # Whether a pool that nobody configured should send anything is not known.
    if not (window.gap or facts.missing) or not facts.configured:
        return None
    found = "".join(f" ({text})" for text in facts.missing)
    text = f"{window.model}/{window.pool}: telemetry is missing{found}; advice is held and nothing is learned"
    return Condition(float(window.start), "warning", None, None, text)


RULE = AlertRule(
    name="telemetry_gap",
    alert="TokentideTelemetryGap",
    group="pipeline",
    severity="warning",
    summary="Telemetry of a pool is missing.",
    description=(
        "No credible telemetry comes from {{ $labels.model }}/{{ $labels.pool }}. The forecast does not learn, and the "
        "recommendation is held. Check the emitter or the gateway that writes the events."
    ),
    expr="max by (model, pool) (tokentide_telemetry_gap) == 1",
    for_seconds=300,
    engine=EngineRule(condition=_condition, title="Telemetry gap", one="telemetry gap", many="telemetry gaps"),
)
