"""Two ways of serving that change the latency of a replica: prefill and decode apart, and speculative decoding.

Disaggregation: prefill replicas compute prompts, the KV cache goes over the network, decode replicas do the rest. In
balance, prefill replicas · their rate = decode replicas · their rate (DistServe, OSDI '24, arXiv 2401.09670); TTFT
gains the transfer.

Speculation: a draft of K tokens, each accepted with probability a, yields (1 - a^(K+1)) / (1 - a) tokens per step
(Leviathan, Kalman and Matias 2023, arXiv 2211.17192), while the step verifies K + 1 tokens per sequence. At large
batches that is compute, so the gain shrinks and can turn into a loss; it is a sensitivity and never a bonus on capacity
(kubernetes-sigs/inference-perf 7de5ef2ed6, demos/kubecon-na-2025: with EAGLE one H100 saturates at about 73 requests
per second, without at 106 to 177).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sizing.catalog.precision import KV_BYTES_PER_ELEMENT
from sizing.errors import InvalidInput
from sizing.replica.load_point import Latency
from sizing.replica.memory import Resolved, kv_bytes_per_token
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.replica.speculative_step import Drafting, SpeculativeStep
from sizing.replica.step_time import StepCoefficients
from sizing.types import Workload

__all__ = [
    "Disaggregated",
    "Speculation",
    "decode_workload",
    "disaggregated",
    "prompt_workload",
    "speculation",
    "transfer_bytes",
]


@dataclass(frozen=True, slots=True)
class Disaggregated:
    """One pair of replicas in steady state at the rates given; rates are per second, per replica and at the margin.

    ``prefill_per_decode`` replicas of prefill keep one of decode busy; ``transfer_seconds`` and ``transfer_bytes`` of
    the KV cache per request; ``latency`` is the mean at ``utilisation`` of both.
    """

    prefill_requests_per_second: float
    decode_requests_per_second: float
    prefill_per_decode: float
    transfer_bytes: float
    transfer_seconds: float
    utilisation: float
    latency: Latency


def prompt_workload(workload: Workload) -> Workload:
    """Return what a prefill replica serves: it emits the first token only."""
    return replace(
        workload, output_tokens=1.0, output_tokens_squared=None, input_output_product=None, output_quantile=None
    )


def decode_workload(workload: Workload) -> Workload:
    """Return what a decode replica serves: it finds the prompt in its cache."""
    return replace(workload, cached_share=1.0)


def transfer_bytes(resolved: Resolved, workload: Workload) -> float:
    """Return the bytes that are sent per request: its whole KV cache and the states of recurrent layers.

    A cached prefix is on both sides only by luck.
    """
    state = resolved.model.state_elements * KV_BYTES_PER_ELEMENT["bf16"]
    return workload.input_tokens * kv_bytes_per_token(resolved.model, resolved.kv_precision) + state


def disaggregated(
    prefill: Resolved,
    decode: Resolved,
    workload: Workload,
    *,
    network_bytes_per_second: float,
    utilisation: float = 0.7,
    coefficients: StepCoefficients | None = None,
) -> Disaggregated:
    """Return the balance and the mean latency of prefill and decode on replicas of their own.

    ``network_bytes_per_second`` carries the KV cache from one prefill replica to one decode replica.

    Raises:
        InvalidInput: the models differ, the network or the utilisation cannot be, or the workload cannot.
        DoesNotFit: one of the two does not fit.
    """
    if prefill.model != decode.model:
        raise InvalidInput(f"prefill serves {prefill.model.name}, decode {decode.model.name}: they must be one model")
    if not 0 < network_bytes_per_second < 1e18:
        raise InvalidInput(f"network_bytes_per_second must be positive, not {network_bytes_per_second!r}")
    if not 0 < utilisation < 1:
        raise InvalidInput(f"utilisation must be in (0, 1), not {utilisation!r}")
    front = ReplicaModel(prefill, prompt_workload(workload), coefficients=coefficients)
    back = ReplicaModel(decode, decode_workload(workload), coefficients=coefficients)
    rates = [replica.saturation_requests_per_second for replica in (front, back)]
    batches = [replica.lane_batch(rate * utilisation) for replica, rate in zip((front, back), rates, strict=True)]
    assert batches[0] is not None
    assert batches[1] is not None
    sent = transfer_bytes(decode, workload)
    seconds = sent / network_bytes_per_second
    first, rest = front.mean_latency(batches[0]), back.mean_latency(batches[1])
    return Disaggregated(
        prefill_requests_per_second=rates[0] * MAX_UTILISATION,
        decode_requests_per_second=rates[1] * MAX_UTILISATION,
        prefill_per_decode=rates[1] / rates[0],
        transfer_bytes=sent,
        transfer_seconds=seconds,
        utilisation=utilisation,
        latency=Latency(first.ttft_seconds + seconds, rest.tpot_seconds),
    )


@dataclass(frozen=True, slots=True)
class Speculation:
    """What speculative decoding does at one batch: tokens per step, step time, and TPOT over the plain one's."""

    tokens_per_step: float
    step_seconds: float
    tpot_seconds: float
    tpot_ratio: float


def speculation(
    replica: ReplicaModel,
    lane_batch: float,
    *,
    draft_tokens: int,
    acceptance: float,
    draft_cost_ratio: float = 0.05,
) -> Speculation:
    """Return the sensitivity of TPOT to speculative decoding with ``lane_batch`` sequences in each lane.

    ``acceptance`` of one draft token in [0, 1); a draft token costs ``draft_cost_ratio`` of a plain step. Prompts are
    left out on both sides.

    Raises:
        InvalidInput: a number cannot be.
    """
    drafting = Drafting(draft_tokens, acceptance, draft_cost_ratio)
    if not 0 < lane_batch <= 1e9:
        raise InvalidInput(f"lane_batch must be positive, not {lane_batch!r}")
    context = replica.context_tokens
    plain = replica.step.step_seconds(lane_batch, context)
    seconds = SpeculativeStep.of(replica.step, drafting).mean_step_seconds(lane_batch, context, 0.0, 0.0, 1.0)
    tokens = drafting.tokens_per_step
    return Speculation(tokens, seconds, seconds / tokens, seconds / tokens / plain)
