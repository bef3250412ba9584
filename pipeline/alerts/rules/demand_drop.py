"""Demand has fallen far below what was expected."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts, RuleCase


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:  # noqa: ARG001
    return None if facts.window.gap else facts.demand_drop  # missing telemetry is told as such


RULE = AlertRule(
    name="demand_drop",
    alert="TokentideDemandDrop",
    group="demand",
    severity="warning",
    summary="Demand has fallen far below the forecast and the recent level.",
    description=(
        "The demand of {{ $labels.model }}/{{ $labels.pool }} is far below its forecast and its recent level. Requests "
        "may fail before they reach the servers: check the gateway, DNS and the largest clients before you scale down."
    ),
    # Missing telemetry is told as such.
    expr=(
        'max by (model, pool) (tokentide_alert_active{kind="demand_drop"}) == 1 unless on (model, pool) '
        "max by (model, pool) (tokentide_telemetry_gap) == 1"
    ),
    for_seconds=60,
    engine=EngineRule(
        condition=_condition, title="Demand drop", one="drop in demand", many="drops in demand", colour="red"
    ),
    cases=(
        RuleCase(
            name="a drop that lasts fires until telemetry is missing, another pool is left alone",
            series={
                'tokentide_alert_active{model="m",pool="p",kind="demand_drop",instance="a"}': "_x10 1x30 _x20",
                'tokentide_alert_active{model="m",pool="q",kind="slo_infeasible",instance="a"}': "1x60",
                'tokentide_telemetry_gap{model="m",pool="p",instance="a"}': "0x30 1x10 0x20",
                'tokentide_telemetry_gap{model="m",pool="q",instance="a"}': "0x60",
            },
            silent_at=(9, 35, 50),
            fires_at=(15, 28),
            labels={"model": "m", "pool": "p"},
            description=(
                "The demand of m/p is far below its forecast and its recent level. Requests may fail before they reach "
                "the servers: check the gateway, DNS and the largest clients before you scale down."
            ),
        ),
    ),
)
