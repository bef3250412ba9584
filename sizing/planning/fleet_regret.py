"""The mix with the least expected regret over demand scenarios.

The regret of a mix in a scenario is its cost there minus that of the best mix for that scenario alone; cost is dollars
per hour of capacity plus a price of unserved demand. The best mixes do not depend on the choice, so the least expected
regret is the least expected cost: a two-stage stochastic program with the mix chosen before the demand is known (Birge
and Louveaux, Introduction to Stochastic Programming, 2011, chapter 2). One request per second that is unserved costs
(1 + r) times the cheapest capacity for it, r being ``under_to_over_cost``: with one type of GPU and no other limit that
is the newsvendor's quantile r / (1 + r), as in ``PolicyConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sizing.errors import InvalidInput, SizingError
from sizing.planning.fleet_mix import fleet_program, short_share
from sizing.planning.fleet_types import Candidate, Fleet, Mix
from sizing.planning.integer_program import EXACT, Effort

__all__ = ["MOST_SCENARIOS", "Regret", "Scenario", "least_regret_mix", "regret", "sampled_scenarios"]

#: Every scenario adds a row for each pool, and one program of its own.
MOST_SCENARIOS = 500


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests per second of every pool, and how likely it is against the others."""

    requests_per_second: Mapping[str, float]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Regret:
    """Of one mix over scenarios, dollars per hour; ``holds_share`` is the weight of those that it carries whole."""

    expected_dollars_per_hour: float
    worst_dollars_per_hour: float
    holds_share: float


def sampled_scenarios(fleet: Fleet, count: int, seed: int, correlation: float = 0.0) -> tuple[Scenario, ...]:
    """Return ``count`` scenarios drawn from the pools' quantiles; the same seed gives the same.

    Quantiles are linear between the given ones and flat beyond them. ``correlation`` in [0, 1] is that of any two
    pools' normal scores (a Gaussian copula with one factor).

    Raises:
        InvalidInput: a count outside [1, 500], a correlation outside [0, 1], a negative seed.
    """
    if not 1 <= count <= MOST_SCENARIOS:
        raise InvalidInput(f"the number of scenarios must be from 1 to {MOST_SCENARIOS}, not {count!r}")
    if not 0 <= correlation <= 1 or seed < 0:
        raise InvalidInput(f"correlation must be from 0 to 1 and the seed at least 0, not {correlation!r} and {seed!r}")
    from scipy.special import ndtr

    draw = np.random.default_rng(seed)
    common = draw.standard_normal((count, 1))
    own = draw.standard_normal((count, len(fleet.pools)))
    levels = ndtr(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
    return tuple(
        Scenario({pool.name: pool.demand_at(float(level)) for pool, level in zip(fleet.pools, row, strict=True)})
        for row in levels
    )


def check_scenarios(fleet: Fleet, scenarios: Sequence[Scenario]) -> None:
    """Refuse scenarios that cannot be.

    Raises:
        InvalidInput: none or too many, a pool without a demand or unknown, a weight or a demand that cannot be.
    """
    if not 1 <= len(scenarios) <= MOST_SCENARIOS:
        raise InvalidInput(f"the number of scenarios must be from 1 to {MOST_SCENARIOS}, not {len(scenarios)}")
    names = {pool.name for pool in fleet.pools}
    for number, scenario in enumerate(scenarios, 1):
        if odd := sorted(names ^ scenario.requests_per_second.keys()):
            raise InvalidInput(f"scenario {number} must give a rate for each pool and no other; see {odd[0]!r}")
        if not all(0 <= rate < 1e9 for rate in scenario.requests_per_second.values()):
            raise InvalidInput(f"scenario {number}: requests_per_second must be at least 0 and below 1e9")
        if not 0 < scenario.weight < 1e9:
            raise InvalidInput(f"scenario {number}: weight must be above 0 and below 1e9, not {scenario.weight!r}")


def unserved_dollars(fleet: Fleet, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return what one unserved request per second of each pool costs for an hour, by the rule of the module."""
    prices = {line.name: line.price.dollars_per_gpu_hour for line in fleet.stock}
    cost: dict[str, float] = {}
    for c in candidates:
        each = prices[c.stock] * c.gpus / c.requests_per_second
        cost[c.pool] = min(cost.get(c.pool, each), each)
    return {pool.name: (1 + pool.under_to_over_cost) * cost.get(pool.name, 0.0) for pool in fleet.pools}


def least_regret_mix(
    fleet: Fleet, candidates: Sequence[Candidate], scenarios: Sequence[Scenario], *, effort: Effort = EXACT
) -> Mix:
    """Return the mix with the least expected regret; its demand is the weighted mean of the scenarios.

    Raises:
        InvalidInput: the scenarios cannot be.
        SizingError: the solver ended without an answer.
    """
    check_scenarios(fleet, scenarios)
    total = sum(scenario.weight for scenario in scenarios)
    most = {p.name: max(s.requests_per_second[p.name] for s in scenarios) for p in fleet.pools}
    mean = {p.name: sum(s.weight * s.requests_per_second[p.name] for s in scenarios) / total for p in fleet.pools}
    built = fleet_program(fleet, candidates, most)
    penalty = unserved_dollars(fleet, candidates)
    unserved: dict[int, float] = {}
    for scenario in scenarios:
        for pool in fleet.pools:
            rate = scenario.requests_per_second[pool.name]
            short = built.program.variable(1.0)
            unserved[short] = scenario.weight / total * penalty[pool.name] * rate
            built.carry(pool, rate, short)
    found = built.solve(unserved, effort)
    if found.values is None:
        raise SizingError("the solver found no mix for the scenarios in its limits: give fewer")
    return built.mix(found, mean)


def regret(
    fleet: Fleet,
    candidates: Sequence[Candidate],
    scenarios: Sequence[Scenario],
    mixes: Sequence[Mix],
    *,
    effort: Effort = EXACT,
) -> list[Regret]:
    """Return the regret of each mix over the scenarios, against the best mix of each scenario alone.

    Changes against the current mix cost nothing here.

    Raises:
        InvalidInput: the scenarios cannot be.
        SizingError: the solver ended without an answer.
    """
    check_scenarios(fleet, scenarios)
    free = replace(fleet, current={}, change_dollars=0.0)
    penalty = unserved_dollars(fleet, candidates)

    def cost(mix: Mix, scenario: Scenario) -> tuple[float, bool]:
        rates = scenario.requests_per_second
        short = {p.name: short_share(fleet, p, mix.replicas, rates[p.name]) for p in fleet.pools}
        unserved = sum(penalty[name] * rates[name] * share for name, share in short.items())
        return mix.dollars_per_hour + unserved, not any(short.values())

    total = sum(scenario.weight for scenario in scenarios)
    regrets: list[list[float]] = [[] for _ in mixes]
    holds = [0.0 for _ in mixes]
    for scenario in scenarios:
        best, _ = cost(least_regret_mix(free, candidates, [scenario], effort=effort), scenario)
        for number, mix in enumerate(mixes):
            dollars, whole = cost(mix, scenario)
            regrets[number].append(max(0.0, dollars - best))
            holds[number] += whole * scenario.weight / total
    return [
        Regret(sum(s.weight * r for s, r in zip(scenarios, found, strict=True)) / total, max(found), held)
        for found, held in zip(regrets, holds, strict=True)
    ]
