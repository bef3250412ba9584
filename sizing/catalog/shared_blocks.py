"""Weights that no layer has to itself: blocks that several layers share, and what Gemma 3n has around its layers."""

from __future__ import annotations

from dataclasses import dataclass

from sizing.catalog.layers import LayerPlan, Mixer
from sizing.catalog.reader import Reader
from sizing.catalog.shapes import MixerShape
from sizing.errors import UnknownModel

__all__ = ["SharedBlocks", "residual_parameters", "shared_attention", "shared_blocks"]


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """Parameters of shared blocks: ``attention`` and ``mlp`` stored, ``adapters`` of every place where one is used.

    ``repeated`` parameters are read once more by a step although they are stored once; ``inner`` is the intermediate
    size.
    """

    attention: int = 0
    mlp: int = 0
    adapters: int = 0
    repeated: int = 0
    inner: int = 0


def shared_attention(read: Reader, hidden: int) -> MixerShape:
    """Return one place of Zamba2's shared attention: its cache and widths, but no weights (modeling_zamba2).

    Its input is the hidden state beside the embedding, so heads · head size is twice the hidden size.
    """
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", "num_query_groups", default=heads)
    dim = _head_dim(read, hidden, heads)
    return MixerShape(kv_elements=2 * kv_heads * dim, kv_heads=kv_heads, width=float(heads * dim))


def shared_blocks(read: Reader, plan: LayerPlan, hidden: int) -> SharedBlocks:
    """Return Zamba2's blocks (arXiv 2411.15242; modeling_zamba2); nothing for other models.

    A block is attention over twice the hidden size and a gated feed-forward part; every place that uses it adds
    adapters of low rank and a projection back into the hidden state.
    """
    if read.model_type != "zamba2":
        return SharedBlocks()
    blocks, places = read.size("num_mem_blocks", default=1), plan.count(Mixer.FULL)
    rank, inner = read.size("adapter_rank", default=128), read.size("ffn_hidden_size", "intermediate_size")
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", "num_query_groups", default=heads)
    dim, wide = _head_dim(read, hidden, heads), read.size("attention_hidden_size", default=2 * hidden)
    attention = wide * (heads + 2 * kv_heads) * dim + heads * dim * hidden
    mlp = 3 * hidden * inner
    own = rank * (hidden + 2 * inner) + hidden * hidden
    if read.flag("use_shared_attention_adapter"):
        own += 3 * 2 * wide * rank
    for key in ("use_shared_block", "use_shared_mlp_adapter", "gated_linear_unit"):
        if not read.flag(key, default=True):
            raise UnknownModel(f"{read.name}: Zamba2 without {key} is not supported yet")
    # Copies of what is read, and what changes no weights.
    read.ignore(
        "attention_hidden_size", "use_long_context", "use_mem_eff_path", "lora_rank", "state_size", "intermediate_size"
    )
    return SharedBlocks(
        attention=blocks * attention,
        mlp=blocks * mlp,
        adapters=places * own,
        repeated=max(places - blocks, 0) * (attention + mlp),
        inner=inner,
    )


def _head_dim(read: Reader, hidden: int, heads: int) -> int:
    read.ignore("kv_channels")  # half of it
    return read.size("attention_head_dim", default=max(2 * hidden // heads, 1))


def residual_parameters(read: Reader, layers: int, hidden: int) -> float:
    """Return Gemma 3n's parameters around its layers (modeling_gemma3n); 0 for other models.

    Learned augmented residuals are two matrices of low rank in every layer. Alternating updates keep several hidden
    states: projections into and out of all but one, and per layer a router and its coefficients.
    """
    if not read.model_type.startswith("gemma3n"):
        return 0.0
    rank, inputs = read.size("laurel_rank", default=0), read.size("altup_num_inputs", default=0)
    # The sparsity of activations and the state that counts change no weights.
    read.ignore("activation_sparsity_pattern", "altup_active_idx", "altup_correct_scale", "altup_coef_clip")
    per_layer = 2 * hidden * rank + (hidden * inputs + inputs**2 + inputs**3 if inputs else 0)
    return float(layers * per_layer + 2 * max(inputs - 1, 0) * hidden**2)
