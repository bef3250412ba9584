"""The ways to serve each pool of a fleet: every GPU type of its stock with every tensor parallelism that it may have.

What one replica carries is ``sizing.planning.known_point.known_point``, as for ``size`` and the live controller. Of the
precisions and ways of decoding that a pool may have, one with the same GPUs costs the same: the one that carries most
is the only one that a cheapest mix can need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.errors import DoesNotFit, NoKernel
from sizing.planning.fleet_regret import Scenario
from sizing.planning.fleet_types import Candidate, Fleet, FleetPool
from sizing.planning.known_point import known_point
from sizing.planning.operating_point import check_slo
from sizing.planning.serving import DRAFTS, GIVEN, QUALITY, speculative_point, unmeasured
from sizing.replica.load_point import check_workload
from sizing.replica.memory import Resolved, resolve
from sizing.replica.speculative_step import Drafting
from sizing.types import Deployment

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = ["Excluded", "fleet_candidates", "pool_candidates"]


@dataclass(frozen=True, slots=True)
class Excluded:
    """A shape that cannot serve a pool within its SLO, and why."""

    pool: str
    gpu: str
    tensor_parallel: int
    reason: str


def fleet_candidates(
    fleet: Fleet,
    catalog: Catalog | None = None,
    calibration: Callable[[Resolved], Calibration | None] | None = None,
) -> tuple[tuple[Candidate, ...], tuple[Excluded, ...]]:
    """Return ``pool_candidates`` of every pool.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: a pool or a line of stock cannot be understood.
    """
    found = [pool_candidates(pool, fleet, catalog, calibration) for pool in fleet.pools]
    return tuple(c for candidates, _ in found for c in candidates), tuple(e for _, excluded in found for e in excluded)


def pool_candidates(
    pool: FleetPool,
    fleet: Fleet,
    catalog: Catalog | None = None,
    calibration: Callable[[Resolved], Calibration | None] | None = None,
    scenarios: Sequence[Scenario] = (),
) -> tuple[list[Candidate], list[Excluded]]:
    """Return what can serve a pool within its SLO, and what cannot.

    ``calibration`` returns what was measured of a deployment. Left out are spot stock where the pool allows none, and
    of one GPU type the sizes beyond the first whose single replica carries the greatest demand of the quantiles and
    ``scenarios``: they cost more and are not needed. Sizes of the current mix stay.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: the pool or a line of stock cannot be understood.
    """
    catalog = catalog or Catalog()
    catalog.checkpoint(pool.model)
    check_slo(pool.slo)
    check_workload(pool.workload)
    stock = fleet.stock
    most = max([*pool.requests_per_second, *(scenario.requests_per_second[pool.name] for scenario in scenarios)])
    running = {size for (name, _, size), replicas in fleet.current.items() if name == pool.name and replicas}
    names = {line.name: catalog.gpu(line.gpu).name for line in stock}
    allowed = {catalog.gpu(gpu).name for gpu in pool.gpus} or set(names.values())
    lines = [line for line in stock if names[line.name] in allowed and pool.may_use(line)]
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    for gpu in dict.fromkeys(names[line.name] for line in lines):
        enough = False
        for size in sorted({*pool.tensor_parallel, *running}):
            if enough and size not in running:
                continue
            answer = _best_replica(pool, gpu, size, catalog, calibration)
            if isinstance(answer, str):
                excluded.append(Excluded(pool.name, gpu, size, answer))
                continue
            enough = enough or answer.requests_per_second >= most
            candidates += [replace(answer, stock=line.name) for line in lines if names[line.name] == gpu]
    return candidates, excluded


def _best_replica(
    pool: FleetPool,
    gpu: str,
    size: int,
    catalog: Catalog,
    calibration: Callable[[Resolved], Calibration | None] | None,
) -> Candidate | str:
    """Return the choice of one replica that carries most (among equals the pool's own), or why none can serve it."""
    best: Candidate | None = None
    reason = ""
    for precision in (None, *pool.precisions):
        for drafting in (None, pool.drafting) if pool.drafting is not None else (None,):
            answer = _replica(pool, gpu, size, precision, drafting, catalog, calibration)
            if isinstance(answer, str):
                reason = reason or answer
            elif best is None or answer.requests_per_second > best.requests_per_second:
                best = answer
    return best or reason


def _replica(
    pool: FleetPool,
    gpu: str,
    size: int,
    precision: str | None,
    drafting: Drafting | None,
    catalog: Catalog,
    calibration: Callable[[Resolved], Calibration | None] | None,
) -> Candidate | str:
    """Return one replica of a choice, on no stock yet, or why it cannot serve the pool."""
    spec = catalog.gpu(gpu)
    if size > spec.gpus_per_node:
        return f"{size} GPUs are more than the {spec.gpus_per_node} of one node"
    unset = engine_defaults(pool.engine, spec, pool.engine_version)
    deployment = Deployment(
        model=pool.model,
        gpu=gpu,
        tensor_parallel=size,
        precision=precision or pool.precision,
        kv_precision=pool.kv_precision,
        max_num_seqs=unset.max_num_seqs,
        max_batched_tokens=unset.max_batched_tokens,
        memory_utilisation=unset.memory_utilisation,
        engine=pool.engine,
        engine_version=pool.engine_version,
    )
    caveats: tuple[str, ...] = () if precision is None else (QUALITY,)
    try:
        resolved = resolve(deployment, catalog)
        learned = None if calibration is None else calibration(resolved)
        point, known = known_point(resolved, pool.workload, pool.slo, dispersion=pool.dispersion, calibration=learned)
        confidence = known.confidence
        if drafting is not None:
            point, known = speculative_point(
                resolved, pool.workload, pool.slo, drafting, known, dispersion=pool.dispersion
            )
            confidence, caveats = unmeasured(confidence), (*caveats, GIVEN, DRAFTS)
    except (DoesNotFit, NoKernel) as error:
        return str(error)
    if not point.feasible or not point.requests_per_second > 0:
        return point.message
    rate = point.requests_per_second
    return Candidate(pool.name, "", gpu, size, deployment.gpus, rate, confidence, precision, drafting, caveats)
