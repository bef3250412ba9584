"""A quarter's plan as JSON (schemas/fleet-quarter.v1.schema.json), as text and as an HTML page."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.quarter_file import QuarterPool
from sizing.catalog import Price
from sizing.explain.html import render_html
from sizing.explain.model import GIVEN, Chart, Explanation, Fact, Series, Step, Table
from sizing.explain.text import columns_text
from sizing.planning.commitments import Commitment, HourlyPrices
from sizing.planning.quarter import RISK_LEVELS, GpuQuarter, PoolDemand, WeekBand, week_bands
from sizing.price_age import age_words, is_stale, price_age_days
from sizing.types import Confidence
from sizing.wording import dollars

__all__ = ["PlannedPool", "quarter_html", "quarter_json", "quarter_text", "quarter_warnings"]

_LEVELS = tuple(f"p{round(level * 100)}" for level in RISK_LEVELS)
_DAY_SECONDS = 86_400
_DEMAND = "the day model's median, and a random walk with its spread (docs/quarter.md)"
_COMMITTED = "newsvendor over the demand paths (docs/quarter.md)"


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """A pool with its demand paths, how well its capacity is known, its growth per day by scenario, and its history."""

    described: QuarterPool
    demand: PoolDemand
    confidence: Confidence
    growth: Mapping[str, float]
    newest_day: int
    history_days: int


def quarter_json(
    plans: Sequence[GpuQuarter],
    pools: Sequence[PlannedPool],
    hourly: Mapping[str, HourlyPrices],
    day: datetime.date,
    *,
    weeks: int,
    paths: int,
    seed: int,
) -> dict[str, Any]:
    """Return the plan as the schema has it."""
    return {
        "schema": "tokentide.fleet-quarter.v1",
        "reference_date": day.isoformat(),
        "weeks": weeks,
        "paths": paths,
        "seed": seed,
        "risk_levels": list(RISK_LEVELS),
        "expected_dollars": sum(plan.expected_dollars for plan in plans),
        "expected_dollars_on_demand_only": sum(plan.expected_dollars_on_demand_only for plan in plans),
        "gpus": [_gpu_json(plan, hourly[plan.gpu], day) for plan in plans],
        "pools": [_pool_json(pool) for pool in pools],
    }


def _price_json(price: Price, day: datetime.date) -> dict[str, Any]:
    age = price_age_days(price.as_of, day)
    return {
        "dollars_per_gpu_hour": price.dollars_per_gpu_hour,
        "source": price.source,
        "as_of": price.as_of,
        "age_days": age,
        "stale": is_stale(age),
    }


def _levels(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(_LEVELS, values, strict=True))


def _weeks(bands: Sequence[WeekBand]) -> list[dict[str, Any]]:
    return [{"week": band.week, "mean": _levels(band.mean), "peak": _levels(band.peak)} for band in bands]


def _gpu_json(plan: GpuQuarter, hourly: HourlyPrices, day: datetime.date) -> dict[str, Any]:
    told = plan.expected
    return {
        "gpu": plan.gpu,
        "on_demand": _price_json(hourly.on_demand, day),
        "spot": None if hourly.spot is None else {**_price_json(hourly.spot, day), "most_share": hourly.spot_share},
        "gpus_by_week": _weeks(plan.weeks),
        "commitments": [_commitment_json(commitment, day) for commitment in plan.commitments],
        "committed_gpus": sum(commitment.gpus for commitment in plan.commitments),
        "committed_used_share": told.committed_used_share,
        "gpus_beyond_commitments": _levels(plan.hourly_peak_gpus),
        "expected_dollars": plan.expected_dollars,
        "expected_dollars_by_source": {
            "committed": float(told.committed.mean()),
            "on_demand": float(told.on_demand.mean()),
            "spot": float(told.spot.mean()),
        },
        "dollars": _levels(plan.dollars),
        "expected_dollars_on_demand_only": plan.expected_dollars_on_demand_only,
        "expected_dollars_committed_to_peak": plan.expected_dollars_committed_to_peak,
        "dollars_bound_after_quarter": plan.after_quarter_dollars,
        "growth_scenarios": [
            {
                "name": one.name,
                "last_week_peak_gpus": one.last_week_peak_gpus,
                "committed_gpus": one.committed_gpus,
                "dollars_with_plan": one.dollars_with_plan,
                "dollars_with_own_commitments": one.dollars_with_own,
            }
            for one in plan.scenarios
        ],
    }


def _commitment_json(commitment: Commitment, day: datetime.date) -> dict[str, Any]:
    option = commitment.option
    return {
        "name": option.name,
        "kind": option.kind,
        "term_weeks": option.term_weeks,
        "most_gpus": option.most_gpus,
        "price": _price_json(option.price, day),
        "gpus": commitment.gpus,
        "last_gpu_saves_dollars_per_hour": commitment.worth_dollars_per_hour,
    }


def _pool_json(pool: PlannedPool) -> dict[str, Any]:
    newest = datetime.datetime.fromtimestamp(pool.newest_day * _DAY_SECONDS, tz=datetime.UTC).date()
    return {
        "pool": pool.demand.name,
        "model": pool.described.pool.model,
        "gpu": pool.described.gpu,
        "gpus_per_replica": pool.demand.gpus_per_replica,
        "replica_requests_per_second": pool.demand.replica_requests_per_second,
        "confidence": pool.confidence.value,
        "history_days": pool.history_days,
        "history_ends": newest.isoformat(),
        "growth_per_day": dict(pool.growth),
        "requests_per_second_by_week": _weeks(week_bands(pool.demand.rates)),
    }


def quarter_warnings(data: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each price that is old, dated ahead or not dated, and for histories that ended long ago."""
    day = data["reference_date"]
    for gpu in data["gpus"]:
        prices = [("on demand", gpu["on_demand"]), ("of spot", gpu["spot"])]
        prices += [(f"of {one['name']}", one["price"]) for one in gpu["commitments"]]
        for what, price in prices:
            if price is not None and price["stale"]:
                yield f"the price {what} of {gpu['gpu']} {age_words(price['as_of'], price['age_days'], day)}"
    for pool in data["pools"]:
        if pool["history_days"] < 7 * data["weeks"]:
            yield (
                f"{pool['pool']}: {pool['history_days']} days of history for {data['weeks']} weeks ahead: the spread "
                "that far is a prior and not measured"
            )


