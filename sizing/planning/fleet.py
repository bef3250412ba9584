"""A fleet's plan: the cheapest mix at a demand quantile, who goes short, what would do, and what the prices are worth.

Pure: the date that prices are judged by is an argument.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sizing.errors import InvalidInput
from sizing.planning.fleet_candidates import Excluded
from sizing.planning.fleet_mix import cheapest_mix, smallest_budget, unbounded
from sizing.planning.fleet_regret import Regret, Scenario, least_regret_mix, regret
from sizing.planning.fleet_types import Candidate, Fleet, Mix, Stock
from sizing.planning.integer_program import EXACT, Effort
from sizing.price_age import is_stale, price_age_days

__all__ = ["FleetPlan", "StalePrice", "plan_fleet", "stale_prices"]


@dataclass(frozen=True, slots=True)
class StalePrice:
    """A price that was read ``age_days`` before the reference date; negative: after it. None: its date is not known."""

    stock: str
    as_of: str
    age_days: int | None


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """``mix`` is the cheapest at ``quantile`` of every pool's demand, or the best that can be had (``mix.short``).

    ``smallest_budget_dollars_per_hour`` carries every demand; None where no budget does, because the stock does not.
    ``one_type_dollars_per_hour`` is the cost at the same attainment with one GPU type and tensor parallelism for each
    pool; None where that cannot reach it. ``least_regret`` and the regrets (of ``mix``, then of ``least_regret``) are
    there where scenarios were given.
    """

    fleet: Fleet
    quantile: float
    mix: Mix
    smallest_budget_dollars_per_hour: float | None
    one_type_dollars_per_hour: float | None
    least_regret: Mix | None
    regrets: tuple[Regret, ...]
    scenarios: int
    stale_prices: tuple[StalePrice, ...]
    excluded: tuple[Excluded, ...]


def plan_fleet(
    fleet: Fleet,
    candidates: Sequence[Candidate],
    *,
    quantile: float,
    reference_date: datetime.date,
    scenarios: Sequence[Scenario] = (),
    excluded: Sequence[Excluded] = (),
    effort: Effort = EXACT,
) -> FleetPlan:
    """Return the plan of a fleet at a demand quantile, and over scenarios where there are any.

    ``effort``: how far each program is solved.

    Raises:
        InvalidInput: the quantile is not in (0, 1), the scenarios cannot be.
        SizingError: the solver ended without an answer.
    """
    if not 0 < quantile < 1:
        raise InvalidInput(f"the demand quantile must be in (0, 1), not {quantile!r}")
    demand = {pool.name: pool.demand_at(quantile) for pool in fleet.pools}
    mix = cheapest_mix(fleet, candidates, demand, effort=effort)
    single = cheapest_mix(
        replace(unbounded(fleet), current={}, change_dollars=0.0),
        candidates,
        demand,
        one_type_per_pool=True,
        effort=effort,
    )
    settled = mix.holds and not fleet.change_dollars
    chosen = least_regret_mix(fleet, candidates, scenarios, effort=effort) if scenarios else None
    regrets = [] if chosen is None else regret(fleet, candidates, scenarios, (mix, chosen), effort=effort)
    return FleetPlan(
        fleet=fleet,
        quantile=quantile,
        mix=mix,
        smallest_budget_dollars_per_hour=(
            mix.dollars_per_hour if settled else smallest_budget(fleet, candidates, demand, effort=effort)
        ),
        one_type_dollars_per_hour=single.dollars_per_hour if mix.holds and single.holds else None,
        least_regret=chosen,
        regrets=tuple(regrets),
        scenarios=len(scenarios),
        stale_prices=stale_prices(fleet.stock, reference_date),
        excluded=tuple(excluded),
    )


def stale_prices(stock: Iterable[Stock], reference_date: datetime.date) -> tuple[StalePrice, ...]:
    """Return the prices of a stock that are older than 90 days at the reference date, dated after it or not dated."""
    found = []
    for line in stock:
        age = price_age_days(line.price.as_of, reference_date)
        if is_stale(age):
            found.append(StalePrice(line.name, line.price.as_of, age))
    return tuple(found)
