"""What planning a large fleet costs, and what a mix saves against one GPU type for each pool.

    python benchmarks/fleet/run.py [--pools 50] [--types 12] [--seed 1] [--one-size] [--data FOLDER]

Prints Markdown. The pools are drawn by the seed (models of the catalogue, lengths, rates, objectives); the prices are
the catalogue's list prices on demand. With FOLDER (of traces) the saving is also printed on the public traces there.
Seconds are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from traces import trace_pools

from sizing.catalog import Catalog
from sizing.planning.fleet_candidates import fleet_candidates
from sizing.planning.fleet_mix import cheapest_mix
from sizing.planning.fleet_regret import least_regret_mix, sampled_scenarios
from sizing.planning.fleet_types import Candidate, CapacityType, Fleet, FleetPool, Mix, Stock
from sizing.planning.integer_program import Effort
from sizing.types import Slo, Workload

#: Model, the requests per second of a small pool of it, and the tensor parallelism of ``--one-size``.
MODELS = (("llama-3.1-8b", 10.0, 1), ("qwen3-32b", 3.0, 2), ("llama-3.3-70b", 1.5, 4), ("gpt-oss-120b", 4.0, 2))


def drawn_fleet(pools: int, types: int, seed: int, *, one_size: bool = False) -> Fleet:
    """A fleet of ``pools`` pools over ``types`` GPU types, each in a number that about carries them."""
    rng = random.Random(seed)
    drawn = []
    for number in range(pools):
        model, rate, size = rng.choice(MODELS)
        middle = rate * rng.lognormvariate(0, 0.8)
        drawn.append(
            FleetPool(
                f"pool-{number}",
                model,
                (0.5, 0.95),
                (middle, middle * rng.uniform(1.3, 3.0)),
                Workload(rng.choice([500, 1500, 4000]), rng.choice([100, 300, 800])),
                Slo(rng.choice([0.5, 1.0, 3.0]), rng.choice([0.03, 0.05, 0.1])),
                priority=rng.randint(1, 3),
                tensor_parallel=(size,) if one_size else (1, 2, 4, 8),
            )
        )
    return Fleet(tuple(drawn), priced_stock(types, lambda: rng.choice([16, 32, 64])))


def priced_stock(types: int, count: Callable[[], int]) -> tuple[Stock, ...]:
    """The first ``types`` GPU types that the catalogue has a price of."""
    catalog = Catalog()
    gpus = [catalog.gpu(name) for name in catalog.gpu_names()]
    stock = [Stock(g.name, g.name, CapacityType.ON_DEMAND, count(), g.price) for g in gpus if g.price is not None]
    if len(stock) < types:
        raise SystemExit(f"the catalogue has prices of {len(stock)} GPU types only")
    return tuple(stock[:types])


def compared(fleet: Fleet, candidates: Sequence[Candidate], gap: float) -> tuple[Mix, Mix, str]:
    """The cheapest mix at the 95 % quantile, that of one type for each pool, and the saving at equal attainment."""
    demand = {pool.name: pool.demand_at(0.95) for pool in fleet.pools}
    mix = cheapest_mix(fleet, candidates, demand, effort=Effort(gap))
    single = cheapest_mix(fleet, candidates, demand, one_type_per_pool=True, effort=Effort(gap))
    whole = mix.holds and single.holds
    return (
        mix,
        single,
        f"{1 - mix.dollars_per_hour / single.dollars_per_hour:.2%}" if whole else "not at equal attainment",
    )


def scarcest(fleet: Fleet, candidates: Sequence[Candidate], gap: float) -> Fleet:
    """The fleet with the fewest GPUs of each type (a power of two) that carry all with one type for each pool."""
    count = 1
    while True:
        few = replace(fleet, stock=tuple(replace(line, count=count) for line in fleet.stock))
        if compared(few, candidates, gap)[1].holds:
            return few
        count *= 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=50)
    parser.add_argument("--types", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--relative-gap", type=float, default=1e-4)
    parser.add_argument("--scenarios", type=int, default=20)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--one-size", action="store_true")
    asked = parser.parse_args()
    print(
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, scipy {version('scipy')}, seed {asked.seed}, gap {asked.relative_gap:g}\n"
    )
    fleet = drawn_fleet(asked.pools, asked.types, asked.seed, one_size=asked.one_size)
    first = replace(fleet, pools=fleet.pools[:1])
    compared(first, fleet_candidates(first)[0], 0.0)  # imports and the catalogue's files
    print(f"| {asked.pools} pools × {asked.types} GPU types | CPU s |\n|---|---|")
    start = time.process_time()
    candidates, excluded = fleet_candidates(fleet)
    sized = time.process_time()
    print(f"| {len(candidates)} candidates sized, {len(excluded)} shapes excluded | {sized - start:.2f} |")
    cheapest_mix(fleet, candidates, {p.name: p.demand_at(0.95) for p in fleet.pools}, effort=Effort(asked.relative_gap))
    solved = time.process_time()
    print(f"| the cheapest mix at the 95 % quantile | {solved - sized:.2f} |")
    print(f"| the plan: both | {solved - start:.2f} |")
    least_regret_mix(fleet, candidates, sampled_scenarios(fleet, asked.scenarios, 0), effort=Effort(1e-3))
    print(f"| the least regret over {asked.scenarios} scenarios (gap 0.001) | {time.process_time() - solved:.2f} |\n")
    print("| demand | pools | mix $/h | one type for each pool $/h | saving |\n|---|---|---|---|---|")
    fleets = {f"drawn, seed {asked.seed}": (fleet, candidates)}
    for name, pools in ({} if asked.data is None else trace_pools(asked.data)).items():
        traced = Fleet(pools, priced_stock(asked.types, lambda: 10_000))
        found = fleet_candidates(traced)[0]
        fleets[f"{name}; any number of each"] = traced, found
        few = scarcest(traced, found, asked.relative_gap)
        fleets[f"{name}; {few.stock[0].count} of each"] = few, found
    for name, (each, found) in fleets.items():
        mix, single, saving = compared(each, found, asked.relative_gap)
        print(
            f"| {name} | {len(each.pools)} | {mix.dollars_per_hour:,.2f} | {single.dollars_per_hour:,.2f} | {saving} |"
        )


if __name__ == "__main__":
    main()
