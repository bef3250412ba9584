"""The cheapest mix of replicas that carries every pool's demand, or who goes short where none does.

Integers n of replicas by candidate. For each pool with demand d: Σ capacity · n ≥ d (1 - short), and what is not spot
carries at least (1 - max_spot_share) of that; for each line of stock Σ GPUs · n ≤ count; Σ price · GPUs · n ≤ budget.
Least cost first with short = 0. Where that has no answer, the sum of the shares that the pools of the first priority
are short is made as small as it can be, then that of the next priority, and so on, and then the cost
(lexicographic order).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sizing.planning.fleet_types import Candidate, CapacityType, Fleet, FleetPool, Mix, MixKey
from sizing.planning.integer_program import EXACT, Effort, IntegerProgram, Solution

__all__ = ["SHORT_TOLERANCE", "FleetProgram", "cheapest_mix", "mix_of", "short_share", "smallest_budget", "unbounded"]

#: A shorter shortfall is none: the solver keeps rows to 1e-6.
SHORT_TOLERANCE = 2e-6
#: Added to the hourly price of each GPU, so that of mixes at one cost that with the fewest GPUs is taken.
_TIE_DOLLARS_PER_GPU = 1e-6


@dataclass(frozen=True, slots=True)
class FleetProgram:
    """The program of one fleet: variables of replicas by candidate, the cost of them, and the program to add to."""

    fleet: Fleet
    candidates: tuple[Candidate, ...]
    program: IntegerProgram
    replicas: tuple[int, ...]
    cost: Mapping[int, float]

    def carry(self, pool: FleetPool, demand: float, short: int | None) -> None:
        """Ask that the pool's demand is carried, but for the share in the variable ``short``."""
        if demand <= 0:
            return
        kinds = {line.name: line.capacity_type for line in self.fleet.stock}
        mine = [(v, c) for v, c in zip(self.replicas, self.candidates, strict=True) if c.pool == pool.name]
        lasting = [(v, c) for v, c in mine if kinds[c.stock] is not CapacityType.SPOT]
        self._cover(mine, demand, short)
        if len(lasting) < len(mine) and pool.max_spot_share < 1:
            self._cover(lasting, demand * (1 - pool.max_spot_share), short)

    def _cover(self, candidates: Sequence[tuple[int, Candidate]], demand: float, short: int | None) -> None:
        # A replica that carries more than all counts as all: the same integers satisfy the row, fewer fractions do, and
        # no coefficient is so large that the solver takes a tiny fraction for a whole replica.
        terms = {variable: min(c.requests_per_second / demand, 1.0) for variable, c in candidates}
        self.program.row(terms if short is None else terms | {short: 1.0}, lower=1.0)

    def solve(self, more: Mapping[int, float] | None = None, effort: Effort = EXACT) -> Solution:
        """Return the variables at least cost plus ``more``."""
        return self.program.minimise({**self.cost, **(more or {})}, effort)

    def mix(self, solution: Solution, demand: Mapping[str, float]) -> Mix:
        """Return the mix of a solution that has values."""
        assert solution.values is not None
        replicas = [round(solution.values[variable]) for variable in self.replicas]
        return mix_of(self.fleet, self.candidates, replicas, demand, solution.gap)


def fleet_program(
    fleet: Fleet, candidates: Sequence[Candidate], most: Mapping[str, float], *, one_type_per_pool: bool = False
) -> FleetProgram:
    """Return the program with the rows of stock, budget and changes; ``most`` is each pool's largest demand.

    ``one_type_per_pool``: each pool on one GPU type and tensor parallelism only.
    """
    program = IntegerProgram()
    counts = {line.name: line.count for line in fleet.stock}
    # A mix can leave nothing where a candidate's line of stock is smaller than one replica.
    kept = tuple(c for c in candidates if c.gpus <= counts[c.stock])
    limits = [_limit(c, most[c.pool], counts[c.stock], fleet.current) for c in kept]
    replicas = tuple(program.variable(limit, integer=True) for limit in limits)
    used = {line.name: line.dollars_per_used_gpu_hour for line in fleet.stock}
    cost = {v: c.gpus * (used[c.stock] + _TIE_DOLLARS_PER_GPU) for v, c in zip(replicas, kept, strict=True)}
    for line in fleet.stock:
        of_line = {v: float(c.gpus) for v, c in zip(replicas, kept, strict=True) if c.stock == line.name}
        if of_line:
            program.row(of_line, upper=float(line.count))
    if fleet.budget_dollars_per_hour is not None:
        bill = {v: c.gpus * used[c.stock] for v, c in zip(replicas, kept, strict=True)}
        program.row(bill, upper=fleet.budget_dollars_per_hour - fleet.committed_dollars_per_hour)
    if fleet.change_dollars_per_hour > 0:
        for variable, candidate in zip(replicas, kept, strict=True):
            now = fleet.current.get(candidate.key, 0)
            changed = program.variable()
            program.row({changed: 1.0, variable: -1.0}, lower=-now)
            if now:
                program.row({changed: 1.0, variable: 1.0}, lower=now)
            cost[changed] = fleet.change_dollars_per_hour
    if one_type_per_pool:
        _one_type(program, kept, replicas, limits)
    return FleetProgram(fleet, kept, program, replicas, cost)


