"""Model architectures: from a Hugging Face ``config.json`` to parameters, KV elements and FLOPs.

Parameter counts follow from the layer shapes (biases and norms, below 0.1 %, are left out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizing.catalog.layers import Reader, attention, feed_forward, layer_kinds, linear_attention, mamba
from sizing.catalog.precision import checkpoint_precision
from sizing.errors import UnknownModel

__all__ = ["ModelSpec", "from_hf_config"]

#: Source of a model that no catalogue entry names.
USER_SOURCE = "config.json given by the user"
# Architectures whose layers do not follow from the fields read here; guessing would be worse than refusing.
_UNSUPPORTED_KEYS = ("block_configs", "mamba_d_ssm", "compress_ratios", "linear_attn_config")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One language model by the numbers that memory and time follow from.

    Parameters are counts: ``dense_parameters`` are read for every token (attention, dense and shared MLPs, routers),
    ``head_parameters`` the output head, ``embedding_parameters`` the input embedding (0 where tied to the head),
    ``expert_parameters`` all routed experts together. KV: ``kv_elements_full`` per token over the layers that keep the
    whole context, ``kv_elements_windowed`` per token over the layers that keep ``window_tokens``,
    ``state_elements`` per sequence over linear-attention layers. ``kv_heads`` is None for MLA, whose latent cache
    cannot be split over tensor-parallel ranks, else the smallest number in any layer. ``attention_width`` sums heads ·
    (query/key + value dim) / 2 over the layers with softmax attention. ``state_elements`` count 32-bit states twice.
    ``heads`` are the attention heads,
    ``context_tokens`` the longest context that the configuration names, ``checkpoint_precision`` the precision that
    its weights are quantised to (None: not said there).
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
    heads: int | None = None
    context_tokens: int | None = None
    checkpoint_precision: str | None = None

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

    Knows dense and mixture-of-experts transformers with grouped-query or multi-head latent attention, sliding windows,
    gated linear attention, and hybrids of attention, Mamba-2 and experts (Nemotron-H).

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
    read = Reader(name, fields)
    blocks = fields.get("layers_block_type")
    named = len(blocks) if isinstance(blocks, list | tuple) and blocks else None
    layers = read.size("num_hidden_layers", default=named)
    hidden, vocab = read.size("hidden_size"), read.size("vocab_size")
    kinds = layer_kinds(read, layers)
    window = 0
    if kinds.windowed:
        window = read.size("sliding_window", "sliding_window_size", "attention_chunk_size")
    full, windowed = attention(read, hidden, windowed=False), attention(read, hidden, windowed=True)
    linear_parameters, linear_state = linear_attention(read, hidden) if kinds.linear else (0, 0)
    mamba_parameters, mamba_state = mamba(read, hidden) if kinds.mamba else (0, 0)
    mlp = feed_forward(read, kinds, layers, hidden)
    tied = bool(fields.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    used = [part for part, count in ((full, kinds.full), (windowed, kinds.windowed)) if count]
    heads = [part.kv_heads for part in used if part.kv_heads is not None]
    return ModelSpec(
        name=name,
        layers=layers,
        hidden_size=hidden,
        kv_heads=min(heads) if heads else (1 if not used else None),
        dense_parameters=float(
            kinds.full * full.parameters
            + kinds.windowed * windowed.parameters
            + kinds.linear * linear_parameters
            + kinds.mamba * mamba_parameters
            + mlp.dense_parameters
        ),
        head_parameters=float(hidden * vocab),
        embedding_parameters=0.0 if tied else float(hidden * vocab),
        expert_parameters=float(mlp.expert_parameters),
        experts=mlp.experts,
        experts_per_token=mlp.per_token,
        kv_elements_full=float(kinds.full * full.kv_elements),
        kv_elements_windowed=float(kinds.windowed * windowed.kv_elements),
        window_tokens=window,
        state_elements=float(kinds.linear * linear_state + kinds.mamba * mamba_state),
        attention_width=float(kinds.full * full.width + kinds.windowed * windowed.width),
        source=source or USER_SOURCE,
        heads=read.size("num_attention_heads"),
        context_tokens=read.size("max_position_embeddings", default=0) or None,
        checkpoint_precision=checkpoint_precision(config) or checkpoint_precision(fields),
    )
