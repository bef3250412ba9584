"""Ways to serve one demand, side by side: each way sized on its own, then compared and ranked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sizing.catalog import Catalog, Price
from sizing.economics import FleetCost, capacity_cost, fleet_cost
from sizing.errors import InvalidInput, SizingError
from sizing.planning.known_point import known_point
from sizing.planning.plan import plan_at
from sizing.planning.serving import (
    DRAFTS,
    GIVEN,
    QUALITY,
    Apart,
    apart_plan,
    break_even_acceptance,
    speculative_point,
    unmeasured,
)
from sizing.replica.memory import Resolved, fit, resolve
from sizing.replica.speculative_step import Drafting
from sizing.types import Confidence, Constraint, Demand, Deployment, PolicyConfig, Slo, Workload

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration
    from sizing.planning.known_point import Known
    from sizing.planning.operating_point import OperatingPoint

__all__ = ["QUALITY", "RANKINGS", "Option", "Outcome", "compare", "configurations", "evaluate", "rank"]

#: What options can be ranked by.
RANKINGS = ("cost", "gpus", "cost_per_token")


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve a demand. ``price`` None takes the catalogue's; ``calibration`` belongs to the deployment.

    ``serving`` None: one replica does everything, a token per step. ``caveats`` are what its figures leave out.
    """

    name: str
    deployment: Deployment
    workload: Workload
    slo: Slo
    requests_per_second: float
    dispersion: float = 1.0
    price: Price | None = None
    calibration: Calibration | None = None
    serving: Drafting | Apart | None = None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one option takes. Figures are None where the option cannot be had; ``problem`` says why.

    ``feasible`` is False where even an idle replica misses the SLO; the figures are then those of a relaxed one.
    ``capacity_requests_per_second`` is of one replica within the SLO, latencies are at the SLO's percentile there.
    ``cost`` is None without a price. ``caveats`` are those of the option and of its way of serving. Of replicas with
    prefill and decode apart ``prefill_replicas`` compute prompts, and the capacity of one is that of all over their
    number.
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
    caveats: tuple[str, ...] = field(default=(), kw_only=True)
    prefill_replicas: int | None = field(default=None, kw_only=True)


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
            caveats=option.caveats,
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
    if isinstance(option.serving, Apart):
        return _apart(option, option.serving, resolved, known, policy)
    confidence, caveats = known.confidence, option.caveats
    if option.serving is not None:
        caveats += _drafting_caveats(option, option.serving, resolved, known, point)
        point, known = speculative_point(
            resolved, workload, option.slo, option.serving, known, dispersion=option.dispersion
        )
        confidence = unmeasured(confidence)
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
        confidence=confidence,
        price=price,
        cost=cost,
        problem=None if point.feasible else point.message,
        caveats=caveats,
    )


def _drafting_caveats(
    option: Option, drafting: Drafting, resolved: Resolved, known: Known, plain: OperatingPoint
) -> tuple[str, ...]:
    least = break_even_acceptance(
        resolved, option.workload, option.slo, drafting, known, plain, dispersion=option.dispersion
    )
    worth = "at no acceptance" if least is None else f"above an acceptance of {least:.2f}"
    return f"{GIVEN}; a replica carries more than without drafts {worth}", DRAFTS


def _apart(option: Option, apart: Apart, resolved: Resolved, known: Known, policy: PolicyConfig) -> Outcome:
    plan = apart_plan(
        resolved,
        option.workload,
        option.slo,
        option.requests_per_second,
        apart,
        known,
        policy,
        dispersion=option.dispersion,
    )
    front, back = plan.prefill, plan.decode
    replicas = front.desired + back.desired
    gpus = replicas * option.deployment.gpus
    price = option.price or resolved.gpu.price
    cost = None
    if price is not None and plan.requests_per_second > 0:
        dollars = price.dollars_per_gpu_hour * gpus
        cost = capacity_cost(dollars, plan.requests_per_second, option.workload, option.requests_per_second)
    binding = front if plan.prefill_binds else back
    megabytes, milliseconds = plan.points.transfer_bytes / 1e6, plan.points.transfer_seconds * 1e3
    sent = (
        f"{megabytes:,.0f} MB of KV cache per request take {milliseconds:,.3g} ms of TTFT at "
        f"{megabytes / milliseconds:,.0f} GB/s; transfers that share the link are not counted"
    )
    return Outcome(
        option=option,
        fits=True,
        feasible=plan.feasible,
        replicas=replicas,
        replicas_lower=front.lower + back.lower,
        replicas_upper=front.upper + back.upper,
        gpus=gpus,
        capacity_requests_per_second=plan.requests_per_second / replicas if replicas else None,
        ttft_seconds=plan.at_slo.ttft_seconds,
        tpot_seconds=plan.at_slo.tpot_seconds,
        kv_capacity_tokens=back.operating_point.kv_capacity_tokens,
        binding=binding.constraint,
        confidence=unmeasured(known.confidence),
        price=price,
        cost=cost,
        problem=None if plan.feasible else binding.operating_point.message,
        caveats=(*option.caveats, f"{front.desired} for prefill, {back.desired} for decode", sent),
        prefill_replicas=front.desired,
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
    pipeline_parallel: Sequence[int] = (),
    expert_parallel: Sequence[int] = (),
    data_parallel: Sequence[int] = (),
) -> list[Option]:
    """Return every combination of the given choices, the rest as in ``base``; an empty choice keeps the base's.

    What was measured on the base, its price and its observed KV capacity, belong to the base alone: an option on
    another GPU takes the catalogue's price, and none carries the calibration. Of another precision than the base's it
    is said that quality is not judged.
    """
    deployment = base.deployment
    found = []
    for gpu, precision, kv, tensor, pipeline, expert, data in itertools.product(
        gpus or (deployment.gpu,),
        precisions or (deployment.precision,),
        kv_precisions or (deployment.kv_precision,),
        tensor_parallel or (deployment.tensor_parallel,),
        pipeline_parallel or (deployment.pipeline_parallel,),
        expert_parallel or (deployment.expert_parallel,),
        data_parallel or (deployment.data_parallel,),
    ):
        changed = replace(
            deployment,
            gpu=gpu,
            precision=precision,
            kv_precision=kv,
            tensor_parallel=tensor,
            pipeline_parallel=pipeline,
            expert_parallel=expert,
            data_parallel=data,
            observed_kv_tokens=None,
        )
        if replace(changed, observed_kv_tokens=deployment.observed_kv_tokens) == deployment:
            found.append(replace(base, name=_name(changed)))
            continue
        price = base.price if gpu == deployment.gpu else None
        same = (precision, kv) == (deployment.precision, deployment.kv_precision)
        caveats = base.caveats if same else (*base.caveats, QUALITY)
        found.append(
            replace(base, name=_name(changed), deployment=changed, price=price, calibration=None, caveats=caveats)
        )
    return found


def _name(deployment: Deployment) -> str:
    kv = f", {deployment.kv_precision} KV" if deployment.kv_precision else ""
    others = (
        ("PP", deployment.pipeline_parallel),
        ("EP", deployment.expert_parallel),
        ("DP", deployment.data_parallel),
    )
    told = "".join(f", {name} {size}" for name, size in others if size > 1)
    return f"{deployment.tensor_parallel} × {deployment.gpu}, {deployment.precision}{kv}{told}"
