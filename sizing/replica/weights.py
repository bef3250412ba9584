"""Weights as they lie on one GPU after loading: split, copied, padded, with their scales.

What tensor parallelism splits and what it copies follows vllm-project/vllm, vllm/model_executor/models
(ReplicatedLinear: routers, MLA's down-projections, indexers, latent projections of experts) and
vllm/model_executor/layers; read 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sizing.catalog.feed_forward import Experts
from sizing.catalog.models import ModelSpec, Part
from sizing.catalog.quantization import Quantization

__all__ = ["ResidentWeights", "Shards", "expert_padding", "resident_weights"]

_SCALE_BYTES = 4.0
#: Routers that the model computes in 32 bits hold 32-bit weights (MiniMaxAI/MiniMax-M2.5, modeling_minimax_m2;
#: configurations with moe_router_dtype float32).
_WIDE_ROUTERS = ("minimax_m2",)

#: What expert kernels pad to, in elements: (width, intermediate size) by precision and GPU architecture. MXFP4:
#: vllm-project/vllm, vllm/model_executor/layers/quantization/mxfp4.py (FlashInfer on Blackwell and AITER pad both to
#: 256, Marlin 256 and 128) and triton_kernels' layouts on Hopper (one of both to 256: "Model loading took 64.38 GiB"
#: for gpt-oss-120b and 13.47 GiB for gpt-oss-20b, llm-d/llm-d-benchmark, config_explorer, 2025-10).
_MXFP4_PADDING = {
    "hopper": (256, 1),
    "blackwell": (256, 256),
    "cdna3": (256, 256),
    "cdna4": (256, 256),
    None: (256, 128),
}
#: Since vLLM 0.17 FlashInfer's kernels for experts with one FP8 scale per tensor take intermediate sizes that are
#: multiples of 128 (start-up lines of Nemotron-3-Nano-FP8: 30.5 GiB in 0.13, 31.4 GiB in 0.18).
_FP8_TENSOR_PADDING, _FP8_TENSOR_PADDING_FROM = 128, (0, 17)
#: On ROCm unquantised experts are re-laid for AITER in copies that are not given back: 126.7 GiB for Llama-4-Maverick
#: in bf16 on 8 MI300X where 93.8 GiB are needed on NVIDIA (start-up lines of vLLM 0.11.2). Measured on that model
#: alone.
_ROCM_EXPERT_COPIES = 1.366


@dataclass(frozen=True, slots=True)
class Shards:
    """Over how many GPUs weights are divided, and what an engine of this release does with experts."""

    tensor: int
    pipeline: int
    data: int
    expert_parallel: bool
    release: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ResidentWeights:
    """Bytes per GPU: ``dense`` (attention, dense and shared parts, routers), ``experts``, ``ends`` (embedding, head,
    towers) and ``copies`` (what the engine holds a second time in another form)."""

    dense: float
    experts: float
    ends: float
    copies: float

    @property
    def total(self) -> float:
        """All weights on one GPU, in bytes."""
        return self.dense + self.experts + self.ends + self.copies


@lru_cache(maxsize=4096)
def resident_weights(
    model: ModelSpec, quantization: Quantization | None, gpu_architecture: str | None, vendor: str, shards: Shards
) -> ResidentWeights:
    """Return the weights on one GPU of a replica."""
    parts = model.parts or _plain_parts(model)
    dense = ends = 0.0
    for part in parts:
        size = _part_bytes(model, part, quantization, shards)
        if part.kind in ("head", "embedding", "encoder"):
            # Embedding and head sit on the first and the last stage of a pipeline.
            ends += size / min(shards.pipeline, 2)
        else:
            dense += size / shards.pipeline
    experts = _expert_bytes(model, quantization, gpu_architecture, vendor, shards) / shards.pipeline
    return ResidentWeights(dense, experts, ends, 2.0 * model.absorbed_parameters / shards.tensor / shards.pipeline)


def _plain_parts(model: ModelSpec) -> tuple[Part, ...]:
    """Return the parts of a model that is known by its totals alone."""
    return (
        Part("mlp", split=model.dense_parameters),
        Part("head", split=model.head_parameters),
        Part("embedding", split=model.embedding_parameters),
    )


def _part_bytes(model: ModelSpec, part: Part, quantization: Quantization | None, shards: Shards) -> float:
    here = part.split / shards.tensor + part.replicated
    if part.kv:
        here += part.kv / min(shards.tensor, model.kv_heads or shards.tensor)
    wide = 4.0 if part.kind == "router" and model.model_type.startswith(_WIDE_ROUTERS) else 2.0
    if quantization is None:
        return here * wide
    kept, own = quantization.share_kept(part.kind), quantization.of(part.kind)
    scales = _SCALE_BYTES * part.rows / shards.tensor if own.scales == "channel" else 0.0
    return kept * here * wide + (1.0 - kept) * (here * own.bytes_per_parameter + scales)


def _padded(size: float, to: int) -> float:
    return -(-size // to) * to


def expert_padding(model: ModelSpec, precision: str, architecture: str | None, group: int, *, whole: bool) -> float:
    """Return how many times their weights the kernels of routed experts read, padding included.

    ``group`` GPUs share the experts, ``whole``: as whole experts and not as slices of each. Known of MXFP4 only.
    """
    shape = model.expert_shape
    if precision != "mxfp4" or shape is None:
        return 1.0
    to_width, to_inner = _MXFP4_PADDING.get(architecture, _MXFP4_PADDING[None])
    inner = float(shape.inner) if whole else shape.inner / group
    return _padded(shape.width, to_width) * _padded(inner, to_inner) / (shape.width * inner)


def _expert_bytes(
    model: ModelSpec, quantization: Quantization | None, architecture: str | None, vendor: str, shards: Shards
) -> float:
    if not model.expert_parameters:
        return 0.0
    group = shards.tensor * shards.data
    shape = model.expert_shape or Experts(1, 1, 1, 1, int(model.expert_parameters), 1)
    # With expert parallelism a rank holds whole experts, without it a slice of every one.
    count = shape.count / group if shards.expert_parallel else float(shape.count)
    inner = float(shape.inner) if shards.expert_parallel else shape.inner / group
    kept = quantization.share_kept("experts") if quantization is not None else 1.0
    own = None if quantization is None else quantization.of("experts")
    plain = shape.layers * count * shape.matrices * shape.width * inner
    if own is None or kept >= 1.0:
        return plain * 2.0 * (_ROCM_EXPERT_COPIES if vendor == "amd" else 1.0)
    width, padded = float(shape.width), inner
    if own.precision == "mxfp4" and model.expert_shape is not None:
        to_width, to_inner = _MXFP4_PADDING.get(architecture, _MXFP4_PADDING[None])
        width, padded = _padded(width, to_width), _padded(inner, to_inner)
    if own.precision == "fp8" and own.scales == "tensor" and shards.release >= _FP8_TENSOR_PADDING_FROM:
        padded = _padded(inner, _FP8_TENSOR_PADDING)
    weights = shape.layers * count * shape.matrices * width * padded * own.bytes_per_parameter
    if own.precision == "mxfp4":
        # Scales are not padded (64.38 GiB for gpt-oss-120b); biases are kept in 32 bits.
        weights = shape.layers * count * shape.matrices * (0.5 * width * padded + shape.width * inner / 32)
    weights += shape.layers * count * 4.0 * shape.bias_parameters * inner / shape.inner
    if own.scales == "channel":
        weights += shape.layers * count * _SCALE_BYTES * ((shape.matrices - 1) * inner + shape.width)
    return kept * plain * 2.0 + (1.0 - kept) * weights