def quarter_text(data: dict[str, Any]) -> str:
    """Return the plan of ``quarter_json`` as tables and sentences."""
    lines: list[str] = []
    for gpu in data["gpus"]:
        lines.append(f"{gpu['gpu']}: GPUs in the busiest hour of each week, and on average")
        for table in _gpu_tables(gpu)[:3]:
            lines += [*columns_text(table.columns, list(table.rows)), ""]
        lines += [_conclusion(gpu, data["weeks"]), ""]
    return "\n".join(lines).rstrip()


def _gpu_tables(gpu: dict[str, Any]) -> tuple[Table, ...]:
    names = tuple(name.upper() for name in _LEVELS)
    weeks = Table(
        "GPUs by week",
        ("week", *(f"peak {name}" for name in names), *(f"mean {name}" for name in names)),
        tuple(
            (row["week"], *(row["peak"][name] for name in _LEVELS), *(row["mean"][name] for name in _LEVELS))
            for row in gpu["gpus_by_week"]
        ),
        _DEMAND,
    )
    commitments = Table(
        "What to commit to",
        ("option", "kind", "weeks", "$/GPU/h", "GPUs", "last one saves $/h"),
        tuple(
            (
                *(row["name"], row["kind"], row["term_weeks"], row["price"]["dollars_per_gpu_hour"], row["gpus"]),
                row["last_gpu_saves_dollars_per_hour"],
            )
            for row in gpu["commitments"]
        ),
        _COMMITTED,
    )
    scenarios = Table(
        "Growth",
        ("growth", "peak GPUs, last week", "GPUs to commit to", "$ with this plan", "$ with its own"),
        tuple(
            (
                *(row["name"], row["last_week_peak_gpus"], row["committed_gpus"]),
                *(row["dollars_with_plan"], row["dollars_with_own_commitments"]),
            )
            for row in gpu["growth_scenarios"]
        ),
        "the day model's growth per day: none, learned, and the ends of its 80 % interval",
    )
    return weeks, commitments, scenarios


