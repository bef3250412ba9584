"""Model architectures: from a Hugging Face ``config.json`` to parameters, KV elements and FLOPs.

Parameter counts follow from the layer shapes (biases and norms, below 0.1 %, are left out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizing.errors import InvalidInput, UnknownModel

__all__ = ["ModelSpec", "from_hf_config"]

#: Source of a model that no catalogue entry names.
USER_SOURCE = "config.json given by the user"
_LIMIT = 10**9
# Architectures whose layers do not follow from the fields read here; guessing would be worse than refusing.
_UNSUPPORTED_KEYS = ("hybrid_override_pattern", "block_configs", "mamba_d_ssm", "mamba_num_heads", "compress_ratios")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One language model by the numbers that memory and time follow from.

    Parameters are counts: ``dense_parameters`` are read for every token (attention, dense and shared MLPs, routers),
    ``head_parameters`` the output head, ``embedding_parameters`` the input embedding (0 where tied to the head),
    ``expert_parameters`` all routed experts together. KV: ``kv_elements_full`` per token over the layers that keep the
    whole context, ``kv_elements_windowed`` per token over the layers that keep ``window_tokens``,
    ``state_elements`` per sequence over linear-attention layers. ``kv_heads`` is None for MLA, whose latent cache
    cannot be split over tensor-parallel ranks. ``attention_width`` sums heads · (query/key + value dim) / 2 over the
    layers with softmax attention.
    """

    name: str
    layers: int
    hidden_size: int
    kv_heads: int | None
    dense_parameters: float
    head_parameters: float
    embedding_parameters: float
    expert_parameters: float
    experts: int
    experts_per_token: int
    kv_elements_full: float
    kv_elements_windowed: float
    window_tokens: int
    state_elements: float
    attention_width: float
    source: str = USER_SOURCE

    @property
    def total_parameters(self) -> float:
        """Parameters of the whole model."""
        return self.dense_parameters + self.head_parameters + self.embedding_parameters + self.expert_parameters

    @property
    def active_parameters(self) -> float:
        """Parameters that compute one token, without the input embedding."""
        return self.dense_parameters + self.head_parameters + self.expert_parameters * self.expert_share

    @property
    def expert_share(self) -> float:
        """Share of the routed experts that one token uses; 0 for a dense model."""
        return self.experts_per_token / self.experts if self.experts else 0.0


