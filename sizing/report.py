"""One sizing question answered in full: what fits, how fast, how much one replica carries, how many are needed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sizing.catalog import Catalog, Price
from sizing.catalog.engines import engine_warnings
from sizing.economics import FleetCost, fleet_cost
from sizing.errors import InvalidInput
from sizing.planning.confidence import release_warning
from sizing.planning.known_point import error_text, known_point, measured_load
from sizing.planning.operating_point import OperatingPoint
from sizing.planning.plan import plan_at
from sizing.replica.load_point import LoadPoint
from sizing.replica.memory import kv_bytes_per_token, resolve
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import Confidence, Constraint, Demand, Deployment, PolicyConfig, Slo, Workload
from sizing.wording import words

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = ["MemoryReport", "SizeReport", "render_text", "size_report", "slo_text"]


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Memory of one replica; bytes per GPU unless named otherwise, sequences and tokens per replica."""

    total_parameters: float
    active_parameters: float
    gpu_bytes: float
    usable_bytes: float
    weight_bytes: float
    reserve_bytes: float
    reserve_parts_bytes: dict[str, float]
    kv_budget_bytes: float
    kv_bytes_per_token_of_model: float
    kv_capacity_tokens: float
    kv_capacity_observed: bool
    max_concurrent_sequences: float
    batch_limit: Constraint


@dataclass(frozen=True, slots=True)
class SizeReport:
    """The answer to one sizing question; ``to_dict`` gives plain JSON types."""

    model: str
    gpu: str
    gpus_per_replica: int
    precision: str
    precision_source: str
    kv_precision: str
    slo: Slo
    workload: Workload
    memory: MemoryReport
    curve: tuple[LoadPoint, ...]
    operating_point: OperatingPoint
    requests_per_second: float | None
    replicas: int | None
    replicas_lower: int | None
    replicas_upper: int | None
    gpus: int | None
    binding: Constraint
    confidence: Confidence
    price: Price | None
    cost: FleetCost | None
    assumptions: tuple[str, ...]
    sources: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as nested dicts of JSON types; what is not finite becomes None."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain


def size_report(
    deployment: Deployment,
    workload: Workload,
    slo: Slo,
    requests_per_second: float | None,
    policy: PolicyConfig | None = None,
    *,
    dispersion: float = 1.0,
    catalog: Catalog | None = None,
    coefficients: StepCoefficients | None = None,
    calibration: Calibration | None = None,
    price: Price | None = None,
) -> SizeReport:
    """Answer one sizing question; without a rate, everything but the number of replicas.

    ``lower`` and ``upper`` bound the replicas with step times at the 10 % and the 90 % point of their error at this
    distance from what was measured; the rate is taken as given.
    ``calibration`` is what measurements of this deployment taught; ``price`` wins over the catalogue's.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: the question cannot be understood.
        DoesNotFit: the weights or one request do not fit; the text says what would.
    """
    policy = policy or PolicyConfig()
    if requests_per_second is not None and not 0 <= requests_per_second < 1e9:
        raise InvalidInput(f"requests_per_second must be in [0, 1e9), not {requests_per_second!r}")
    resolved = resolve(deployment, catalog)
    point, known = known_point(
        resolved, workload, slo, dispersion=dispersion, coefficients=coefficients, calibration=calibration
    )
    replica = ReplicaModel(resolved, workload, dispersion=dispersion, coefficients=known.coefficients)
    memory = replica.memory
    rate = 0.0 if requests_per_second is None else requests_per_second
    demand = Demand((0.5,), (rate,), workload, horizon_seconds=policy.lead_time_seconds, dispersion=dispersion)
    plan = plan_at(point, demand, policy, known)
    asked = requests_per_second is not None
    older = release_warning(resolved, (coefficients or StepCoefficients()).learned)
    price = price or resolved.gpu.price
    cost = None
    if price is not None and asked and plan.desired:
        cost = fleet_cost(price, plan.desired, deployment.gpus, workload, point.requests_per_second, rate)
    return SizeReport(
        model=resolved.model.name,
        gpu=resolved.gpu.name,
        gpus_per_replica=deployment.gpus,
        precision=resolved.precision,
        precision_source=resolved.precision_source,
        kv_precision=resolved.kv_precision,
        slo=slo,
        workload=workload,
        memory=MemoryReport(
            total_parameters=resolved.model.total_parameters,
            active_parameters=resolved.model.active_parameters,
            gpu_bytes=memory.gpu_bytes,
            usable_bytes=memory.usable_bytes,
            weight_bytes=memory.weight_bytes,
            reserve_bytes=memory.reserve_bytes,
            reserve_parts_bytes={
                "activations": memory.reserve.activations,
                "runtime": memory.reserve.runtime,
                "communication": memory.reserve.communication,
                "graphs": memory.reserve.graphs,
            },
            kv_budget_bytes=memory.kv_budget_bytes,
            kv_bytes_per_token_of_model=kv_bytes_per_token(resolved.model, resolved.kv_precision),
            kv_capacity_tokens=point.kv_capacity_tokens,
            kv_capacity_observed=memory.observed,
            max_concurrent_sequences=replica.max_lane_batch * replica.lanes,
            batch_limit=replica.limit,
        ),
        curve=tuple(measured_load(load, known.ttft_ratio) for load in replica.curve()),
        operating_point=point,
        requests_per_second=requests_per_second,
        replicas=plan.desired if asked else None,
        replicas_lower=plan.lower if asked else None,
        replicas_upper=plan.upper if asked else None,
        gpus=plan.desired * deployment.gpus if asked else None,
        binding=plan.constraint if asked else point.constraint,
        confidence=known.confidence,
        price=price,
        cost=cost,
        assumptions=(
            f"arrivals with index of dispersion {dispersion:g} (1: Poisson)",
            f"at most {MAX_UTILISATION:.0%} of saturation is planned for",
            f"{error_text(known)} (10-90 %), {known.confidence.value}",
            "TTFT runs from arrival at the replica; TPOT is (E2E - TTFT) / (output tokens - 1)",
            "requests are spread evenly over replicas",
            *engine_warnings(deployment.engine, resolved.model, deployment.tensor_parallel, resolved.kv_precision),
            *(() if older is None or known.confidence is Confidence.CALIBRATED else (older,)),
            *_context_warning(resolved.model.context_tokens, workload),
        ),
        sources=(
            f"model {resolved.model.name}: {resolved.model.source}",
            f"GPU {resolved.gpu.name}: {resolved.gpu.source} ({resolved.gpu.as_of})",
            f"reserve: {memory.reserve.source}",
            *(() if known.points == 0 else (f"{known.points} measured points of this deployment",)),
            *(() if price is None else (f"price: {price.source} ({price.as_of})",)),
        ),
    )


