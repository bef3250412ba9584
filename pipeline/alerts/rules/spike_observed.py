"""Demand has jumped far above what was expected."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts, SpikeLabels


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:  # noqa: ARG001
    return facts.spike_observed


RULE = AlertRule(
    name="spike_observed",
    alert="TokentideDemandSpikeObserved",
    group="demand",
    severity="warning",
    summary="Demand has jumped far above the forecast and the recent level.",
    description=(
        "The demand of {{ $labels.model }}/{{ $labels.pool }} is far above its forecast and its recent level. Check "
        "that the replicas follow the recommendation; `tokentide spikes show` shows what caused the spike."
    ),
    expr='max by (model, pool) (tokentide_spike_active{kind="observed"}) == 1',
    for_seconds=60,
    engine=EngineRule(
        condition=_condition,
        title="Spike observed",
        one="spike observed",
        many="spikes observed",
        colour="red",
        spike=SpikeLabels("observed", held="foreseen"),
    ),
)