def from_hf_config(config: Mapping[str, Any], name: str = "config", source: str | None = None) -> ModelSpec:
    """Read a Hugging Face ``config.json`` (the language model under ``text_config`` where nested).

    Knows dense and mixture-of-experts transformers with grouped-query or multi-head latent attention, sliding windows
    and gated linear attention.

    Raises:
        UnknownModel: not a mapping, a field is missing, or a kind of layer that this parser does not know.
        InvalidInput: a size is not a positive whole number.
    """
    if not isinstance(config, Mapping):
        raise UnknownModel(f"{name}: a model configuration must be a mapping, not {type(config).__name__}")
    nested = config.get("text_config")
    fields: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    for key in _UNSUPPORTED_KEYS:
        if fields.get(key) is not None:
            raise UnknownModel(f"{name}: architectures with {key!r} are not supported yet")
    read = _Reader(name, fields)
    layers = read.size("num_hidden_layers")
    hidden = read.size("hidden_size")
    heads = read.size("num_attention_heads")
    vocab = read.size("vocab_size")
    full, windowed, linear = _layer_kinds(read, layers)
    window = read.size("sliding_window", default=read.size("attention_chunk_size", default=0)) if windowed else 0

    if fields.get("kv_lora_rank"):
        latent, rope = read.size("kv_lora_rank"), read.size("qk_rope_head_dim")
        nope, value = read.size("qk_nope_head_dim"), read.size("v_head_dim")
        q_rank = read.size("q_lora_rank", default=0)
        query = hidden * q_rank + q_rank * heads * (nope + rope) if q_rank else hidden * heads * (nope + rope)
        attention = query + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden
        kv_elements, kv_heads = latent + rope, None
        width = heads * (nope + rope + value) / 2
    else:
        kv_heads = read.size("num_key_value_heads", default=heads)
        dim = read.size("head_dim", default=max(hidden // heads, 1))
        gates = 2 if fields.get("attn_output_gate") else 1
        attention = hidden * heads * dim * (gates + 1) + 2 * hidden * kv_heads * dim
        kv_elements = 2 * kv_heads * dim
        width = heads * dim
    linear_parameters, linear_state = _linear_attention(read, hidden) if linear else (0, 0)

    experts, per_token, moe_layers, dense_mlp, shared, expert = _feed_forward(read, layers, hidden)
    tied = bool(fields.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return ModelSpec(
        name=name,
        layers=layers,
        hidden_size=hidden,
        kv_heads=kv_heads,
        dense_parameters=float(
            (full + windowed) * attention
            + linear * linear_parameters
            + (layers - moe_layers) * dense_mlp
            + moe_layers * (shared + hidden * experts)
        ),
        head_parameters=float(hidden * vocab),
        embedding_parameters=0.0 if tied else float(hidden * vocab),
        expert_parameters=float(moe_layers * experts * expert),
        experts=experts,
        experts_per_token=per_token,
        kv_elements_full=float(full * kv_elements),
        kv_elements_windowed=float(windowed * kv_elements),
        window_tokens=window,
        state_elements=float(linear * linear_state),
        attention_width=float((full + windowed) * width),
        source=source or USER_SOURCE,
    )


class _Reader:
    """Positive whole numbers out of an untrusted mapping."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.name = name
        self.fields = fields

    def size(self, key: str, *others: str, default: int | None = None) -> int:
        """Return the first of the keys that is set, as a whole number in [1, 1e9]."""
        for candidate in (key, *others):
            value = self.fields.get(candidate)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value % 1:
                raise InvalidInput(f"{self.name}: {candidate} must be a whole number, not {value!r}")
            if not 0 < value <= _LIMIT:
                raise InvalidInput(f"{self.name}: {candidate} must be between 1 and {_LIMIT}, not {value!r}")
            return int(value)
        if default is None:
            raise UnknownModel(f"{self.name}: config.json has no {key!r}; is this a language model's configuration?")
        return default


def _layer_kinds(read: _Reader, layers: int) -> tuple[int, int, int]:
    """Return how many layers keep the full context, a window, and a constant state."""
    kinds = read.fields.get("layer_types")
    if isinstance(kinds, list | tuple) and kinds:
        named = [str(kind) for kind in kinds[:layers]]
        windowed = sum(kind in ("sliding_attention", "chunked_attention") for kind in named)
        linear = sum(kind == "linear_attention" for kind in named)
        unknown = set(named) - {"full_attention", "sliding_attention", "chunked_attention", "linear_attention"}
        if unknown:
            raise UnknownModel(f"{read.name}: unknown layer types {sorted(unknown)}")
        return layers - windowed - linear, windowed, linear
    interval = read.size("full_attention_interval", default=0)
    if interval:
        return layers // interval, 0, layers - layers // interval
    if read.fields.get("attention_chunk_size") is not None:
        # Llama 4 keeps every fourth layer global (no_rope_layer_interval in its model card's code).
        return layers // 4, layers - layers // 4, 0
    # Qwen carries a window that is switched off by use_sliding_window.
    if read.fields.get("sliding_window") is None or read.fields.get("use_sliding_window") is False:
        return layers, 0, 0
    pattern = read.size("sliding_window_pattern", default=0)
    return (layers // pattern, layers - layers // pattern, 0) if pattern else (0, layers, 0)


def _linear_attention(read: _Reader, hidden: int) -> tuple[int, int]:
    """Return parameters and per-sequence state elements of one gated linear-attention layer (Qwen3-Next's form)."""
    key_heads, key_dim = read.size("linear_num_key_heads"), read.size("linear_key_head_dim")
    value_heads, value_dim = read.size("linear_num_value_heads"), read.size("linear_value_head_dim")
    kernel = read.size("linear_conv_kernel_dim", default=4)
    keys, values = key_heads * key_dim, value_heads * value_dim
    parameters = hidden * (2 * keys + 2 * values + 2 * value_heads) + values * hidden
    return parameters, value_heads * key_dim * value_dim + (2 * keys + values) * kernel


def _feed_forward(read: _Reader, layers: int, hidden: int) -> tuple[int, int, int, int, int, int]:
    """Return experts, experts per token, MoE layers; parameters of a dense MLP, of shared experts, of one expert."""
    experts = read.size("num_experts", "num_local_experts", "n_routed_experts", default=0)
    if not experts:
        return 0, 0, 0, 3 * hidden * read.size("intermediate_size"), 0, 0
    per_token = read.size("num_experts_per_tok", "experts_per_token", "top_k_experts")
    if per_token > experts:
        raise InvalidInput(f"{read.name}: {per_token} experts per token out of {experts}")
    inner = read.size("moe_intermediate_size", "intermediate_size")
    expert = 3 * hidden * inner
    shared = 0
    if read.fields.get("n_shared_experts"):
        shared = read.size("n_shared_experts") * expert
    elif read.fields.get("shared_expert_intermediate_size"):
        shared = 3 * hidden * read.size("shared_expert_intermediate_size")
    elif str(read.fields.get("model_type", "")).startswith("llama4"):
        shared = expert  # one shared expert beside the routed ones (transformers, modeling_llama4)
    dense = 3 * hidden * read.size("intermediate_size_mlp", "intermediate_size", default=inner)
    first_dense = read.fields.get("first_k_dense_replace") or 0
    only = read.fields.get("mlp_only_layers") or ()
    if not isinstance(first_dense, int) or not isinstance(only, list | tuple):
        raise InvalidInput(f"{read.name}: first_k_dense_replace and mlp_only_layers must be a number and a list")
    step = read.size("interleave_moe_layer_step", "decoder_sparse_step", default=1)
    moe_layers = max((layers - first_dense) // step - len(only), 0)
    return experts, per_token, moe_layers, dense, shared, expert
