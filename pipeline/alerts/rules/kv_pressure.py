"""The KV caches of a pool are about to be full, or requests are preempted because they are."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts, RuleCase
from pipeline.forecast.types import LEVELS, Signal

_MEDIAN = LEVELS.index(0.5)
_LABELS = 'model="m",pool="p",instance="a"'


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:
    """Predicted KV use, or preemptions of the newest window; what is not known raises nothing."""
    window = facts.window
    if window.gap or facts.missing:
        return None
    pool = f"{window.model}/{window.pool}"
    use, ahead_seconds = _predicted_use(facts)
    if use > thresholds["kv_use"]:
        text = (
            f"{pool}: {use:.0%} of the KV cache of the {window.current_replicas} replicas in place is expected to be "
            f"in use in {ahead_seconds / 60:.3g} min; requests will wait or be preempted"
        )
        # More than there is cannot be held by any order of serving.
        return Condition(window.end + ahead_seconds, "critical" if use > 1.0 else "warning", use, None, text)
    preempted = window.preemptions / max(window.requests, 1)
    if window.requests >= thresholds["least_requests"] and preempted > thresholds["preemptions"]:
        text = (
            f"{pool}: {window.preemptions:,} preemptions in {window.requests:,} requests: the KV cache is full, and "
            "what was computed for them is computed anew"
        )
        return Condition(float(window.start), "warning", None, None, text)
    return None


def _predicted_use(facts: PoolFacts) -> tuple[float, float]:
    """Return the median of the KV tokens at the lead time over what the replicas in place hold, and seconds until then.

    0 where the replicas, what one holds, or the forecast is not known.
    """
    advice, replicas = facts.recommendation, facts.window.current_replicas
    forecasts = facts.forecasts.get(Signal.KV_TOKENS, ())
    if advice is None or not replicas or not forecasts:
        return 0.0, 0.0
    held = advice.evidence.get("capacity_kv_tokens_per_replica", 0.0)
    if held <= 0:
        return 0.0, 0.0
    lead = advice.evidence.get("lead_time_seconds", 0.0)
    at_lead = next((one for one in forecasts if one.horizon_seconds >= lead), forecasts[-1])
    return at_lead.quantiles[_MEDIAN] / (replicas * held), float(at_lead.horizon_seconds)


RULE = AlertRule(
    name="kv_pressure",
    alert="TokentideKvPressure",
    group="capacity",
    severity="warning",
    summary="The KV caches of a pool are about to be full.",
    description=(
        "More than <kv_use %> of the KV cache of {{ $labels.model }}/{{ $labels.pool }} is expected to be in use, or "
        "more than <preemptions %> of its requests are preempted: the alert on the board says which. Time to first "
        "token rises next."
    ),
    # Missing telemetry is told as such.
    expr=(
        'max by (model, pool) (tokentide_alert_active{kind="kv_pressure"}) == 1 unless on (model, pool) '
        "max by (model, pool) (tokentide_telemetry_gap) == 1"
    ),
    for_seconds=60,
    thresholds={"kv_use": 0.9, "preemptions": 0.05, "least_requests": 20},
    engine=EngineRule(
        condition=_condition, title="KV pressure", one="pool short of KV cache", many="pools short of KV cache"
    ),
    cases=(
        RuleCase(
            name="a pool whose cache fills fires until telemetry is missing, one with other troubles does not",
            series={
                f'tokentide_alert_active{{{_LABELS},kind="kv_pressure"}}': "0x10 1x30 0x20",
                'tokentide_alert_active{model="m",pool="q",kind="slo_infeasible",instance="a"}': "1x60",
                f"tokentide_telemetry_gap{{{_LABELS}}}": "0x30 1x5 0x25",
                'tokentide_telemetry_gap{model="m",pool="q",instance="a"}': "0x60",
            },
            silent_at=(10, 33, 50),
            fires_at=(15, 28),
            labels={"model": "m", "pool": "p"},
            description="More than 90 % of the KV cache of m/p is expected to be in use, or more than 5 % of its "
            "requests are preempted: the alert on the board says which. Time to first token rises next.",
        ),
    ),
)
