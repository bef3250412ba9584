"""The layers of a language model as its configuration describes them: how many of which kind, and what each weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizing.errors import InvalidInput, UnknownModel

__all__ = [
    "Attention",
    "FeedForward",
    "Kinds",
    "Reader",
    "attention",
    "feed_forward",
    "layer_kinds",
    "linear_attention",
    "mamba",
]

_LIMIT = 10**9


class Reader:
    """Positive whole numbers out of an untrusted mapping."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.name = name
        self.fields = fields

    def size(self, key: str, *others: str, default: int | None = None) -> int:
        """Return the first of the keys that is set, as a whole number in [1, 1e9]."""
        for candidate in (key, *others):
            value = self.fields.get(candidate)
            if value is None or (value == 0 and default is not None):
                continue  # configurations write 0 for "there is none"
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value % 1:
                raise InvalidInput(f"{self.name}: {candidate} must be a whole number, not {str(value)[:40]!r}")
            if not 0 < value <= _LIMIT:
                raise InvalidInput(f"{self.name}: {candidate} must be between 1 and {_LIMIT}, not {str(value)[:40]!r}")
            return int(value)
        if default is None:
            raise UnknownModel(f"{self.name}: config.json has no {key!r}; is this a language model's configuration?")
        return default

    def flags(self, key: str, count: int) -> Sequence[bool]:
        """Return a list of zeros and ones, one for each layer."""
        values = self.fields.get(key)
        if not isinstance(values, list | tuple) or len(values) < count or not all(v in (0, 1) for v in values[:count]):
            raise InvalidInput(f"{self.name}: {key} must be a list of {count} zeros and ones")
        return [bool(value) for value in values[:count]]


@dataclass(frozen=True, slots=True)
class Kinds:
    """How many layers keep the full context, a window, a constant state; how many have experts or a dense MLP."""

    full: int
    windowed: int = 0
    linear: int = 0
    mamba: int = 0
    experts: int | None = None  # None: every layer has a feed-forward part, see _feed_forward
    dense: int | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention layer: parameters, KV elements per token, width of scores, KV heads (None: latent)."""

    parameters: int
    kv_elements: int
    width: float
    kv_heads: int | None


@dataclass(frozen=True, slots=True)
class FeedForward:
    """All feed-forward parts together; shared experts and routers count as dense."""

    dense_parameters: int
    expert_parameters: int
    experts: int
    per_token: int


_FULL = {"full_attention", "deepseek_sparse_attention"}  # sparse attention still caches every token
_BLOCKS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
_WINDOWED = {"sliding_attention", "chunked_attention"}


def layer_kinds(read: Reader, layers: int) -> Kinds:
    """Return how many layers of each kind a configuration has.

    Raises:
        UnknownModel, InvalidInput: it names a kind that is not known, or not every layer.
    """
    pattern = read.fields.get("hybrid_override_pattern")
    blocks = read.fields.get("layers_block_type")
    if pattern is None and isinstance(blocks, list | tuple):
        pattern = "".join(_BLOCKS.get(str(block), "?") for block in blocks)
    if pattern is not None:
        return _nemotron_kinds(read.name, pattern, layers)
    if read.fields.get("mamba_num_heads") is not None:
        raise UnknownModel(f"{read.name}: Mamba layers without a pattern of layers are not supported yet")
    kinds = read.fields.get("layer_types")
    if isinstance(kinds, list | tuple) and kinds:
        named = [str(kind)[:40] for kind in kinds[:layers]]
        if len(named) < layers:
            raise InvalidInput(f"{read.name}: layer_types names {len(named)} of {layers} layers")
        unknown = set(named) - _FULL - _WINDOWED - {"linear_attention"}
        if unknown:
            raise UnknownModel(f"{read.name}: unknown layer types {sorted(unknown)[:5]}")
        windowed = sum(kind in _WINDOWED for kind in named)
        linear = sum(kind == "linear_attention" for kind in named)
        return Kinds(layers - windowed - linear, windowed, linear)
    flags = read.fields.get("hybrid_layer_pattern")
    if flags is not None:
        windowed = sum(read.flags("hybrid_layer_pattern", layers))
        return Kinds(layers - windowed, windowed)
    interval = read.size("full_attention_interval", default=0)
    if interval:
        return Kinds(layers // interval, linear=layers - layers // interval)
    if read.fields.get("attention_chunk_size") is not None:
        # Llama 4 keeps every fourth layer global (no_rope_layer_interval in its model card's code).
        return Kinds(layers // 4, layers - layers // 4)
    # Qwen carries a window that is switched off by use_sliding_window.
    if read.fields.get("sliding_window") is None or read.fields.get("use_sliding_window") is False:
        return Kinds(layers)
    step = read.size("sliding_window_pattern", default=0)
    return Kinds(layers // step, layers - layers // step) if step else Kinds(0, layers)


def _nemotron_kinds(name: str, pattern: Any, layers: int) -> Kinds:
    """Read Nemotron-H's pattern: M Mamba-2, * attention, - dense MLP, E experts; each a layer of its own."""
    if not isinstance(pattern, str) or set(pattern) - set("M*-E") or len(pattern) != layers:
        raise InvalidInput(f"{name}: the pattern of a hybrid must name {layers} layers: M, *, - and E, or their words")
    count = pattern.count
    return Kinds(full=count("*"), mamba=count("M"), experts=count("E"), dense=count("-"))