def _limit(candidate: Candidate, most: float, count: int, current: Mapping[MixKey, int]) -> int:
    needed = math.ceil(min(most / candidate.requests_per_second, 1e9))
    return min(count // candidate.gpus, max(needed, current.get(candidate.key, 0)))


def _one_type(
    program: IntegerProgram, candidates: Sequence[Candidate], replicas: Sequence[int], limits: Sequence[int]
) -> None:
    chosen: dict[str, dict[tuple[str, int], int]] = {}
    for candidate, variable, limit in zip(candidates, replicas, limits, strict=True):
        types = chosen.setdefault(candidate.pool, {})
        kind = candidate.gpu, candidate.tensor_parallel
        if kind not in types:
            types[kind] = program.variable(1, integer=True)
        program.row({variable: 1.0, types[kind]: -float(limit)}, upper=0.0)
    for types in chosen.values():
        program.row(dict.fromkeys(types.values(), 1.0), upper=1.0)


def cheapest_mix(
    fleet: Fleet,
    candidates: Sequence[Candidate],
    demand: Mapping[str, float],
    *,
    one_type_per_pool: bool = False,
    effort: Effort = EXACT,
) -> Mix:
    """Return the cheapest mix for ``demand`` (requests per second by pool); see the module for what short means.

    Raises:
        SizingError: the solver ended without an answer.
    """
    built = fleet_program(fleet, candidates, demand, one_type_per_pool=one_type_per_pool)
    served = {c.pool for c in built.candidates}
    if all(pool.name in served or demand[pool.name] <= 0 for pool in fleet.pools):
        for pool in fleet.pools:
            built.carry(pool, demand[pool.name], None)
        found = built.solve(effort=effort)
        if found.values is not None:
            return built.mix(found, demand)
    built = fleet_program(fleet, candidates, demand, one_type_per_pool=one_type_per_pool)
    return built.mix(_least_short(built, demand, effort), demand)


def _least_short(built: FleetProgram, demand: Mapping[str, float], effort: Effort) -> Solution:
    short = {pool.name: built.program.variable(1.0) for pool in built.fleet.pools}
    for pool in built.fleet.pools:
        built.carry(pool, demand[pool.name], short[pool.name])
    # Nothing at all is an answer, and each answer is one to the next question.
    values = tuple(0.0 if variable not in short.values() else 1.0 for variable in range(built.program.variables))
    gap = 0.0
    for priority in sorted({pool.priority for pool in built.fleet.pools}):
        level = {short[pool.name]: 1.0 for pool in built.fleet.pools if pool.priority == priority}
        found = built.program.minimise(level, effort)
        values, gap = found.values or values, max(gap, found.gap)
        built.program.row(level, upper=sum(values[variable] for variable in level) + SHORT_TOLERANCE / 2)
    found = built.solve(effort=effort)
    return Solution(found.values or values, max(gap, found.gap))


def mix_of(
    fleet: Fleet,
    candidates: Sequence[Candidate],
    replicas: Sequence[int],
    demand: Mapping[str, float],
    gap: float = 0.0,
) -> Mix:
    """Return what ``replicas`` by candidate cost and carry."""
    lines = {line.name: line for line in fleet.stock}
    chosen = tuple((c, n) for c, n in zip(candidates, replicas, strict=True) if n)
    dollars = fleet.committed_dollars_per_hour
    dollars += sum(n * c.gpus * lines[c.stock].dollars_per_used_gpu_hour for c, n in chosen)
    planned = {c.key: n for c, n in chosen}
    keys = planned.keys() | fleet.current.keys()
    return Mix(
        replicas=chosen,
        demand_requests_per_second=dict(demand),
        short={pool.name: short_share(fleet, pool, chosen, demand[pool.name]) for pool in fleet.pools},
        dollars_per_hour=dollars,
        changes=sum(abs(planned.get(key, 0) - fleet.current.get(key, 0)) for key in keys),
        optimality_gap=gap,
    )


def short_share(fleet: Fleet, pool: FleetPool, chosen: Sequence[tuple[Candidate, int]], demand: float) -> float:
    """Return the share of a pool's demand that the chosen replicas do not carry."""
    if demand <= 0:
        return 0.0
    kinds = {line.name: line.capacity_type for line in fleet.stock}
    mine = [(c, n * c.requests_per_second) for c, n in chosen if c.pool == pool.name]
    carried = sum(rate for _, rate in mine)
    if pool.max_spot_share < 1:
        firm = sum(rate for c, rate in mine if kinds[c.stock] is not CapacityType.SPOT)
        carried = min(carried, firm / (1 - pool.max_spot_share))
    share = max(0.0, 1 - carried / demand)
    return 0.0 if share <= SHORT_TOLERANCE else share


def unbounded(fleet: Fleet) -> Fleet:
    """Return the fleet without a budget."""
    return replace(fleet, budget_dollars_per_hour=None)


def smallest_budget(
    fleet: Fleet, candidates: Sequence[Candidate], demand: Mapping[str, float], *, effort: Effort = EXACT
) -> float | None:
    """Return the smallest budget that carries every demand; None where the stock does not, whatever the budget.

    Changes do not count: it is the cost of the cheapest mix, not of the best to change to.
    """
    free = replace(unbounded(fleet), current={}, change_dollars=0.0)
    mix = cheapest_mix(free, candidates, demand, effort=effort)
    return mix.dollars_per_hour if mix.holds else None
