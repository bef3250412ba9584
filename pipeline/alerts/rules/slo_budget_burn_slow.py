"""Requests miss the latency objective a little too often, for days."""

from __future__ import annotations

from pipeline.alerts.burn_rates import burning, enough
from pipeline.alerts.rule import AlertRule, RuleCase

RULE = AlertRule(
    name="slo_budget_burn_slow",
    alert="TokentideSloBudgetBurnSlow",
    group="capacity",
    severity="warning",
    summary="Requests have missed the latency objective too often for 3 days.",
    description=(
        "{{ $labels.model }}/{{ $labels.pool }} has used up its error budget {{ $value | humanize }} times as fast as "
        "its latency objective allows, over 3 days. Run `tokentide recommend score` to see whether the advice was too "
        "low or the replicas came late."
    ),
    expr=f"{burning('3d', '6h', 'burn_3d')} and {enough('6h')}",
    for_seconds=600,
    thresholds={"burn_3d": 1, "most_share": 0.8, "least_requests": 100},
    cases=(
        RuleCase(
            name="three days at 1.5 times the budget, until the last six hours are within it",
            series={
                'tokentide_slo_burn_rate_ratio{model="m",pool="p",instance="a",span="3d"}': "1x60 1.5x120",
                'tokentide_slo_burn_rate_ratio{model="m",pool="p",instance="a",span="6h"}': "1.5x120 0.5x60",
                'tokentide_slo_objective_ratio{model="m",pool="p",instance="a"}': "0.95x180",
                'tokentide_requests_total{model="m",pool="p",instance="a",status="ok"}': "0+10x180",
            },
            silent_at=(60, 68, 130),
            fires_at=(80,),
            labels={"model": "m", "pool": "p"},
            description=(
                "m/p has used up its error budget 1.5 times as fast as its latency objective allows, over 3 days. Run "
                "`tokentide recommend score` to see whether the advice was too low or the replicas came late."
            ),
        ),
    ),
)
