"""The advised replicas of several pools, split over the GPU types and commitments of a shared stock.

Each pool needs what its advised replicas carry. The mix is that of ``sizing.planning.fleet_mix``: cheapest, or with
the least shortfall by priority. What one replica of the pool's own shape carries is what the advice says, so that a
pool on its own GPU gets the advised replicas; of other shapes it is the operating point computed for the same mean
lengths, times how much more or less the own shape carries than computed.

Pure: the state is the mix before, an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sizing.planning.fleet_candidates import Excluded
from sizing.planning.fleet_mix import SHORT_TOLERANCE, cheapest_mix, mix_of, short_share, smallest_budget
from sizing.planning.fleet_types import Candidate, Fleet, FleetPool, Mix, MixKey, Stock
from sizing.planning.integer_program import EXACT, Effort
from sizing.types import Confidence

__all__ = ["AdvisedPool", "FleetSplit", "own_candidates", "split_fleet"]


@dataclass(frozen=True, slots=True)
class AdvisedPool:
    """What a pool was advised: ``replicas`` of ``gpus`` GPUs on ``gpu``, each for ``requests_per_second``."""

    pool: str
    gpu: str
    tensor_parallel: int
    gpus: int
    replicas: int
    requests_per_second: float
    confidence: Confidence

    @property
    def demand(self) -> float:
        """Requests per second that the advised replicas carry."""
        return self.replicas * self.requests_per_second


@dataclass(frozen=True, slots=True)
class FleetSplit:
    """``mix`` over ``fleet``; ``smallest_budget_dollars_per_hour`` carries everything (None: no budget does)."""

    fleet: Fleet
    mix: Mix
    smallest_budget_dollars_per_hour: float | None
    excluded: tuple[Excluded, ...]


def own_candidates(
    advised: AdvisedPool, pool: FleetPool, stock: Iterable[Stock], found: Sequence[Candidate]
) -> list[Candidate]:
    """Return the ways to serve a pool, with its own shape as the advice has it and the others in proportion.

    ``found`` are its ``pool_candidates``. GPUs have the catalogue's names everywhere.
    """
    shape = advised.gpu, advised.tensor_parallel
    others = [c for c in found if (c.gpu, c.tensor_parallel) != shape]
    computed = [c.requests_per_second for c in found if (c.gpu, c.tensor_parallel) == shape]
    ratio = advised.requests_per_second / computed[0] if computed else 1.0
    own = [
        Candidate(pool.name, line.name, *shape, advised.gpus, advised.requests_per_second, advised.confidence)
        for line in stock
        if line.gpu == advised.gpu and pool.may_use(line) and (not pool.gpus or advised.gpu in pool.gpus)
    ]
    return own + [replace(c, requests_per_second=c.requests_per_second * ratio) for c in others]


def split_fleet(
    fleet: Fleet,
    candidates: Sequence[Candidate],
    demand: Mapping[str, float],
    before: Mapping[MixKey, int] | None,
    *,
    excluded: Sequence[Excluded] = (),
    effort: Effort = EXACT,
) -> FleetSplit:
    """Return the split for a demand in requests per second by pool.

    ``before`` is the mix that each start and stop is counted against (None: there is none, and changes are free).
    Replicas that only the cost of a change would keep are left out: no pool gets more than it needs.

    Raises:
        SizingError: the solver ended without an answer.
    """
    known = {c.key for c in candidates}
    planned = replace(
        fleet,
        current={key: n for key, n in (before or {}).items() if key in known},
        change_dollars=fleet.change_dollars if before is not None else 0.0,
    )
    mix = _without_surplus(planned, cheapest_mix(planned, candidates, demand, effort=effort))
    settled = mix.holds and not planned.change_dollars
    least = mix.dollars_per_hour if settled else smallest_budget(planned, candidates, demand, effort=effort)
    return FleetSplit(planned, mix, least, tuple(excluded))


def _without_surplus(fleet: Fleet, mix: Mix) -> Mix:
    """Return a mix without the replicas that its pools do not need, the dearest left out first."""
    price = {line.name: line.dollars_per_used_gpu_hour for line in fleet.stock}
    chosen = dict(mix.replicas)
    for pool in fleet.pools:
        demand = mix.demand_requests_per_second[pool.name]
        if mix.short[pool.name] > SHORT_TOLERANCE:
            continue
        mine = [c for c in chosen if c.pool == pool.name]
        for candidate in sorted(mine, key=lambda c: (-c.gpus * price[c.stock], -c.gpus, c.key)):
            while chosen[candidate]:
                chosen[candidate] -= 1
                if demand > 0 and short_share(fleet, pool, tuple(chosen.items()), demand) > 0:
                    chosen[candidate] += 1
                    break
    return mix_of(fleet, list(chosen), list(chosen.values()), mix.demand_requests_per_second, mix.optimality_gap)
