"""What sparse attention with an indexer (DeepSeek-V3.2, GLM-5) adds to a step.

An indexer scores every token of a context with a few narrow heads in FP8, and attention reads the best of them only, in
its form on the latent cache. So a step reads the index of the whole context and the KV of at most ``selected_tokens``.

Figures: kernel and module timings of ai-dynamo/aiconfigurator commit 095f58a51c (Apache-2.0; systems/data,
sparse_attention; read 2026-11) by benchmarks/sizing/sparse_attention.py. No end-to-end time of such a model was seen:
unverified there. Every rank of a tensor-parallel group scores all tokens, so with 8 of them prompts cost more than with
dense attention at any length that was timed (vLLM 0.24.0 on H200, 16 heads, 32,768 tokens: 45 against 10 ms a layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sizing.replica.memory import Resolved

__all__ = ["SparseAttention", "sparse_attention"]

#: What the indexer's kernels take in one layer whatever the load: modules with and without it, one sequence and at most
#: 2,048 tokens (SGLang 0.5.14: 29 µs on each of H100, H200 and B200; TensorRT-LLM 1.3.0rc20 on B200: 28 µs). vLLM's
#: modules differ by 50 to 100 µs, but are not timed as its captured steps run: one takes as long as a whole layer does.
INDEXER_SECONDS = 29e-6
#: Reading the index, as share of the memory's bandwidth: slope over contexts of 8,192 to 131,072 tokens (vLLM 0.24.0 on
#: H100, H200 and B200: 0.74, 0.71, 0.74).
INDEX_READ_SHARE = 0.74
#: Scoring and selecting, as share of the peak FLOP/s in 8 bits, counting 64 heads (SGLang 0.5.14, GLM-5 on H100, H200
#: and B200: 0.71, 0.73, 0.58; vLLM 0.24.0, DeepSeek-V3.2 on H200 and B200: 0.67, 0.43).
INDEX_MULTIPLY_SHARE = 0.62
#: Attention over what was selected: FLOP/s of FlashMLA's sparse prefill over the bf16 peak, 580 TFLOP/s on each
#: of the three (SGLang 0.5.14, GLM-5, 64 heads); its kernels take 64 heads at least.
SELECTED_MULTIPLY_SHARE, SELECTED_MULTIPLY_FLOPS = 0.59, 5.8e14
LEAST_HEADS = 64


@dataclass(frozen=True, slots=True)
class SparseAttention:
    """Seconds on every GPU: ``step_seconds`` per step; ``index_read_seconds`` per sequence and token of its context;
    ``index_multiply_seconds`` per prompt token and token of context; ``selected_multiply_seconds`` per prompt token and
    selected token."""

    step_seconds: float
    index_read_seconds: float
    index_multiply_seconds: float
    selected_multiply_seconds: float


def sparse_attention(resolved: Resolved) -> SparseAttention:
    """Return what the indexer and attention over selected tokens take; every rank has the whole index."""
    model, gpu = resolved.model, resolved.gpu
    tp = resolved.deployment.tensor_parallel
    heads = model.heads or LEAST_HEADS
    mine = max(heads / tp, LEAST_HEADS) / heads
    index_peak = gpu.flops_per_second[gpu.compute_precision("fp8")]
    selected = min(SELECTED_MULTIPLY_SHARE * gpu.flops_per_second["bf16"], SELECTED_MULTIPLY_FLOPS)
    return SparseAttention(
        step_seconds=model.index_layers * INDEXER_SECONDS,
        index_read_seconds=model.index_bytes / (INDEX_READ_SHARE * gpu.memory_bandwidth_bytes_per_second),
        index_multiply_seconds=2.0 * model.index_width / (INDEX_MULTIPLY_SHARE * index_peak),
        selected_multiply_seconds=4.0 * model.selected_width * mine / selected,
    )
