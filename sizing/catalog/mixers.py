"""What one layer of each kind holds: parameters, and what it keeps of every token or of every sequence.

Shapes follow the modelling code in huggingface/transformers of the architecture named beside each; read 2026-11.
Biases and norms, below 0.1 % of the parameters, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sizing.catalog.layers import Mixer
from sizing.catalog.reader import Reader
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["MixerShape", "block_indexer", "indexer_layers", "mixer_shape"]

#: Bytes that a sparse-attention indexer keeps of every token in each of its layers: an FP8 key of index_head_dim (128)
#: elements and a 4-byte scale per 128 of them (vllm-project/vllm, vllm/model_executor/models/deepseek_v2.py,
#: DeepseekV32IndexerCache: head_dim + head_dim // 128 * 4; 2026-11).
_INDEX_SCALE_BYTES, _INDEX_GROUP = 4, 128
_SELECTED_TOKENS = 2048
#: Scoring takes as long with 32 heads (GLM-5) as with 64 (DeepSeek-V3.2): 12 ps per pair of tokens and layer on H100
#: and H200 (timings named in sizing/replica/sparse_attention.py).
_INDEX_KERNEL_HEADS = 64


@dataclass(frozen=True, slots=True)
class MixerShape:
    """One layer: parameters that tensor parallelism splits, KV projections, and what every rank holds whole.

    ``kv_elements`` per token; ``index_bytes`` per token of a sparse-attention indexer, ``index_width`` its heads · dim
    as its kernels have them, ``selected_tokens`` what attention reads of a context (0: all) and ``selected_width`` its
    width there, on the latent cache; ``kv_heads`` None: a latent cache, whole on every rank; ``width`` is heads ·
    (query/key + value dim) / 2; ``wide_state`` and ``narrow_state`` are elements per sequence in 32 and 16 bits;
    ``absorbed`` are parameters that engines hold a second time in bf16 (MLA's up-projections); ``rows`` are output
    channels of the split matrices.
    """

    split: int = 0
    kv_projections: int = 0
    replicated: int = 0
    indexer: int = 0
    absorbed: int = 0
    rows: int = 0
    kv_elements: int = 0
    index_bytes: int = 0
    index_width: int = 0
    selected_tokens: int = 0
    selected_width: float = 0.0
    kv_heads: int | None = None
    width: float = 0.0
    wide_state: int = 0
    narrow_state: int = 0

    @property
    def parameters(self) -> int:
        """All parameters of the layer."""
        return self.split + self.kv_projections + self.replicated + self.indexer


def mixer_shape(read: Reader, mixer: Mixer, hidden: int) -> MixerShape:
    """Return what one layer with this mixer holds.

    Raises:
        UnknownModel, InvalidInput: a size is missing or is not a positive whole number.
    """
    if mixer is Mixer.GATED_DELTA:
        return _gated_delta(read, hidden)
    if mixer is Mixer.LIGHTNING:
        return _lightning(read, hidden)
    if mixer is Mixer.MAMBA1:
        return _mamba1(read, hidden)
    if mixer is Mixer.MAMBA2:
        return _mamba2(read, hidden)
    if mixer is Mixer.NONE:
        return MixerShape()
    return _attention(read, hidden, windowed=mixer is not Mixer.FULL)


def _attention(read: Reader, hidden: int, *, windowed: bool) -> MixerShape:
    heads = read.size("num_attention_heads")
    if read.get("kv_lora_rank"):
        return _latent(read, hidden, heads)
    # Qwen v1 names its head size kv_channels and has as many KV heads as heads; q_lora_rank belongs to MLA alone.
    kv_heads = read.size("num_key_value_heads", default=heads)
    dim = read.size("head_dim", "attention_head_dim", "kv_channels", default=max(hidden // heads, 1))
    value = read.size("v_head_dim", default=dim)
    shared = False
    if windowed:  # MiMo's windowed layers have heads of their own
        heads = read.size("swa_num_attention_heads", default=heads)
        kv_heads = read.size("swa_num_key_value_heads", default=kv_heads)
        dim, value = read.size("swa_head_dim", default=dim), read.size("swa_v_head_dim", default=value)
    elif read.get("global_head_dim") is not None:  # Gemma 4's global layers
        kv_heads = read.size("num_global_key_value_heads", default=kv_heads)
        dim = value = read.size("global_head_dim")
        shared = read.flag("attention_k_eq_v")
    read.ignore(
        "swa_num_attention_heads", "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "global_head_dim",
        "num_global_key_value_heads", "attention_k_eq_v", "qk_rope_head_dim",
    )  # fmt: skip
    gates = 2 if read.flag("attn_output_gate") else 1
    if read.get("q_lora_rank") is not None:
        read.ignore("q_lora_rank")  # without kv_lora_rank it has no projection of its own
    return MixerShape(
        split=hidden * heads * dim * gates + hidden * heads * value,
        kv_projections=hidden * kv_heads * (dim if shared else dim + value),
        rows=heads * dim * gates + hidden + kv_heads * (dim + value),
        kv_elements=kv_heads * (dim + value),
        kv_heads=kv_heads,
        width=heads * (dim + value) / 2,
    )


def _latent(read: Reader, hidden: int, heads: int) -> MixerShape:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), with V3.2's indexer where there is one."""
    latent, rope = read.size("kv_lora_rank"), read.size("qk_rope_head_dim")
    nope, value = read.size("qk_nope_head_dim"), read.size("v_head_dim")
    q_rank = read.size("q_lora_rank", default=0)
    read.ignore("num_key_value_heads", "head_dim")
    up = latent * heads * (nope + value)
    query = q_rank * heads * (nope + rope) if q_rank else hidden * heads * (nope + rope)
    indexer, index_bytes, index_width, selected = _indexer(read, hidden, q_rank)
    return MixerShape(
        split=query + up + heads * value * hidden,
        replicated=hidden * (latent + rope) + hidden * q_rank,
        indexer=indexer,
        absorbed=up,
        rows=heads * (nope + rope) + heads * (nope + value) + hidden,
        kv_elements=latent + rope,
        index_bytes=index_bytes,
        index_width=index_width,
        selected_tokens=selected,
        selected_width=heads * (2 * latent + rope) / 2 if selected else 0.0,
        width=heads * (nope + rope + value) / 2,
    )


def _indexer(read: Reader, hidden: int, q_rank: int) -> tuple[int, int, int, int]:
    """Return a lightning indexer's parameters, bytes per token, heads · dim and how many tokens it selects.

    DeepSeek-V3.2-Exp, inference/model.py, 2025-09; its index_topk and GLM-5's are 2,048, as where none is given.
    """
    dim = read.size("index_head_dim", default=0)
    if not dim:
        return 0, 0, 0, 0
    heads = read.size("index_n_heads")
    selected = read.size("index_topk", default=_SELECTED_TOKENS)
    parameters = (q_rank or hidden) * heads * dim + hidden * dim + hidden * heads
    return (
        parameters,
        dim + math.ceil(dim / _INDEX_GROUP) * _INDEX_SCALE_BYTES,
        max(heads, _INDEX_KERNEL_HEADS) * dim,
        selected,
    )


def block_indexer(read: Reader, layers: int, hidden: int) -> tuple[int, int, int]:
    """Return MiniMax-M3's index of blocks: layers that have one, key elements per token, parameters of a layer.

    One key of ``sparse_index_dim`` per token in the type of the KV cache, whole on every rank (vllm-project/vllm,
    MiniMaxM3SparseAttention and MiniMaxM3Indexer; read 2026-12).

    Raises:
        UnknownModel: it also keeps index values, or is not described by layer.
    """
    fields = read.get("sparse_attention_config")
    if not isinstance(fields, Mapping) or not fields.get("use_sparse_attention", True):
        return 0, 0, 0
    inner = Reader(read.name, fields)
    if not isinstance(fields.get("sparse_attention_freq"), list):
        raise UnknownModel(f"{read.name}: architectures with this 'sparse_attention_config' are not supported yet")
    indexed, without = inner.flags("sparse_attention_freq", layers), inner.flags("sparse_disable_index_value", layers)
    if any(own and not plain for own, plain in zip(indexed, without, strict=True)):
        raise UnknownModel(f"{read.name}: architectures with sparse index values are not supported yet")
    dim, heads = inner.size("sparse_index_dim"), inner.size("sparse_num_index_heads")
    return sum(indexed), dim, hidden * (heads + 1) * dim


def indexer_layers(read: Reader, layers: int) -> int:
    """Return how many layers have an indexer of their own: all, or the full ones of ``indexer_types`` (GLM-5.2)."""
    words = read.words("indexer_types", layers)
    if words is None:
        return layers
    if set(words) - {"full", "shared"}:
        raise InvalidInput(f"{read.name}: indexer_types must be 'full' or 'shared' for every layer")
    return words.count("full")


def _gated_delta(read: Reader, hidden: int) -> MixerShape:
    """Gated delta rule with a short convolution (Qwen3-Next, Qwen3.5; modeling_qwen3_next)."""
    key_heads, key_dim = read.size("linear_num_key_heads"), read.size("linear_key_head_dim")
    value_heads, value_dim = read.size("linear_num_value_heads"), read.size("linear_value_head_dim")
    kernel = read.size("linear_conv_kernel_dim", default=4)
    keys, values = key_heads * key_dim, value_heads * value_dim
    state = value_heads * key_dim * value_dim
    wide = read.get("mamba_ssm_dtype") == "float32"
    return MixerShape(
        split=hidden * (2 * keys + 2 * values + 2 * value_heads) + values * hidden,
        rows=2 * keys + 2 * values + 2 * value_heads + hidden,
        wide_state=state if wide else 0,
        narrow_state=(0 if wide else state) + (2 * keys + values) * (kernel - 1),
    )


def _lightning(read: Reader, hidden: int) -> MixerShape:
    """Lightning attention (MiniMax-01, arXiv 2501.08313; modeling_minimax): queries, keys, values and an output gate.

    Its state is heads · dim · dim in 32 bits (vllm-project/vllm, MambaStateDtypeCalculator.linear_attention_state_dtype
    takes the model's; the recurrence itself is kept in 32 bits).
    """
    heads = read.size("num_attention_heads")
    dim = read.size("head_dim", default=max(hidden // heads, 1))
    return MixerShape(
        split=5 * hidden * heads * dim,
        rows=4 * heads * dim + hidden,
        wide_state=heads * dim * dim,
    )


def _mamba1(read: Reader, hidden: int) -> MixerShape:
    """Mamba-1 (Gu and Dao 2023, arXiv 2312.00752) as in modeling_jamba."""
    inner = hidden * read.size("mamba_expand", default=2)
    state, kernel = read.size("mamba_d_state", default=16), read.size("mamba_d_conv", default=4)
    auto = math.ceil(hidden / 16)
    rank = auto if read.get("mamba_dt_rank") == "auto" else read.size("mamba_dt_rank", default=auto)
    split = hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * (state + kernel) + inner * hidden
    return MixerShape(split=split, rows=3 * inner + hidden, wide_state=inner * state, narrow_state=inner * (kernel - 1))


def _mamba2(read: Reader, hidden: int) -> MixerShape:
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060), by Nemotron-H's or by Bamba's and Granite's field names."""
    heads = read.size("mamba_num_heads", "mamba_n_heads")
    expand = read.size("mamba_expand", "expand", default=2)
    given = None if read.get("mamba_d_head") == "auto" else read.get("mamba_d_head")
    read.ignore("mamba_d_head")
    dim = read.size("mamba_head_dim", default=int(given) if isinstance(given, int) and given > 0 else 0) or (
        expand * hidden // heads
    )
    state = read.size("ssm_state_size", "mamba_d_state")
    groups = read.size("n_groups", "mamba_n_groups", default=1)
    kernel = read.size("conv_kernel", "mamba_d_conv", default=4)
    inner = heads * dim
    mixed = inner + 2 * groups * state
    wide = read.get("mamba_ssm_cache_dtype") == "float32"
    return MixerShape(
        split=hidden * (inner + mixed + heads) + mixed * kernel + inner * hidden,
        rows=inner + mixed + heads + hidden,
        wide_state=inner * state if wide else 0,
        narrow_state=(0 if wide else inner * state) + mixed * (kernel - 1),
    )