def _context_warning(limit: int | None, workload: Workload) -> tuple[str, ...]:
    total = workload.input_tokens + workload.output_tokens
    if limit is None or total <= limit:
        return ()
    return (f"{total:,.0f} tokens a request are more than the {limit:,} that the model's configuration allows",)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def slo_text(slo: Slo) -> str:
    """Return an objective in words."""
    parts = []
    if slo.ttft_seconds is not None:
        parts.append(f"TTFT ≤ {slo.ttft_seconds:g} s")
    if slo.tpot_seconds is not None:
        parts.append(f"TPOT ≤ {slo.tpot_seconds * 1e3:g} ms")
    return f"{', '.join(parts)} at p{slo.percentile * 100:g}" if parts else "none"


def render_text(report: SizeReport) -> str:
    """Write a report as plain text for a terminal."""
    memory, point = report.memory, report.operating_point
    origin = "reported by the engine" if report.memory.kv_capacity_observed else "computed"
    lines = [
        f"{report.model} ({report.precision}, KV {report.kv_precision}) on "
        f"{report.gpus_per_replica} × {report.gpu} per replica",
        f"  precision             {report.precision}: {report.precision_source}",
        f"  parameters            {memory.total_parameters / 1e9:.1f} B, {memory.active_parameters / 1e9:.1f} B active",
        f"  memory per GPU        {_gib(memory.usable_bytes)} usable of {_gib(memory.gpu_bytes)}: weights "
        f"{_gib(memory.weight_bytes)}, reserve {_gib(memory.reserve_bytes)}, KV {_gib(memory.kv_budget_bytes)}",
        f"  KV cache              {memory.kv_bytes_per_token_of_model:,.0f} bytes per token; "
        f"{memory.kv_capacity_tokens:,.0f} tokens per replica ({origin})",
        f"  concurrency           {memory.max_concurrent_sequences:.0f} sequences at most ({memory.batch_limit.value})",
        f"  objective             {slo_text(report.slo)}",
        f"  operating point       {point.message}",
        "",
        "  req/s  of sat.  batch  TTFT p50   p95 (s)  TPOT p50  p95 (ms)  output tok/s",
    ]
    for load in report.curve:
        mark = " <" if load.requests_per_second <= point.requests_per_second * 1.0001 else ""
        lines.append(
            f"  {load.requests_per_second:5.3g}  {load.utilisation:6.0%}  {load.batch:6.0f}"
            f"  {load.p50.ttft_seconds:8.3f}  {load.p95.ttft_seconds:8.3f}"
            f"  {load.p50.tpot_seconds * 1e3:8.1f}  {load.p95.tpot_seconds * 1e3:8.1f}"
            f"  {load.decode_tokens_per_second:12,.0f}{mark}"
        )
    lines.append("  < within the operating point")
    if report.replicas is not None and report.gpus is not None:
        lines += [
            "",
            f"  {report.requests_per_second:g} req/s needs {report.replicas} replica"
            f"{'' if report.replicas == 1 else 's'} = {report.gpus} GPU{'' if report.gpus == 1 else 's'} "
            f"(10-90 %: {report.replicas_lower}-{report.replicas_upper}); {words(report.binding.value)} binds; "
            f"{report.confidence.value}",
        ]
    if report.cost is not None and report.price is not None:
        each = report.cost.dollars_per_million_output_tokens
        lines.append(
            f"  at ${report.price.dollars_per_gpu_hour:g} per GPU-hour: ${report.cost.dollars_per_hour:,.2f} an hour"
            + ("" if each is None else f", ${each:,.2f} per 1M output tokens at this demand")
            + f" (${report.cost.dollars_per_million_output_tokens_at_capacity:,.2f} at capacity)"
        )
    lines += ["", "  Assumptions: " + "; ".join(report.assumptions), "  Sources: " + "; ".join(report.sources)]
    return "\n".join(lines)
