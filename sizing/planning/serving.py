"""Ways of serving beside one replica that does everything: speculative decoding, and prefill and decode apart.

Each is sized by the same physics as a plain replica and says what its figures leave out. Nothing of either was
measured: their confidence is ``extrapolated``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sizing.errors import InvalidInput
from sizing.planning.disaggregation import decode_workload, prompt_workload, transfer_bytes
from sizing.planning.known_point import Known
from sizing.planning.operating_point import OperatingPoint, solve_replica
from sizing.planning.plan import Plan, plan_at
from sizing.planning.sensitivity import capacity_ratios
from sizing.replica.load_point import Latency, mean_request
from sizing.replica.memory import Resolved
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.speculative_step import Drafting, SpeculativeStep
from sizing.replica.step_time import step_model
from sizing.types import Confidence, Demand, PolicyConfig, Slo, Workload

__all__ = [
    "DRAFTS",
    "GIVEN",
    "QUALITY",
    "Apart",
    "ApartPlan",
    "ApartPoints",
    "apart_plan",
    "apart_points",
    "break_even_acceptance",
    "speculative_point",
    "unmeasured",
]


#: What is said of every choice whose weights or KV cache have another precision.
QUALITY = "the quality of the answers is not judged"
#: What is said of every choice with speculative decoding.
GIVEN = "the acceptance is given, not measured"
DRAFTS = (
    "the draft model's memory and the engine's own work on drafts are not counted; with EAGLE one H100 was seen to "
    "saturate at about 73 req/s, and at 106 without (kubernetes-sigs/inference-perf 7de5ef2, kubecon-na-2025)"
)


def unmeasured(confidence: Confidence) -> Confidence:
    """Return the confidence with another way of serving: nothing of it was measured, however well the rest is known."""
    return Confidence.REFUSED if confidence is Confidence.REFUSED else Confidence.EXTRAPOLATED


def speculative_point(
    resolved: Resolved, workload: Workload, slo: Slo, drafting: Drafting, known: Known, *, dispersion: float = 1.0
) -> tuple[OperatingPoint, Known]:
    """Return the operating point with speculative decoding, with the corrections that ``known`` has of the plain one.

    A sequence lives for its output over the tokens per step, in steps; TPOT is the step over that. The draft model's
    memory is not counted, and every request has the mean acceptance.

    Raises:
        InvalidInput: the workload or the objective is invalid.
        DoesNotFit: the weights or one request do not fit.
    """
    each = drafting.tokens_per_step
    steps, deployment = _in_steps(workload, each), resolved.deployment
    # A step's token budget holds k + 1 tokens of every sequence beside the prompts.
    prompts = mean_request(workload).computed / steps.output_tokens
    budget = deployment.max_batched_tokens * (1.0 + prompts) / (drafting.draft_tokens + 1 + prompts)
    limited = replace(resolved, deployment=replace(deployment, max_batched_tokens=max(int(budget), 1)))
    replica = ReplicaModel(
        limited,
        steps,
        dispersion=dispersion,
        coefficients=known.coefficients,
        step=SpeculativeStep.of(step_model(resolved, known.coefficients), drafting),
    )
    asked = replace(slo, tpot_seconds=None if slo.tpot_seconds is None else slo.tpot_seconds * each)
    point = solve_replica(replica, asked, ttft_ratio=known.ttft_ratio)
    ratios = capacity_ratios(replica, point, asked, known.support.step_ratios_80)

    def per_token(latency: Latency) -> Latency:
        return replace(latency, tpot_seconds=latency.tpot_seconds / each)

    told = replace(
        point,
        p50=per_token(point.p50),
        p95=per_token(point.p95),
        at_slo=per_token(point.at_slo),
        beyond=per_token(point.beyond),
        decode_tokens_per_second=point.decode_tokens_per_second * each,
        relaxed_slo=None,
        advice=None,
        message=f"{point.constraint.value} binds at {point.requests_per_second:.3g} req/s per replica"
        if point.feasible
        else "no number of replicas meets the SLO with speculative decoding",
    )
    return told, replace(known, capacity_ratios=ratios)


def break_even_acceptance(
    resolved: Resolved,
    workload: Workload,
    slo: Slo,
    drafting: Drafting,
    known: Known,
    plain: OperatingPoint,
    *,
    dispersion: float = 1.0,
) -> float | None:
    """Return the acceptance above which a replica carries more than ``plain`` does, to 0.01; None: there is none.

    Raises:
        InvalidInput, DoesNotFit: as ``speculative_point``.
    """

    def more(acceptance: float) -> bool:
        at = replace(drafting, acceptance=acceptance)
        point, _ = speculative_point(resolved, workload, slo, at, known, dispersion=dispersion)
        if not plain.feasible:
            return point.feasible
        return point.feasible and point.requests_per_second > plain.requests_per_second

    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if more(middle / 100) else (middle, high)
    return None if high == 100 else high / 100


def _in_steps(workload: Workload, each: float) -> Workload:
    """Return the workload with outputs counted in steps, each sequence's context being what it was."""
    context, output = mean_request(workload).context, max(workload.output_tokens, 1.0) / each
    squared = max(workload.output_tokens_squared or 0.0, max(workload.output_tokens, 1.0) ** 2) / each**2
    return replace(
        workload,
        output_tokens=output,
        output_tokens_squared=squared,
        input_output_product=max(context * output - max(squared, output**2) / 2.0, 0.0),
        output_quantile=None if workload.output_quantile is None else workload.output_quantile / each,
    )


