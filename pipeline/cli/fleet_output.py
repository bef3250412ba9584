"""A fleet plan as JSON (schemas/fleet-plan.v1.schema.json) and as text."""

from __future__ import annotations

import datetime
import math
from typing import Any

from pipeline.config.fleet_file import FleetFile
from pipeline.publish.fleet_rows import mix_rows, stock_rows
from sizing.explain.model import Value
from sizing.explain.text import columns_text
from sizing.planning.fleet import FleetPlan
from sizing.planning.fleet_money import PoolMoney, idle_reserved_dollars_per_hour, pool_money
from sizing.planning.fleet_regret import Regret
from sizing.planning.fleet_types import Mix
from sizing.price_age import age_words, is_stale, price_age_days
from sizing.wording import dollars

__all__ = ["plan_json", "plan_text", "price_warnings"]

_MIX = ("pool", "stock", "GPU", "bought", "tensor parallel", "replicas", "GPUs", "req/s each", "$/h", "known")
_POOLS = (
    "pool",
    "priority",
    "demand req/s",
    "carried req/s",
    "short",
    "$/h",
    "used",
    "$/1M out",
    "$/1M",
    "API $/h",
    "break-even",
)


def plan_json(plan: FleetPlan, described: FleetFile, reference_date: datetime.date) -> dict[str, Any]:
    """Return the plan as the schema has it."""
    fleet, mix = plan.fleet, plan.mix
    one_type = plan.one_type_dollars_per_hour
    chosen = plan.least_regret
    return {
        "schema": "tokentide.fleet-plan.v1",
        "quantile": plan.quantile,
        "reference_date": reference_date.isoformat(),
        "holds": mix.holds,
        "dollars_per_hour": mix.dollars_per_hour,
        "committed_dollars_per_hour": fleet.committed_dollars_per_hour,
        "idle_reserved_dollars_per_hour": idle_reserved_dollars_per_hour(fleet, mix),
        "budget_dollars_per_hour": fleet.budget_dollars_per_hour,
        "smallest_budget_dollars_per_hour": plan.smallest_budget_dollars_per_hour,
        "one_type_dollars_per_hour": one_type,
        "saving_against_one_type_share": None if not one_type else 1 - mix.dollars_per_hour / one_type,
        "changes": mix.changes,
        "optimality_gap": mix.optimality_gap if math.isfinite(mix.optimality_gap) else None,
        "mix": mix_rows(fleet, mix),
        "choices": _choices_json(mix),
        "pools": _pools_json(plan, described, reference_date),
        "stock": stock_rows(fleet, mix),
        "least_regret": None
        if chosen is None
        else {
            "scenarios": plan.scenarios,
            "dollars_per_hour": chosen.dollars_per_hour,
            "mix": mix_rows(fleet, chosen),
            "regret": _regret_json(plan.regrets[1]),
            "regret_of_quantile_mix": _regret_json(plan.regrets[0]),
        },
        "stale_prices": [{"stock": s.stock, "as_of": s.as_of, "age_days": s.age_days} for s in plan.stale_prices],
        "excluded": [
            {"pool": e.pool, "gpu": e.gpu, "tensor_parallel": e.tensor_parallel, "reason": e.reason}
            for e in plan.excluded
        ],
    }


def _choices_json(mix: Mix) -> list[dict[str, Any]]:
    """Return what was chosen of the precisions and ways of decoding that a pool may have, where it is not its own."""
    return [
        {
            "pool": c.pool,
            "stock": c.stock,
            "tensor_parallel": c.tensor_parallel,
            "precision": c.precision,
            "draft_tokens": None if c.drafting is None else c.drafting.draft_tokens,
            "acceptance": None if c.drafting is None else c.drafting.acceptance,
            "caveats": list(c.caveats),
        }
        for c, _ in mix.replicas
        if c.precision is not None or c.drafting is not None
    ]


def _choice_line(row: dict[str, Any]) -> str:
    chosen = [] if row["precision"] is None else [f"{row['precision']} weights"]
    if row["draft_tokens"] is not None:
        chosen.append(f"{row['draft_tokens']} drafts with {row['acceptance']:g} accepted")
    where = f"{row['pool']} on {row['stock']}, tensor parallel {row['tensor_parallel']}"
    return f"{where}: {' and '.join(chosen)}; {'; '.join(row['caveats'])}."


def _regret_json(regret: Regret) -> dict[str, float]:
    return {
        "expected_dollars_per_hour": regret.expected_dollars_per_hour,
        "worst_dollars_per_hour": regret.worst_dollars_per_hour,
        "holds_share": regret.holds_share,
    }


def _pools_json(plan: FleetPlan, described: FleetFile, reference_date: datetime.date) -> list[dict[str, Any]]:
    found = []
    for pool in plan.fleet.pools:
        api = described.apis.get(pool.name)
        money = pool_money(plan.fleet, pool, plan.mix, api)
        found.append(
            {
                "pool": pool.name,
                "model": pool.model,
                "priority": pool.priority,
                "demand_requests_per_second": plan.mix.demand_requests_per_second[pool.name],
                "capacity_requests_per_second": 0.0 if money is None else money.capacity_requests_per_second,
                "short_share": plan.mix.short[pool.name],
                "gpus": 0 if money is None else money.gpus,
                "replicas": 0 if money is None else money.replicas,
                "money": None if money is None else _money_json(money),
                "api": None
                if api is None
                else {
                    "name": described.api_names[pool.name],
                    "price_source": api.source,
                    "price_as_of": api.as_of,
                    "price_age_days": (age := price_age_days(api.as_of, reference_date)),
                    "price_stale": is_stale(age),
                    "dollars_per_hour": None if money is None else money.api_dollars_per_hour,
                    "break_even_utilisation": None if money is None else money.break_even_utilisation,
                },
            }
        )
    return found


