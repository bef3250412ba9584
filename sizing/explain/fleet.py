"""Steps 12 and 13: the fleet for the forecast at the lead time; what to watch and what it costs."""

from __future__ import annotations

from sizing.economics import break_even_utilisation, fleet_cost
from sizing.explain.model import GIVEN, Chart, Fact, Series, Step, Table, Value
from sizing.explain.question import Worked
from sizing.planning.demand_needs import whole
from sizing.planning.plan import needs
from sizing.wording import words

__all__ = ["fleet", "watch"]


def fleet(w: Worked) -> Step:
    """The fleet: the demand's quantile at the lead time over what one replica carries."""
    demand, policy, plan, point = w.question.demand, w.question.policy, w.plan, w.point
    decisive = plan.decisive
    rows: list[tuple[Value, ...]] = []
    for level, rate in zip(demand.levels, demand.requests_per_second, strict=True):
        needed = max(needs(demand, level, point).values())
        rows.append((f"p{level * 100:g}", rate, needed, whole(needed)))
    per_replica = w.question.deployment.gpus
    bars = ("lower (10 %)", "desired", "upper (90 %)")
    clamped = "" if plan.unclamped == plan.desired else f" (limits make {plan.desired} of {plan.unclamped})"
    return Step(
        12,
        "The fleet at the lead time",
        "How many replicas must be there when the demand is?",
        inputs=(
            Fact("lead time of a new replica", policy.lead_time_seconds, "s", GIVEN),
            Fact("forecast horizon", demand.horizon_seconds, "s", GIVEN),
            Fact("cost of one too few over one too many", policy.under_to_over_cost, "", GIVEN),
            Fact("limits", f"{policy.min_replicas} to {policy.max_replicas:,}", "replicas", GIVEN),
            Fact("one replica carries", decisive.capacity, decisive.unit, "step 11"),
        ),
        results=(
            Fact(
                "quantile of demand",
                plan.demand_quantile * 100,
                "%",
                "cu / (cu + co), the newsvendor's (Arrow, Harris and Marschak 1951)",
            ),
            Fact("demand there", decisive.demand, decisive.unit, "quantiles given, linear in between"),
            Fact("replicas", plan.desired, "", f"demand / what one carries, rounded up{clamped}"),
            Fact(
                "10–90 %",
                f"{plan.lower}–{plan.upper}",
                "replicas",
                "log errors of demand and step time, added in squares",
            ),
            Fact("GPUs", plan.desired * per_replica, "", "replicas · GPUs per replica"),
            Fact("what decides", words(plan.currency), "", "the largest need over the demand's currencies"),
        ),
        conclusion=plan.message + ".",
        tables=(
            Table(
                "Need by quantile of demand",
                ("quantile", "req/s", "replicas, exact", "replicas"),
                tuple(rows),
                "demand given / operating point (step 11)",
            ),
        ),
        charts=(
            Chart(
                "stacked",
                "Replicas",
                "",
                "replicas",
                (Series("replicas", bars, (float(plan.lower), float(plan.desired), float(plan.upper))),),
            ),
        ),
    )


def watch(w: Worked) -> Step:
    """What to watch, when to calibrate again, and what it costs."""
    point, price = w.point, w.price
    fast, slow = w.known.support.step_ratios_80
    most, least = w.known.capacity_ratios
    rows: list[tuple[Value, ...]] = [
        (
            "TPOT, p50",
            point.p50.tpot_seconds * 1e3,
            "ms",
            point.p50.tpot_seconds * 1e3 * fast,
            point.p50.tpot_seconds * 1e3 * slow,
        ),
        (
            "req/s per replica at the objective",
            point.requests_per_second,
            "req/s",
            point.requests_per_second * least,
            point.requests_per_second * most,
        ),
        ("KV cache in use", 100 * point.kv_tokens / max(point.kv_capacity_tokens, 1.0), "%", None, 100.0),
    ]
    inputs: list[Fact] = [
        Fact("measured points of this deployment", w.known.points, "", "calibration"),
        Fact(
            "price of a GPU-hour",
            None if price is None else price.dollars_per_gpu_hour,
            "$",
            "no price is known" if price is None else f"{price.source} ({price.as_of})",
        ),
    ]
    results: list[Fact] = []
    words = [
        "Measure a load test or live windows of this deployment: nothing of it has been measured yet"
        if w.known.points == 0
        else "Calibrate again when measurements leave the bounds below"
    ]
    if price is not None and w.plan.desired:
        gpus = w.question.deployment.gpus
        cost = fleet_cost(price, w.plan.desired, gpus, w.workload, point.requests_per_second, w.median_rate)
        served = "price · GPUs / tokens served"
        results += [
            Fact("cost per hour", cost.dollars_per_hour, "$", "price · GPUs"),
            Fact("cost per month", cost.dollars_per_month, "$", "730.5 hours"),
            Fact(
                "utilisation at the median demand",
                None if cost.utilisation is None else cost.utilisation * 100,
                "%",
                "median rate / (replicas · operating point)",
            ),
            Fact(
                "cost per 1M output tokens",
                cost.dollars_per_million_output_tokens,
                "$",
                f"{served}, at the median demand",
            ),
            Fact(
                "cost per 1M tokens, in and out",
                cost.dollars_per_million_tokens,
                "$",
                f"{served}, at the median demand",
            ),
            Fact(
                "cost per 1M output tokens at capacity",
                cost.dollars_per_million_output_tokens_at_capacity,
                "$",
                f"{served}, full",
            ),
        ]
        api = w.question.api
        if api is not None:
            share = break_even_utilisation(price, gpus, w.workload, point.requests_per_second, api)
            inputs += [
                Fact("API, 1M input tokens", api.dollars_per_million_input_tokens, "$", api.source),
                Fact("API, 1M output tokens", api.dollars_per_million_output_tokens, "$", api.source),
            ]
            results.append(
                Fact(
                    "break-even utilisation",
                    share * 100,
                    "%",
                    "own cost per hour / API cost of a full replica's tokens",
                )
            )
            used = cost.utilisation or 0.0
            verdict = "cheaper" if used > share else "dearer"
            words.append(
                "the API is cheaper at any load"
                if share > 1
                else f"own GPUs are {verdict} than the API: {used:.0%} used, {share:.0%} breaks even"
            )
    return Step(
        13,
        "Monitor, recalibrate, cost",
        "What should be seen if this is right, and what does it cost?",
        inputs=tuple(inputs),
        results=tuple(results),
        conclusion="; ".join(words) + ".",
        tables=(
            Table(
                "What to expect of a replica at its operating point",
                ("what", "expected", "unit", "lower", "upper"),
                tuple(rows),
                f"operating point (step 11), within the error of step times; {w.step_source}",
            ),
        ),
    )
