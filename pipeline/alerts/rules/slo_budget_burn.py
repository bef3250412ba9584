"""So many requests miss the latency objective that the error budget is gone within days."""

from __future__ import annotations

from pipeline.alerts.burn_rates import burning, enough
from pipeline.alerts.rule import AlertRule, RuleCase

_LABELS = {"model": "m", "pool": "p"}


def _series(objective: float, rates: dict[str, str], per_minute: float = 100) -> dict[str, str]:
    labels = 'model="m",pool="p",instance="a"'
    series = {f'tokentide_slo_burn_rate_ratio{{{labels},span="{span}"}}': text for span, text in rates.items()}
    series[f"tokentide_slo_objective_ratio{{{labels}}}"] = f"{objective}x600"
    series[f'tokentide_requests_total{{{labels},status="ok"}}'] = f"0+{per_minute:g}x600"
    return series


RULE = AlertRule(
    name="slo_budget_burn",
    alert="TokentideSloBudgetBurn",
    group="capacity",
    severity="critical",
    summary="So many requests miss the latency objective that the error budget will be used up within days.",
    description=(
        "{{ $labels.model }}/{{ $labels.pool }} uses up its error budget {{ $value | humanize }} times as fast as its "
        "latency objective allows. Compare the replicas that run with the recommendation, then look for failures and "
        "timeouts."
    ),
    expr=(f"({burning('1h', '5m', 'burn_1h')} or {burning('6h', '30m', 'burn_6h')}) and {enough('1h')}"),
    for_seconds=60,
    thresholds={"burn_1h": 14.4, "burn_6h": 6, "most_share": 0.8, "least_requests": 20},
    cases=(
        RuleCase(
            name="an hour at 15 times the budget, until the last five minutes are calm",
            series=_series(0.95, {"1h": "1x20 15x20 15x40", "5m": "15x40 1x40", "6h": "3x80", "30m": "15x80"}),
            silent_at=(20, 43),
            fires_at=(30,),
            labels=_LABELS,
            description=(
                "m/p uses up its error budget 15 times as fast as its latency objective allows. Compare the replicas "
                "that run with the recommendation, then look for failures and timeouts."
            ),
        ),
        RuleCase(
            name="six hours at 7 times the budget",
            series=_series(0.95, {"1h": "7x80", "5m": "7x80", "6h": "5x20 7x60", "30m": "7x80"}),
            silent_at=(20,),
            fires_at=(30,),
            labels=_LABELS,
            description=(
                "m/p uses up its error budget 7 times as fast as its latency objective allows. Compare the replicas "
                "that run with the recommendation, then look for failures and timeouts."
            ),
        ),
        RuleCase(
            name="an objective of 90 %, of which nothing can burn faster than 10",
            series=_series(0.9, {"1h": "7x20 9x60", "5m": "9x80", "6h": "2x80", "30m": "9x80"}),
            silent_at=(20,),
            fires_at=(30,),
            labels=_LABELS,
            description=(
                "m/p uses up its error budget 9 times as fast as its latency objective allows. Compare the replicas "
                "that run with the recommendation, then look for failures and timeouts."
            ),
        ),
        RuleCase(
            name="a pool with next to no requests",
            series=_series(0.95, dict.fromkeys(("1h", "5m", "6h", "30m"), "20x200"), per_minute=0.1),
            silent_at=(30, 190),
        ),
    ),
)