def attention(read: Reader, hidden: int, *, windowed: bool) -> Attention:
    """Return one attention layer of the kind that keeps everything, or that keeps a window."""
    heads = read.size("num_attention_heads")
    if read.fields.get("kv_lora_rank"):
        latent, rope = read.size("kv_lora_rank"), read.size("qk_rope_head_dim")
        nope, value = read.size("qk_nope_head_dim"), read.size("v_head_dim")
        q_rank = read.size("q_lora_rank", default=0)
        query = hidden * q_rank + q_rank * heads * (nope + rope) if q_rank else hidden * heads * (nope + rope)
        parameters = query + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden
        return Attention(parameters, latent + rope, heads * (nope + rope + value) / 2, None)
    kv_heads = read.size("num_key_value_heads", default=heads)
    dim = read.size("head_dim", "attention_head_dim", default=max(hidden // heads, 1))
    value = read.size("v_head_dim", default=dim)
    shared = False
    if windowed:  # MiMo's windowed layers have heads of their own
        heads = read.size("swa_num_attention_heads", default=heads)
        kv_heads = read.size("swa_num_key_value_heads", default=kv_heads)
        dim, value = read.size("swa_head_dim", default=dim), read.size("swa_v_head_dim", default=value)
    elif read.fields.get("global_head_dim") is not None:  # Gemma 4's global layers
        kv_heads = read.size("num_global_key_value_heads", default=kv_heads)
        dim = value = read.size("global_head_dim")
        shared = read.fields.get("attention_k_eq_v") is True
    gates = 2 if read.fields.get("attn_output_gate") else 1
    keys = hidden * kv_heads * (dim if shared else dim + value)
    parameters = hidden * heads * dim * gates + hidden * heads * value + keys
    return Attention(parameters, kv_heads * (dim + value), heads * (dim + value) / 2, kv_heads)


def linear_attention(read: Reader, hidden: int) -> tuple[int, int]:
    """Return parameters and per-sequence state elements of one gated linear-attention layer (Qwen3-Next's form)."""
    key_heads, key_dim = read.size("linear_num_key_heads"), read.size("linear_key_head_dim")
    value_heads, value_dim = read.size("linear_num_value_heads"), read.size("linear_value_head_dim")
    kernel = read.size("linear_conv_kernel_dim", default=4)
    keys, values = key_heads * key_dim, value_heads * value_dim
    parameters = hidden * (2 * keys + 2 * values + 2 * value_heads) + values * hidden
    wide = 2 if read.fields.get("mamba_ssm_dtype") == "float32" else 1
    return parameters, wide * value_heads * key_dim * value_dim + (2 * keys + values) * kernel


def mamba(read: Reader, hidden: int) -> tuple[int, int]:
    """Return parameters and per-sequence state elements of one Mamba-2 layer (Dao and Gu 2024, arXiv 2405.21060)."""
    heads, dim = read.size("mamba_num_heads"), read.size("mamba_head_dim")
    state, groups = read.size("ssm_state_size"), read.size("n_groups", default=1)
    kernel = read.size("conv_kernel", default=4)
    inner = heads * dim
    mixed = inner + 2 * groups * state
    parameters = hidden * (inner + mixed + heads) + mixed * kernel + inner * hidden
    wide = 2 if read.fields.get("mamba_ssm_cache_dtype") == "float32" else 1
    return parameters, wide * inner * state + mixed * (kernel - 1)


def feed_forward(read: Reader, kinds: Kinds, layers: int, hidden: int) -> FeedForward:
    """Return the feed-forward parts of all layers."""
    fields = read.fields
    # Squared ReLU has no gate: two matrices instead of three.
    matrices = 2 if fields.get("mlp_hidden_act") == "relu2" else 3
    experts = read.size("num_experts", "num_local_experts", "n_routed_experts", default=0)
    if not experts:
        dense_layers = layers if kinds.dense is None else kinds.dense
        return FeedForward(dense_layers * matrices * hidden * read.size("intermediate_size"), 0, 0, 0)
    per_token = read.size("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts")
    if per_token > experts:
        raise InvalidInput(f"{read.name}: {per_token} experts per token out of {experts}")
    inner = read.size("moe_intermediate_size", "intermediate_size")
    # Nemotron 3 Super's experts work in a smaller space, with a projection into it and back.
    width = read.size("moe_latent_size", default=hidden)
    projections = 0 if width == hidden else 2 * hidden * width
    shared = _shared_expert(read, hidden, inner, matrices)
    dense = (
        matrices
        * hidden
        * read.size("intermediate_size_mlp", "dense_intermediate_size", "intermediate_size", default=inner)
    )
    moe_layers = _moe_layers(read, layers) if kinds.experts is None else kinds.experts
    dense_layers = layers - moe_layers if kinds.dense is None else kinds.dense
    if fields.get("enable_moe_block") is True:
        dense_layers = layers  # Gemma 4 runs a dense MLP beside the experts of every layer
    return FeedForward(
        dense_parameters=dense_layers * dense + moe_layers * (shared + projections + hidden * experts),
        expert_parameters=moe_layers * experts * matrices * width * inner,
        experts=experts,
        per_token=per_token,
    )


def _shared_expert(read: Reader, hidden: int, inner: int, matrices: int) -> int:
    """Return the parameters of the experts that every token of a layer uses."""
    sizes = ("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size", "share_expert_dim")
    sized = read.size(*sizes, "shared_intermediate_size", default=0)
    if sized:
        return matrices * hidden * sized
    count = 0
    if read.fields.get("n_shared_experts") or read.fields.get("num_shared_experts"):
        count = read.size("n_shared_experts", "num_shared_experts")
    elif str(read.fields.get("model_type", "")).startswith("llama4"):
        count = 1  # beside the routed ones (transformers, modeling_llama4)
    return count * matrices * hidden * inner


def _moe_layers(read: Reader, layers: int) -> int:
    if isinstance(read.fields.get("moe_layer_freq"), list | tuple):
        return sum(read.flags("moe_layer_freq", layers))
    first_dense = read.fields.get("first_k_dense_replace") or 0
    only = read.fields.get("mlp_only_layers") or ()
    if isinstance(first_dense, bool) or not isinstance(first_dense, int) or not isinstance(only, list | tuple):
        raise InvalidInput(f"{read.name}: first_k_dense_replace and mlp_only_layers must be a number and a list")
    step = read.size("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq", default=1)
    return max((layers - first_dense) // step - len(only), 0)