@dataclass(frozen=True, slots=True)
class Apart:
    """Prefill and decode on replicas of their own. ``network_bytes_per_second`` carries the KV cache of one request.

    None: what the catalogue has between nodes, for all GPUs of a replica.

    Raises:
        InvalidInput: a bandwidth that cannot be.
    """

    network_bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        rate = self.network_bytes_per_second
        if rate is not None and not 0 < rate < 1e18:
            raise InvalidInput(f"network_bytes_per_second must be positive, not {rate!r}")


@dataclass(frozen=True, slots=True)
class ApartPoints:
    """The operating points of a prefill replica (TTFT less the transfer) and of a decode replica (TPOT), each as known.

    ``transfer_bytes`` and ``transfer_seconds`` are per request, at ``network_bytes_per_second``.
    """

    prefill: OperatingPoint
    decode: OperatingPoint
    known_prefill: Known
    known_decode: Known
    transfer_bytes: float
    transfer_seconds: float
    network_bytes_per_second: float


def apart_points(
    resolved: Resolved, workload: Workload, slo: Slo, apart: Apart, known: Known, *, dispersion: float = 1.0
) -> ApartPoints:
    """Return what one replica of each kind carries within its part of the SLO (DistServe, OSDI '24, arXiv 2401.09670).

    The whole context is sent, at the full bandwidth: transfers that share it, or overlap with computing, are not in it.

    Raises:
        InvalidInput: the workload or the objective is invalid, or the transfer alone takes longer than the TTFT
            objective.
        DoesNotFit: the weights or one request do not fit.
    """
    network = apart.network_bytes_per_second
    if network is None:
        network = resolved.gpu.inter_node_bandwidth_bytes_per_second * resolved.deployment.gpus
    sent = transfer_bytes(resolved, workload)
    seconds = sent / network
    ttft = None if slo.ttft_seconds is None else slo.ttft_seconds - seconds
    if ttft is not None and ttft <= 0:
        raise InvalidInput(f"sending {sent / 1e6:,.0f} MB takes {seconds:.3g} s, longer than the TTFT objective")

    def solved(part: Workload, objective: Slo) -> tuple[OperatingPoint, Known]:
        replica = ReplicaModel(resolved, part, dispersion=dispersion, coefficients=known.coefficients)
        point = solve_replica(replica, objective, ttft_ratio=known.ttft_ratio)
        ratios = capacity_ratios(replica, point, objective, known.support.step_ratios_80)
        return point, replace(known, capacity_ratios=ratios)

    front, known_front = solved(prompt_workload(workload), replace(slo, ttft_seconds=ttft, tpot_seconds=None))
    back, known_back = solved(decode_workload(workload), replace(slo, ttft_seconds=None))
    return ApartPoints(front, back, known_front, known_back, sent, seconds, network)


@dataclass(frozen=True, slots=True)
class ApartPlan:
    """Whole replicas of each kind for a demand, and what is reached: TTFT with the transfer, TPOT of decode replicas.

    ``requests_per_second`` is what all of them carry within the SLO.
    """

    points: ApartPoints
    prefill: Plan
    decode: Plan
    requests_per_second: float
    at_slo: Latency

    @property
    def feasible(self) -> bool:
        """Whether both kinds meet their objective at some load."""
        return self.points.prefill.feasible and self.points.decode.feasible

    @property
    def prefill_binds(self) -> bool:
        """Whether the prefill replicas are those that carry less, or that miss their objective."""
        front, back = self.points.prefill, self.points.decode
        if front.feasible != back.feasible:
            return not front.feasible
        return front.requests_per_second * self.prefill.desired <= back.requests_per_second * self.decode.desired


def apart_plan(
    resolved: Resolved,
    workload: Workload,
    slo: Slo,
    requests_per_second: float,
    apart: Apart,
    known: Known,
    policy: PolicyConfig,
    *,
    dispersion: float = 1.0,
) -> ApartPlan:
    """Return the whole replicas of prefill and of decode that carry a rate within the SLO; see ``apart_points``."""
    points = apart_points(resolved, workload, slo, apart, known, dispersion=dispersion)

    def planned(point: OperatingPoint, part: Workload, of: Known) -> Plan:
        demand = Demand((0.5,), (requests_per_second,), part, policy.lead_time_seconds, dispersion=dispersion)
        return plan_at(point, demand, policy, of)

    front, back = points.prefill, points.decode
    prefill = planned(front, prompt_workload(workload), points.known_prefill)
    decode = planned(back, decode_workload(workload), points.known_decode)
    return ApartPlan(
        points=points,
        prefill=prefill,
        decode=decode,
        requests_per_second=min(front.requests_per_second * prefill.desired, back.requests_per_second * decode.desired),
        at_slo=Latency(front.at_slo.ttft_seconds + points.transfer_seconds, back.at_slo.tpot_seconds),
    )
