"""What is asked of one replica and what comes of it: lengths that can be, latencies, one load."""

from __future__ import annotations

from dataclasses import dataclass

from sizing.errors import InvalidInput
from sizing.model import Workload

__all__ = ["Latency", "LatencyCoefficients", "LoadPoint", "check_workload"]

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


def check_workload(workload: Workload) -> None:
    """Refuse lengths that cannot be.

    Raises:
        InvalidInput: not finite, negative, beyond 1e8 tokens, or a cached share outside [0, 1].
    """
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