def _conclusion(gpu: dict[str, Any], weeks: int) -> str:
    saved = 1 - gpu["expected_dollars"] / gpu["expected_dollars_on_demand_only"]
    beyond = gpu["gpus_beyond_commitments"]
    text = (
        f"Commit to {gpu['committed_gpus']:,} {gpu['gpu']} and expect {dollars(gpu['expected_dollars'])} in {weeks} "
        f"weeks (P95 {dollars(gpu['dollars']['p95'])}), {saved:.1%} less than on demand alone. The busiest hour needs "
        f"{beyond['p50']:,.0f} more GPUs (P95 {beyond['p95']:,.0f})."
    )
    if gpu["committed_used_share"] is not None:
        text += f" Of what is committed {gpu['committed_used_share']:.0%} is used."
    if gpu["dollars_bound_after_quarter"]:
        text += f" {dollars(gpu['dollars_bound_after_quarter'])} stay bound after the quarter."
    return text


def quarter_html(data: dict[str, Any]) -> str:
    """Return the plan of ``quarter_json`` as a page of its own."""
    steps = [_gpu_step(number, gpu, data["weeks"]) for number, gpu in enumerate(data["gpus"], 1)]
    steps += [_pool_step(number, pool) for number, pool in enumerate(data["pools"], len(steps) + 1)]
    committed = [f"{gpu['committed_gpus']:,} {gpu['gpu']}" for gpu in data["gpus"] if gpu["committed_gpus"]]
    answer = (
        f"Commit to {', '.join(committed) or 'nothing'}: {data['weeks']} weeks cost "
        f"{dollars(data['expected_dollars'])} in expectation; on demand alone "
        f"{dollars(data['expected_dollars_on_demand_only'])}."
    )
    return render_html(Explanation(f"GPUs for {data['weeks']} weeks", answer, tuple(steps)))


def _band_chart(title: str, unit: str, rows: Sequence[dict[str, Any]], limit: tuple[str, float] | None) -> Chart:
    at = tuple(float(row["week"]) for row in rows)
    series = tuple(Series(name.upper(), at, tuple(row["peak"][name] for row in rows)) for name in _LEVELS)
    return Chart("line", title, "week", unit, series, () if limit is None else (limit,))


def _gpu_step(number: int, gpu: dict[str, Any], weeks: int) -> Step:
    committed = float(gpu["committed_gpus"])
    sources = gpu["expected_dollars_by_source"]
    bars = ("this plan", "on demand only")
    paid = [(sources[name], 0.0) for name in ("committed", "spot")]
    return Step(
        number=number,
        title=gpu["gpu"],
        question="How many GPUs does each week need, and how many of them should be committed to?",
        inputs=(
            Fact("price on demand", gpu["on_demand"]["dollars_per_gpu_hour"], "$/GPU/h", gpu["on_demand"]["source"]),
        ),
        results=tuple(
            Fact(f"dollars, {name.upper()}", gpu["dollars"][name], "$", "over the demand paths") for name in _LEVELS
        ),
        conclusion=_conclusion(gpu, weeks),
        tables=_gpu_tables(gpu),
        charts=(
            _band_chart("GPUs in the busiest hour", "GPUs", gpu["gpus_by_week"], ("committed", committed)),
            Chart(
                "stacked",
                "Expected dollars",
                "",
                "$",
                (
                    Series("committed", bars, paid[0]),
                    Series("spot", bars, paid[1]),
                    Series("on demand", bars, (sources["on_demand"], gpu["expected_dollars_on_demand_only"])),
                ),
            ),
        ),
    )


def _pool_step(number: int, pool: dict[str, Any]) -> Step:
    growth = pool["growth_per_day"]
    return Step(
        number=number,
        title=f"Pool {pool['pool']}",
        question="What demand is expected?",
        inputs=(
            Fact("history", pool["history_days"], "days", GIVEN),
            Fact("a replica carries", pool["replica_requests_per_second"], "requests/s", pool["confidence"]),
        ),
        results=tuple(Fact(f"growth, {name}", 100 * value, "% per day", _DEMAND) for name, value in growth.items()),
        conclusion=f"The history ends on {pool['history_ends']}.",
        charts=(_band_chart("Busiest hour", "requests/s", pool["requests_per_second_by_week"], None),),
    )
