"""Ways to serve one demand, side by side: each way sized on its own, then compared and ranked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sizing.catalog import Catalog, Price
from sizing.economics import FleetCost, fleet_cost
from sizing.errors import InvalidInput, SizingError
from sizing.planning.known_point import known_point
from sizing.planning.plan import plan_at
from sizing.replica.memory import Resolved, fit, resolve
from sizing.types import Confidence, Constraint, Demand, Deployment, PolicyConfig, Slo, Workload

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = ["RANKINGS", "Option", "Outcome", "compare", "configurations", "evaluate", "rank"]

#: What options can be ranked by.
RANKINGS = ("cost", "gpus", "cost_per_token")


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve a demand. ``price`` None takes the catalogue's; ``calibration`` belongs to the deployment."""

    name: str
    deployment: Deployment
    workload: Workload
    slo: Slo
    requests_per_second: float
    dispersion: float = 1.0
    price: Price | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one option takes. Figures are None where the option cannot be had; ``problem`` says why.

    ``feasible`` is False where even an idle replica misses the SLO; the figures are then those of a relaxed one.
    ``capacity_requests_per_second`` is of one replica within the SLO, latencies are at the SLO's percentile there.
    ``cost`` is None without a price.
    """

    option: Option
    fits: bool
    feasible: bool
    replicas: int | None
    replicas_lower: int | None
    replicas_upper: int | None
    gpus: int | None
    capacity_requests_per_second: float | None
    ttft_seconds: float | None
    tpot_seconds: float | None
    kv_capacity_tokens: float | None
    binding: Constraint | None
    confidence: Confidence
    price: Price | None
    cost: FleetCost | None
    problem: str | None


def evaluate(option: Option, policy: PolicyConfig | None = None, catalog: Catalog | None = None) -> Outcome:
    """Size one option; nothing is raised for what cannot be, ``problem`` says it."""
    policy = policy or PolicyConfig(max_replicas=1_000_000)
    try:
        resolved = resolve(option.deployment, catalog)
        return _outcome(option, resolved, policy)
    except SizingError as error:
        return Outcome(
            option=option,
            fits=_fits(option.deployment, catalog),
            feasible=False,
            replicas=None,
            replicas_lower=None,
            replicas_upper=None,
            gpus=None,
            capacity_requests_per_second=None,
            ttft_seconds=None,
            tpot_seconds=None,
            kv_capacity_tokens=None,
            binding=None,
            confidence=Confidence.REFUSED,
            price=option.price,
            cost=None,
            problem=str(error),
        )


def _fits(deployment: Deployment, catalog: Catalog | None) -> bool:
    try:
        return fit(resolve(deployment, catalog)).fits
    except SizingError:
        return False


def _outcome(option: Option, resolved: Resolved, policy: PolicyConfig) -> Outcome:
    workload, rate = option.workload, option.requests_per_second
    if not 0 <= rate < 1e9:
        raise InvalidInput(f"requests_per_second must be in [0, 1e9), not {rate!r}")
    point, known = known_point(
        resolved, workload, option.slo, dispersion=option.dispersion, calibration=option.calibration
    )
    demand = Demand((0.5,), (rate,), workload, horizon_seconds=policy.lead_time_seconds, dispersion=option.dispersion)
    plan = plan_at(point, demand, policy, known)
    price = option.price or resolved.gpu.price
    gpus = option.deployment.gpus
    cost = None
    if price is not None and plan.desired:
        cost = fleet_cost(price, plan.desired, gpus, workload, point.requests_per_second, rate)
    return Outcome(
        option=option,
        fits=True,
        feasible=point.feasible,
        replicas=plan.desired,
        replicas_lower=plan.lower,
        replicas_upper=plan.upper,
        gpus=plan.desired * gpus,
        capacity_requests_per_second=point.requests_per_second,
        ttft_seconds=point.at_slo.ttft_seconds,
        tpot_seconds=point.at_slo.tpot_seconds,
        kv_capacity_tokens=point.kv_capacity_tokens,
        binding=plan.constraint,
        confidence=known.confidence,
        price=price,
        cost=cost,
        problem=None if point.feasible else point.message,
    )


def compare(
    options: Sequence[Option], policy: PolicyConfig | None = None, catalog: Catalog | None = None
) -> tuple[Outcome, ...]:
    """Size several options, in the order given."""
    return tuple(evaluate(option, policy, catalog) for option in options)


def rank(outcomes: Iterable[Outcome], by: str = "cost") -> tuple[Outcome, ...]:
    """Order outcomes, the best first: feasible before infeasible before impossible, then by ``by``.

    ``cost``: dollars per hour; ``gpus``: GPUs; ``cost_per_token``: dollars per million output tokens at capacity. What
    has no price comes after what has one; ties go to fewer GPUs, then to the name.

    Raises:
        InvalidInput: an unknown ``by``.
    """
    if by not in RANKINGS:
        raise InvalidInput(f"cannot rank by {by!r}; known: {', '.join(RANKINGS)}")

    def key(outcome: Outcome) -> tuple[float, float, float, str]:
        gpus = math.inf if outcome.gpus is None else float(outcome.gpus)
        first = gpus
        if by == "cost":
            first = math.inf if outcome.cost is None else outcome.cost.dollars_per_hour
        elif by == "cost_per_token":
            first = math.inf if outcome.cost is None else outcome.cost.dollars_per_million_output_tokens_at_capacity
        standing = 0.0 if outcome.feasible else 1.0 if outcome.replicas is not None else 2.0
        return standing, first, gpus, outcome.option.name

    return tuple(sorted(outcomes, key=key))


def configurations(
    base: Option,
    *,
    gpus: Sequence[str] = (),
    precisions: Sequence[str] = (),
    kv_precisions: Sequence[str | None] = (),
    tensor_parallel: Sequence[int] = (),
) -> list[Option]:
    """Return every combination of the given choices, the rest as in ``base``; an empty choice keeps the base's.

    What was measured on the base, its price and its observed KV capacity, belong to the base alone: an option on
    another GPU takes the catalogue's price, and none carries the calibration.
    """
    deployment = base.deployment
    found = []
    for gpu, precision, kv, size in itertools.product(
        gpus or (deployment.gpu,),
        precisions or (deployment.precision,),
        kv_precisions or (deployment.kv_precision,),
        tensor_parallel or (deployment.tensor_parallel,),
    ):
        changed = replace(
            deployment, gpu=gpu, precision=precision, kv_precision=kv, tensor_parallel=size, observed_kv_tokens=None
        )
        if replace(changed, observed_kv_tokens=deployment.observed_kv_tokens) == deployment:
            found.append(replace(base, name=_name(changed)))
            continue
        price = base.price if gpu == deployment.gpu else None
        found.append(replace(base, name=_name(changed), deployment=changed, price=price, calibration=None))
    return found


def _name(deployment: Deployment) -> str:
    kv = f", {deployment.kv_precision} KV" if deployment.kv_precision else ""
    return f"{deployment.tensor_parallel} × {deployment.gpu}, {deployment.precision}{kv}"