def _money_json(money: PoolMoney) -> dict[str, Any]:
    cost = money.cost
    return {
        "dollars_per_hour": cost.dollars_per_hour,
        "requests_per_second": money.requests_per_second,
        "utilisation": cost.utilisation,
        "dollars_per_request": money.dollars_per_request,
        "dollars_per_million_output_tokens": cost.dollars_per_million_output_tokens,
        "dollars_per_million_tokens": cost.dollars_per_million_tokens,
        "dollars_per_million_output_tokens_at_capacity": cost.dollars_per_million_output_tokens_at_capacity,
        "dollars_per_million_tokens_at_capacity": cost.dollars_per_million_tokens_at_capacity,
    }


def plan_text(data: dict[str, Any]) -> str:
    """Return the plan of ``plan_json`` as tables and sentences."""
    lines = [*columns_text(_MIX, [_mix_row(row) for row in data["mix"]]), ""]
    lines += [*(_choice_line(row) for row in data["choices"]), *([""] if data["choices"] else [])]
    lines += [*columns_text(_POOLS, [_pool_row(row) for row in data["pools"]]), ""]
    lines.append(
        f"{dollars(data['dollars_per_hour'], 2)}/h at the {data['quantile']:.0%} quantile of demand, of which reserved "
        f"{dollars(data['committed_dollars_per_hour'], 2)}/h "
        f"({dollars(data['idle_reserved_dollars_per_hour'], 2)} idle); "
        f"{data['changes']} replicas change."
    )
    saving = data["saving_against_one_type_share"]
    if saving is not None:
        lines.append(
            f"With one GPU type for each pool: {dollars(data['one_type_dollars_per_hour'], 2)}/h; "
            f"the mix saves {saving:.1%}."
        )
    if data["optimality_gap"] is None or data["optimality_gap"] > 1e-3:
        gap = "unknown" if data["optimality_gap"] is None else f"{data['optimality_gap']:.1%}"
        lines.append(
            f"The search ended at its limit: a better mix may exist, by at most (share of the objective): {gap}."
        )
    if not data["holds"]:
        lines += _short_lines(data)
    chosen = data["least_regret"]
    if chosen is not None:
        lines += [
            "",
            f"Least expected regret over {chosen['scenarios']} scenarios: {dollars(chosen['dollars_per_hour'], 2)}/h",
        ]
        lines += [*columns_text(_MIX, [_mix_row(row) for row in chosen["mix"]])]
        lines += [_regret_line("this mix", chosen["regret"])]
        lines += [_regret_line("the mix at the quantile", chosen["regret_of_quantile_mix"])]
    return "\n".join(lines)


def _short_lines(data: dict[str, Any]) -> list[str]:
    found = [
        f"{row['pool']} (priority {row['priority']}) goes short by {row['short_share']:.1%} of its demand."
        for row in sorted(data["pools"], key=lambda row: (row["priority"], row["pool"]))
        if row["short_share"]
    ]
    budget = data["smallest_budget_dollars_per_hour"]
    if budget is None:
        return [*found, "No budget would do: the stock does not carry the demand."]
    return [*found, f"The smallest budget that would do: {dollars(budget, 2)}/h."]


def _regret_line(what: str, regret: dict[str, float]) -> str:
    return (
        f"Regret of {what}: {dollars(regret['expected_dollars_per_hour'], 2)}/h expected, "
        f"{dollars(regret['worst_dollars_per_hour'], 2)} at worst; it carries "
        f"{regret['holds_share']:.0%} of the scenarios whole."
    )


def _mix_row(row: dict[str, Any]) -> tuple[Value, ...]:
    names = ("pool", "stock", "gpu", "capacity_type", "tensor_parallel", "replicas", "gpus")
    rest = ("replica_requests_per_second", "dollars_per_hour", "confidence")
    return tuple(row[name] for name in (*names, *rest))


def _pool_row(row: dict[str, Any]) -> tuple[Value, ...]:
    money, api = row["money"] or {}, row["api"] or {}
    used, even = money.get("utilisation"), api.get("break_even_utilisation")
    return (
        row["pool"],
        row["priority"],
        row["demand_requests_per_second"],
        row["capacity_requests_per_second"],
        f"{row['short_share']:.1%}",
        money.get("dollars_per_hour"),
        None if used is None else f"{used:.0%}",
        money.get("dollars_per_million_output_tokens"),
        money.get("dollars_per_million_tokens"),
        api.get("dollars_per_hour"),
        None if even is None else f"{even:.0%}",
    )


def price_warnings(data: dict[str, Any]) -> list[str]:
    """Return a sentence for each price of ``plan_json`` that is old, dated after the reference date or not dated."""
    apis = {pool["api"]["name"]: pool["api"] for pool in data["pools"] if pool["api"] and pool["api"]["price_stale"]}
    stale = [(f"stock {price['stock']}", price["as_of"], price["age_days"]) for price in data["stale_prices"]]
    stale += [(f"API {name}", api["price_as_of"], api["price_age_days"]) for name, api in apis.items()]
    return [f"the price of {what} {age_words(as_of, age, data['reference_date'])}" for what, as_of, age in stale]
