"""What one layer holds that mixes tokens: parameters, and what it keeps of every token or of every sequence.

Shapes follow the modelling code in huggingface/transformers of the architecture named beside each; read 2026-11.
Biases and norms, below 0.1 % of the parameters, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sizing.catalog.layers import Mixer
from sizing.catalog.reader import Reader
from sizing.catalog.recurrent import RECURRENT, recurrent_shape
from sizing.catalog.shapes import MixerShape
from sizing.catalog.shared_blocks import shared_attention
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["block_indexer", "indexer_layers", "mixer_shape"]

#: Bytes that a sparse-attention indexer keeps of every token in each of its layers: an FP8 key of index_head_dim (128)
#: elements and a 4-byte scale per 128 of them (vllm-project/vllm, vllm/model_executor/models/deepseek_v2.py,
#: DeepseekV32IndexerCache: head_dim + head_dim // 128 * 4; 2026-11).
_INDEX_SCALE_BYTES, _INDEX_GROUP = 4, 128
_SELECTED_TOKENS = 2048
#: Scoring takes as long with 32 heads (GLM-5) as with 64 (DeepSeek-V3.2): 12 ps per pair of tokens and layer on H100
#: and H200 (timings named in sizing/replica/sparse_attention.py).
_INDEX_KERNEL_HEADS = 64


def mixer_shape(read: Reader, mixer: Mixer, hidden: int) -> MixerShape:
    """Return what one layer with this mixer holds.

    Raises:
        UnknownModel, InvalidInput: a size is missing or is not a positive whole number.
    """
    if mixer is Mixer.NONE:
        return MixerShape()
    if mixer in RECURRENT:
        return recurrent_shape(read, mixer, hidden)
    return _attention(read, hidden, windowed=mixer is not Mixer.FULL)


def _attention(read: Reader, hidden: int, *, windowed: bool) -> MixerShape:
    heads = read.size("num_attention_heads")
    if read.model_type == "zamba2":
        return shared_attention(read, hidden)
    if read.get("kv_lora_rank"):
        return _latent(read, hidden, heads)
    # Qwen v1 names its head size kv_channels and has as many KV heads as heads; q_lora_rank belongs to MLA alone.
    kv_heads = _falcon_kv_heads(read) or read.size("num_key_value_heads", "num_attention_groups", default=heads)
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
    # Step 3's queries come through a narrower space (arXiv 2507.19427), whole on every rank.
    narrow = read.size("share_q_dim", default=0)
    if narrow:
        return MixerShape(
            split=narrow * heads * dim + hidden * heads * value,
            replicated=hidden * narrow,
            kv_projections=hidden * kv_heads * (dim + value),
            rows=heads * dim + hidden + kv_heads * (dim + value),
            kv_elements=kv_heads * (dim + value),
            kv_heads=kv_heads,
            width=heads * (dim + value) / 2,
        )
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


def _falcon_kv_heads(read: Reader) -> int | None:
    """Return the KV heads of a Falcon: one for multi-query attention, groups in its new form (modeling_falcon)."""
    if read.model_type != "falcon":
        return None
    groups = read.size("num_kv_heads", default=0)
    # Whether attention and the feed-forward part read the same norm.
    read.ignore("parallel_attn", "num_ln_in_parallel_attn", "alibi")
    if read.flag("new_decoder_architecture"):
        return groups or None
    return 1 if read.flag("multi_query") else None


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
