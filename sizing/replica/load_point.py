"""What is asked of one replica and what comes of it: lengths that can be, latencies, one load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sizing.errors import InvalidInput
from sizing.replica.distributions import squared_variation
from sizing.types import Workload

__all__ = ["Latency", "LatencyCoefficients", "LoadPoint", "MeanRequest", "check_workload", "mean_request"]

_MAX_TOKENS = 1e8


@dataclass(frozen=True, slots=True)
class LatencyCoefficients:
    """What a first token costs beside its prefill: ``overhead_seconds`` plus ``step_ratio`` steps.

    Joint fit on the 112 Llama-3.1-8B points of llm-inferno/model-trainer commit 047f0ae0b9 (o 4.27 ms, κ 1.70).
    """

    overhead_seconds: float = 4.27e-3
    step_ratio: float = 1.70


@dataclass(frozen=True, slots=True)
class Latency:
    """TTFT (from arrival) and time per output token at one percentile, seconds."""

    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One replica at one load. ``batch`` and rates are of the whole replica.

    ``utilisation`` is the rate over the saturation rate; ``kv_tokens`` the mean resident tokens.
    """

    batch: float
    requests_per_second: float
    utilisation: float
    kv_tokens: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    mean: Latency
    p50: Latency
    p95: Latency


class MeanRequest(NamedTuple):
    """What the mean request of a workload asks of a step, tokens.

    ``input``, ``output`` and ``computed`` (input not in the prefix cache) are at least 1; ``context`` is the mean over
    all decode steps, ``prompt_context`` what stands before a computed prompt token on average. ``input_scv`` is the
    squared coefficient of variation of the input.
    """

    input: float
    output: float
    computed: float
    context: float
    prompt_context: float
    input_scv: float


def mean_request(workload: Workload) -> MeanRequest:
    """Return the mean request of a workload; lengths are not checked (``check_workload``)."""
    mean_in, mean_out = max(workload.input_tokens, 1.0), max(workload.output_tokens, 1.0)
    computed = max(mean_in * (1.0 - workload.cached_share), 1.0)
    scv = squared_variation(mean_in, workload.input_tokens_squared)
    product = workload.input_output_product
    if product is None:
        product = mean_in * mean_out
    # Exact for any distribution of lengths: E[n·m] and E[m²] / 2 per output token.
    context = (product + max(workload.output_tokens_squared or 0.0, mean_out**2) / 2.0) / mean_out
    cached = mean_in - computed
    # A prompt token attends to the cached prefix and, on average, half of the computed rest; long prompts weigh more.
    return MeanRequest(mean_in, mean_out, computed, context, (cached + computed / 2.0) * (1.0 + scv), scv)


def check_workload(workload: Workload) -> None:
    """Refuse lengths that cannot be.

    Raises:
        InvalidInput: not finite, negative, beyond 1e8 tokens, or a cached share outside [0, 1].
    """
    plain = (
        0 <= workload.input_tokens <= _MAX_TOKENS
        and 0 <= workload.output_tokens <= _MAX_TOKENS
        and workload.input_quantile is workload.output_quantile is None
        and 0 <= (workload.input_tokens_squared or 0.0) <= _MAX_TOKENS**2
        and 0 <= (workload.output_tokens_squared or 0.0) <= _MAX_TOKENS**2
        and 0 <= (workload.input_output_product or 0.0) <= _MAX_TOKENS**2
        and 0 <= workload.cached_share <= 1
    )
    if not plain:  # every window asks several times; which length it is, only one that is refused
        _refuse(workload)


def _refuse(workload: Workload) -> None:
    for name in ("input_tokens", "output_tokens"):
        value = getattr(workload, name)
        if not 0 <= value <= _MAX_TOKENS:
            raise InvalidInput(f"{name} must be in [0, {_MAX_TOKENS:g}], not {value!r}")
    for name in ("input_tokens_squared", "output_tokens_squared", "input_output_product"):
        value = getattr(workload, name)
        if value is not None and not 0 <= value <= _MAX_TOKENS**2:
            raise InvalidInput(f"{name} must be in [0, {_MAX_TOKENS**2:g}], not {value!r}")
    for name in ("input_quantile", "output_quantile"):
        value = getattr(workload, name)
        if value is not None and not 0 <= value <= _MAX_TOKENS:
            raise InvalidInput(f"{name} must be in [0, {_MAX_TOKENS:g}], not {value!r}")
    if not 0 <= workload.cached_share <= 1:
        raise InvalidInput(f"cached_share must be in [0, 1], not {workload.cached_share!r}")
