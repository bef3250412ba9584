"""Demand is forecast to rise, and what is in place may not hold it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts, SpikeLabels


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:  # noqa: ARG001
    return facts.spike_forecast


RULE = AlertRule(
    name="spike_forecast",
    alert="TokentideDemandSpikeForecast",
    group="demand",
    severity="warning",
    summary="Demand is forecast to rise, and the current replicas may be too few.",
    description=(
        "The demand of {{ $labels.model }}/{{ $labels.pool }} is forecast to rise and may exceed what its current "
        "replicas can serve. The alert on the board gives the size of the rise and the probability. Check that the "
        "autoscaler adds replicas; if it does not, add them before the onset."
    ),
    expr='max by (model, pool) (tokentide_spike_active{kind="forecast"}) == 1',
    for_seconds=60,
    engine=EngineRule(
        condition=_condition,
        title="Spike forecast",
        one="spike forecast",
        many="spikes forecast",
        spike=SpikeLabels("forecast", held="rise"),
    ),
)
