"""Time of one engine step: a sum of roofline terms.

step = overhead · layers + all-reduces + bytes of weights touched / bandwidth + bytes of KV read / bandwidth +
FLOPs / peak + overhead · sequences. The sum form follows BLIS (inference-sim/inference-sim,
docs/blog/posts/how-blis-learns-latency.md), which found it closer to measurements than a maximum of terms.
Mixture-of-experts coverage: a step of t tokens touches the share 1 - (1 - k/E)^t of the routed experts; prompts come in
chunks, so few steps touch nearly all experts and the others only those of the decoding sequences. Where kernels unpack
4-bit weights before they multiply, they may do so slower than the memory delivers them. Coefficients:
``StepCoefficients``; what measurements taught about kinds of deployments: ``sizing.calibration.global_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from sizing.calibration.global_fit import Learned, builtin_learned, features
from sizing.catalog.precision import BYTES_PER_PARAMETER, KV_BYTES_PER_ELEMENT
from sizing.replica.distributions import normal_quantile
from sizing.replica.expert_tokens import moving_seconds
from sizing.replica.memory import Resolved, dense_precision, kv_share_per_gpu, weight_bytes
from sizing.replica.sparse_attention import sparse_attention
from sizing.replica.weights import expert_padding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sizing.catalog import GpuSpec

__all__ = ["StepCoefficients", "StepModel", "step_model"]


#: How sharply a matrix product turns from reading weights to computing: its time is the norm of this order of both.
#: Median of 14 tables (GPU, precision) of GEMM timings (n, k >= 4096) of ai-dynamo/aiconfigurator 095f58a51c, fitted
#: around the corner by benchmarks/sizing/overlap.py; no end-to-end time was used.
OVERLAP_ORDER = 1.6
#: Latency of an all-gather and a reduce-scatter over that of an all-reduce: median of 5 boards, two GPUs, the smallest
#: message (NCCL 2.27 and 2.29 as timed for ai-dynamo/aiconfigurator 095f58a51c: 1.70 to 1.81).
_TWO_COLLECTIVES = 1.77
_OVERLAP_ROOT = 1.0 / OVERLAP_ORDER
_LAYER_SECONDS = 4.0e-5
#: Reading KV beside what a launch takes, over the ideal: 1.05 on an H100, 1.07 on a B200, 1.14 on an L40S (generation
#: attention of vLLM 0.24.0 in bf16, 8 KV heads of 128, 128 sequences, from 1,023 to 4,095 tokens, as timed for
#: ai-dynamo/aiconfigurator 095f58a51c; 2026-12-01).
_WEIGHT_RATIO, _KV_RATIO = 1.1, 1.08

N = TypeVar("N", float, "NDArray[np.float64]")


def _unhidden(ratio: N) -> N:
    """Return the share of reading weights that computing does not hide; ``ratio`` is ideal computing over reading."""
    together: N = (1.0 + ratio**OVERLAP_ORDER) ** _OVERLAP_ROOT
    return together - ratio


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """Global coefficients of the step time, the same for all models and GPUs.

    Overhead seconds per layer and per running sequence; ratios to the ideal time of reading weights and KV at the
    data sheet's bandwidth, of computing at ``GpuSpec.effective_flops_per_second`` and of all-reduces by the link table.
    They are what a deployment's own telemetry corrects (``sizing.calibration.calibrator``). ``learned`` holds the
    factors on the terms that public end-to-end measurements taught (``benchmarks/sizing/fit.py``;
    docs/sizing-accuracy.md).
    """

    layer_seconds: float = _LAYER_SECONDS
    sequence_seconds: float = 2.0e-5
    weight_ratio: float = _WEIGHT_RATIO
    kv_ratio: float = _KV_RATIO
    compute_ratio: float = 1.0
    comm_ratio: float = 1.4
    learned: Learned = field(default_factory=builtin_learned, repr=False)


@dataclass(frozen=True, slots=True)
class StepModel:
    """Step time of one lane (one batch) of a replica, linear but for the weights; all times in seconds.

    ``fixed_seconds`` is paid by every step; ``dense_seconds`` is reading the dense weights and ``expert_seconds`` all
    experts, as far as computing does not hide it: at ``dense_corner_tokens`` (``expert_corner_tokens`` per lane, with
    all experts touched) ideal reading and ideal computing take equally long. ``expert_miss`` = 1 - k/E;
    ``expert_lanes`` lanes put their tokens through the same experts in one step; ``expert_spread`` is how far the GPU
    that reads most is above the mean, in standard deviations of touching one expert. ``decode_seconds`` per running
    sequence; ``kv_seconds`` and ``kv_window_seconds`` per context token of a running sequence, the latter for at most
    ``window_tokens``; ``prefill_seconds`` per computed prompt token; ``attention_seconds`` and
    ``attention_window_seconds`` per prompt token and token of context before it, the latter for at most
    ``window_tokens``. With sparse attention the window is what it selects, and the rest is its indexer.
    """

    fixed_seconds: float
    dense_seconds: float
    dense_corner_tokens: float
    expert_seconds: float
    expert_corner_tokens: float
    expert_miss: float
    expert_lanes: int
    expert_spread: float
    decode_seconds: float
    kv_seconds: float
    kv_window_seconds: float
    window_tokens: int
    prefill_seconds: float
    attention_seconds: float
    attention_window_seconds: float = 0.0

    def scaled(self, ratio: float) -> StepModel:
        """Return this model with every time multiplied by ``ratio``."""
        return StepModel(
            fixed_seconds=self.fixed_seconds * ratio,
            dense_seconds=self.dense_seconds * ratio,
            dense_corner_tokens=self.dense_corner_tokens,
            expert_seconds=self.expert_seconds * ratio,
            expert_corner_tokens=self.expert_corner_tokens,
            expert_miss=self.expert_miss,
            expert_lanes=self.expert_lanes,
            expert_spread=self.expert_spread,
            decode_seconds=self.decode_seconds * ratio,
            kv_seconds=self.kv_seconds * ratio,
            kv_window_seconds=self.kv_window_seconds * ratio,
            window_tokens=self.window_tokens,
            prefill_seconds=self.prefill_seconds * ratio,
            attention_seconds=self.attention_seconds * ratio,
            attention_window_seconds=self.attention_window_seconds * ratio,
        )

    def base_seconds(self, tokens: float) -> float:
        """Return what a step of ``tokens`` tokens (decode and prefill) per lane takes beside what tokens add."""
        # ``_unhidden`` written out: this is asked tens of times for every operating point.
        ratio = tokens / self.dense_corner_tokens
        unhidden: float = (1.0 + ratio**OVERLAP_ORDER) ** _OVERLAP_ROOT - ratio
        seconds = self.fixed_seconds + self.dense_seconds * unhidden
        if self.expert_seconds == 0.0:
            return seconds
        touched = 1.0 - math.pow(self.expert_miss, tokens * self.expert_lanes)
        if touched <= 0.0:
            return seconds
        if self.expert_spread:
            touched = min(touched + self.expert_spread * math.sqrt(touched * (1.0 - touched)), 1.0)
        return seconds + self.expert_seconds * touched * _unhidden(tokens / self.expert_corner_tokens / touched)

    def mean_base_seconds(self, batch: float, prompt_tokens: float, chunk_tokens: float) -> float:
        """Return the mean of ``base_seconds`` over steps with ``batch`` decoding sequences.

        ``prompt_tokens`` per step on average come in chunks of ``chunk_tokens`` at random: the share 1 - e^-(prompt /
        chunk) of the steps holds some, the others hold none.
        """
        if self.dense_seconds == 0.0 and self.expert_seconds == 0.0:
            return self.fixed_seconds
        share = -math.expm1(-prompt_tokens / (chunk_tokens if chunk_tokens > 1e-9 else 1e-9))
        if share <= 0.0:
            return self.base_seconds(batch)
        if self.expert_seconds == 0.0:
            # ``base_seconds`` of both written out: this is most of the work of finding an operating point.
            fixed, dense, corner = self.fixed_seconds, self.dense_seconds, self.dense_corner_tokens
            alone, with_chunk = batch / corner, (batch + prompt_tokens / share) / corner
            without: float = fixed + dense * ((1.0 + alone**OVERLAP_ORDER) ** _OVERLAP_ROOT - alone)
            chunked: float = fixed + dense * ((1.0 + with_chunk**OVERLAP_ORDER) ** _OVERLAP_ROOT - with_chunk)
            return (1.0 - share) * without + share * chunked
        return (1.0 - share) * self.base_seconds(batch) + share * self.base_seconds(batch + prompt_tokens / share)

    def mean_base_seconds_of(
        self, batches: NDArray[np.float64], prompt_tokens: NDArray[np.float64], chunk_tokens: float
    ) -> NDArray[np.float64]:
        """Return ``mean_base_seconds`` of many batches at once, the same shape."""
        import numpy as np

        share = np.maximum(-np.expm1(-prompt_tokens / max(chunk_tokens, 1e-9)), 1e-300)
        alone, with_chunk = (self._base_seconds_of(tokens) for tokens in (batches, batches + prompt_tokens / share))
        return (1.0 - share) * alone + share * with_chunk

    def _base_seconds_of(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        seconds = self.fixed_seconds + self.dense_seconds * _unhidden(tokens / self.dense_corner_tokens)
        if self.expert_seconds == 0.0:
            return seconds
        touched = 1.0 - self.expert_miss ** (tokens * self.expert_lanes)
        if self.expert_spread:
            import numpy as np

            touched = np.minimum(touched + self.expert_spread * np.sqrt(touched * (1.0 - touched)), 1.0)
        return seconds + self.expert_seconds * touched * _unhidden(tokens / self.expert_corner_tokens / touched)

    def mean_step_seconds(
        self,
        batch: float,
        context_tokens: float,
        prompt_tokens: float,
        prompt_context_tokens: float,
        chunk_tokens: float,
    ) -> float:
        """Return the mean step of a steady state: ``step_seconds`` with the prompts coming in chunks."""
        return (
            self.mean_base_seconds(batch, prompt_tokens, chunk_tokens)
            + batch * self.sequence_seconds(context_tokens)
            + prompt_tokens * self.prompt_token_seconds(prompt_context_tokens)
        )

    def sequence_seconds(self, context_tokens: float) -> float:
        """Return what one running sequence with ``context_tokens`` tokens of context adds to a step."""
        windowed = self.kv_window_seconds * min(context_tokens, self.window_tokens)
        return self.decode_seconds + self.kv_seconds * context_tokens + windowed

    def prompt_token_seconds(self, mean_context_tokens: float) -> float:
        """Return what one computed prompt token adds, with ``mean_context_tokens`` tokens before it on average."""
        windowed = self.attention_window_seconds * min(mean_context_tokens, self.window_tokens)
        return self.prefill_seconds + self.attention_seconds * mean_context_tokens + windowed

    def step_seconds(
        self, batch: float, context_tokens: float, prompt_tokens: float = 0.0, prompt_context_tokens: float = 0.0
    ) -> float:
        """Return the seconds of a step with ``batch`` decoding sequences and ``prompt_tokens`` prompt tokens."""
        return (
            self.base_seconds(batch + prompt_tokens)
            + batch * self.sequence_seconds(context_tokens)
            + prompt_tokens * self.prompt_token_seconds(prompt_context_tokens)
        )


def _all_reduce(gpu: GpuSpec, group: int, message_elements: float) -> tuple[float, float]:
    """Return the latency of an all-reduce in a group of GPUs, and the seconds of 2-byte elements, by the link table."""
    if group == 1:
        return 0.0, 0.0
    link = gpu.link(group)
    return link.latency_seconds, 2 * (group - 1) / group * message_elements * 2.0 / link.bandwidth_bytes_per_second


def _busiest(experts: int, group: int) -> float:
    """Return how far the fullest of ``group`` GPUs is above their mean, in deviations of touching one expert.

    Every GPU holds experts / group whole ones, touched independently; the layer waits for the GPU that reads most, the
    largest of ``group`` normal deviates (Blom, Statistical Estimates and Transformed Beta-Variables, 1958).
    """
    return normal_quantile((group - 0.375) / (group + 0.25)) / math.sqrt(experts / group) if group > 1 else 0.0


def _corner(read_seconds: float, multiply_seconds: float) -> float:
    """Return the tokens at which 2 FLOPs per parameter and token take as long as reading the parameters once."""
    return read_seconds / (2.0 * multiply_seconds) if multiply_seconds > 0 else math.inf


def _expert_read_seconds(resolved: Resolved, expert_bytes: float) -> float:
    """Return the seconds of reading all experts with one GPU's memory, or of unpacking them, over ``_WEIGHT_RATIO``.

    Both as kernels take them: the measured rate of unpacking holds already what reading takes beyond the ideal.
    """
    gpu, model = resolved.gpu, resolved.model
    seconds = expert_bytes / gpu.memory_bandwidth_bytes_per_second
    if gpu.unpacked_weights_per_second is None or not gpu.unpacks(resolved.precision):
        return seconds * gpu.expert_reading_ratio(resolved.precision) / _WEIGHT_RATIO
    return max(seconds, model.expert_parameters / gpu.unpacked_weights_per_second / _WEIGHT_RATIO)


def step_model(
    resolved: Resolved, coefficients: StepCoefficients | None = None, *, factors: Sequence[float] | None = None
) -> StepModel:
    """Derive the step time of a deployment from its architecture, its GPU and the global coefficients.

    ``factors`` on the terms (``sizing.calibration.global_fit.STEP_TERMS``) replace the learned ones of the
    coefficients.

    A pipeline of p stages is treated as p lanes: each lane's step passes all stages, so it reads all weights at the
    bandwidth of one tensor-parallel group while the other lanes keep the other stages busy.
    """
    c = coefficients or StepCoefficients()
    layer_f, sequence_f, dense_f, expert_f, kv_f, dense_compute_f, expert_compute_f, attention_f, hop_f, link_f = (
        c.learned.step.factors(features(resolved)) if factors is None else factors
    )
    deployment, model, gpu = resolved.deployment, resolved.model, resolved.gpu
    tp, dp = deployment.tensor_parallel, deployment.data_parallel
    expert_group = tp * dp
    whole = deployment.expert_parallel > 1 or dp > 1  # experts, not slices of every one
    dense_bytes, expert_bytes, _ = weight_bytes(model, resolved.precision)
    padding = expert_padding(
        model, resolved.precision, gpu.architecture, expert_group, whole=deployment.expert_parallel > 1
    )
    head_bytes = model.head_parameters * BYTES_PER_PARAMETER["bf16"]

    bandwidth = gpu.memory_bandwidth_bytes_per_second
    dense_seconds = dense_f * dense_bytes / (tp * bandwidth)
    expert_read = padding * _expert_read_seconds(resolved, expert_bytes)
    expert_seconds = expert_f * expert_read / expert_group

    # Two all-reduces per layer over the tensor-parallel group; experts of data-parallel ranks replace the second one by
    # dispatch and combine over all of them, an all-gather and a reduce-scatter of every lane's tokens (vLLM's default
    # all-to-all backend).
    within = _all_reduce(gpu, tp, model.hidden_size)
    across = _all_reduce(gpu, expert_group, model.hidden_size * dp) if model.experts else within
    hops = hop_f * model.layers * (within[0] + across[0] * (_TWO_COLLECTIVES if model.experts and dp > 1 else 1.0))
    comm_token = link_f * model.layers * (within[1] + across[1])
    layers = model.layers * layer_f
    if gpu.overheads is not None:  # in layers, so that what is learned of the overhead per layer scales it, too
        layers += gpu.overheads.step_seconds / _LAYER_SECONDS
    fixed = layers * c.layer_seconds + c.comm_ratio * hops
    head_seconds = dense_f * head_bytes / (tp * bandwidth)

    dense_flops = gpu.effective_flops_per_second(dense_precision(model, resolved.precision))
    expert_flops = gpu.expert_flops_per_second(resolved.precision)
    head_flops = gpu.effective_flops_per_second("bf16")
    active_experts = padding * model.expert_parameters * model.expert_share
    # The experts of dp lanes share tp·dp GPUs, so a lane's token costs 1/tp of a GPU either way.
    dense_compute = dense_compute_f * model.dense_parameters / dense_flops
    expert_compute = expert_compute_f * active_experts / expert_flops
    moving = expert_compute_f * moving_seconds(resolved)
    token_compute = c.compute_ratio * (2 * (dense_compute + expert_compute) / tp + moving)
    head_compute = c.compute_ratio * 2 * dense_compute_f * model.head_parameters / head_flops / tp
    element = kv_f * KV_BYTES_PER_ELEMENT[resolved.kv_precision] * kv_share_per_gpu(model, tp)
    # A recurrent state is read and written anew by every step.
    state = 2 * kv_f * model.state_elements * KV_BYTES_PER_ELEMENT["bf16"] / tp
    kv, windowed = model.kv_elements_full, model.kv_elements_windowed
    kv_seconds, window_seconds = (c.kv_ratio * elements * element / bandwidth for elements in (kv, windowed))
    attention_seconds = c.compute_ratio * attention_f * 4 * model.attention_width / head_flops / tp
    sparse = None
    if model.selected_tokens:
        sparse = sparse_attention(resolved)
        fixed += c.layer_seconds / _LAYER_SECONDS * sparse.step_seconds
        # What is selected of a context is read and multiplied; of the whole one the index is.
        window_seconds, kv_seconds = kv_seconds, c.kv_ratio / _KV_RATIO * sparse.index_read_seconds
        attention_seconds = c.compute_ratio * sparse.index_multiply_seconds
    return StepModel(
        fixed_seconds=fixed + c.weight_ratio * head_seconds,
        dense_seconds=c.weight_ratio * dense_seconds,
        dense_corner_tokens=_corner(dense_bytes / bandwidth, model.dense_parameters / dense_flops),
        expert_seconds=c.weight_ratio * expert_seconds if model.experts else 0.0,
        expert_corner_tokens=_corner(expert_read / dp, active_experts / expert_flops),
        expert_miss=1.0 - model.expert_share,
        expert_lanes=dp,
        expert_spread=_busiest(model.experts, expert_group) if model.experts and whole else 0.0,
        decode_seconds=token_compute
        + head_compute
        + c.comm_ratio * comm_token
        + sequence_f * c.sequence_seconds
        + c.kv_ratio * state / bandwidth,
        kv_seconds=kv_seconds,
        kv_window_seconds=window_seconds,
        window_tokens=model.selected_tokens or model.window_tokens,
        prefill_seconds=token_compute + c.comm_ratio * comm_token,
        attention_seconds=attention_seconds,
        attention_window_seconds=0.0 if sparse is None else c.compute_ratio * sparse.selected_multiply_seconds,
    )
