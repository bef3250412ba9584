"""What one recurrent layer holds: linear attention, Mamba and short convolutions, with a state that does not grow.

Shapes follow the modelling code in huggingface/transformers of the architecture named beside each; the precision of a
state and how it is split follow vllm-project/vllm, vllm/model_executor/layers/mamba/mamba_utils.py
(MambaStateDtypeCalculator, MambaStateShapeCalculator); read 2026-11 and 2026-12. Biases and norms, below 0.1 % of the
parameters, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sizing.catalog.layers import Mixer
from sizing.catalog.reader import Reader
from sizing.catalog.shapes import MixerShape
from sizing.errors import InvalidInput

__all__ = ["RECURRENT", "recurrent_shape"]

#: Mixers that keep a state of every sequence, and nothing of single tokens.
RECURRENT = frozenset(
    (Mixer.GATED_DELTA, Mixer.KIMI_DELTA, Mixer.LIGHTNING, Mixer.MAMBA1, Mixer.MAMBA2, Mixer.SHORT_CONV)
)


def recurrent_shape(read: Reader, mixer: Mixer, hidden: int) -> MixerShape:
    """Return what one layer with this recurrent mixer holds.

    Raises:
        UnknownModel, InvalidInput: a size is missing or is not a positive whole number.
    """
    shape = {
        Mixer.GATED_DELTA: _gated_delta,
        Mixer.KIMI_DELTA: _kimi_delta,
        Mixer.LIGHTNING: _lightning,
        Mixer.MAMBA1: _mamba1,
        Mixer.MAMBA2: _mamba2,
        Mixer.SHORT_CONV: _short_conv,
    }[mixer]
    return shape(read, hidden)


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


def _kimi_delta(read: Reader, hidden: int) -> MixerShape:
    """Kimi Delta Attention (arXiv 2510.26692; modeling_kimi_linear): queries, keys, values, two gates of low rank.

    The recurrent state is in 32 bits whatever is set (MambaStateDtypeCalculator.kda_state_dtype).
    """
    inner = read.get("linear_attn_config")
    own = Reader(read.name, inner) if isinstance(inner, Mapping) else None
    if own is not None:  # as published; transformers writes flat names
        heads, dim = own.size("num_heads"), own.size("head_dim")
        kernel = own.size("short_conv_kernel_size", default=4)
    else:
        heads, dim = read.size("linear_num_heads"), read.size("linear_head_dim")
        kernel = read.size("linear_conv_kernel_dim", default=4)
        read.ignore("short_conv_kernel_size")  # a copy of it
    width = heads * dim
    # The forget gate and the output gate go through heads of rank ``dim``; Ling's are whole (modeling_bailing_hybrid).
    whole = read.model_type == "bailing_hybrid"
    gates = 2 * hidden * width if whole else 2 * dim * width
    return MixerShape(
        split=4 * hidden * width + hidden * heads + gates + 3 * width * kernel,
        replicated=0 if whole else 2 * hidden * dim,
        rows=5 * width + heads + hidden,
        wide_state=heads * dim * dim,
        narrow_state=3 * width * (kernel - 1),
    )


def _lightning(read: Reader, hidden: int) -> MixerShape:
    """Lightning attention (MiniMax-01, arXiv 2501.08313; modeling_minimax): queries, keys, values and an output gate.

    Its state is heads · dim · dim elements of the model's precision
    (MambaStateDtypeCalculator.linear_attention_state_dtype).
    """
    heads = read.size("num_attention_heads")
    dim = read.size("head_dim", default=max(hidden // heads, 1))
    return MixerShape(
        split=5 * hidden * heads * dim,
        rows=4 * heads * dim + hidden,
        narrow_state=heads * dim * dim,
    )


def _mamba1(read: Reader, hidden: int) -> MixerShape:
    """Mamba-1 (Gu and Dao 2023, arXiv 2312.00752), by Jamba's or by Mamba's own field names (modeling_jamba, _mamba).

    Its state is in the model's precision (MambaStateDtypeCalculator.mamba1_state_dtype).
    """
    inner = hidden * read.size("mamba_expand", "expand", default=2)
    if read.model_type != "jamba":  # Falcon Mamba's expand is not that of its width
        inner = read.size("intermediate_size", default=inner)
    state = read.size("mamba_d_state", "state_size", default=16)
    kernel = read.size("mamba_d_conv", "conv_kernel", default=4)
    auto = math.ceil(hidden / 16)
    given = read.get("mamba_dt_rank") if read.get("mamba_dt_rank") is not None else read.get("time_step_rank")
    rank = auto if given == "auto" else read.size("mamba_dt_rank", "time_step_rank", default=auto)
    split = hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * (state + kernel) + inner * hidden
    return MixerShape(split=split, rows=3 * inner + hidden, narrow_state=inner * state + inner * (kernel - 1))


def _mamba2(read: Reader, hidden: int) -> MixerShape:
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060).

    Fields are named by Nemotron-H, by Bamba, Granite and Falcon-H1 (whose mamba_d_ssm is the inner width), by Zamba2,
    or by Mamba-2 itself.
    """
    pure = read.model_type == "mamba2"
    heads = read.size("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", *(("num_heads",) if pure else ()))
    expand = read.size("mamba_expand", "expand", default=2)
    given = None if read.get("mamba_d_head") == "auto" else read.get("mamba_d_head")
    read.ignore("mamba_d_head", "mamba_headdim")
    named = read.size("mamba_d_ssm", default=expand * hidden)
    dim = read.size(
        "mamba_head_dim",
        "mamba_headdim",
        *(("head_dim",) if pure else ()),
        default=int(given) if isinstance(given, int) and given > 0 else max(named // heads, 1),
    )
    inner = heads * dim
    # Falcon-H1 names its inner width; Zamba2's heads share out the widened hidden size.
    if inner != named and (read.get("mamba_d_ssm") is not None or read.model_type == "zamba2"):
        raise InvalidInput(f"{read.name}: {heads} Mamba heads of {dim} are {inner}, not {named}")
    state = read.size("ssm_state_size", "mamba_d_state", "state_size")
    groups = read.size("n_groups", "mamba_n_groups", "mamba_ngroups", default=1)
    kernel = read.size("conv_kernel", "mamba_d_conv", default=4)
    mixed = inner + 2 * groups * state
    wide = read.get("mamba_ssm_cache_dtype") == "float32"
    return MixerShape(
        split=hidden * (inner + mixed + heads) + mixed * kernel + inner * hidden,
        rows=inner + mixed + heads + hidden,
        wide_state=inner * state if wide else 0,
        narrow_state=(0 if wide else inner * state) + mixed * (kernel - 1),
    )


def _short_conv(read: Reader, hidden: int) -> MixerShape:
    """LFM2's gated short convolution (modeling_lfm2): three projections in one, a depthwise kernel, one out.

    vLLM keeps the last conv_L_cache - 1 inputs (MambaStateShapeCalculator.short_conv_state_shape).
    """
    kernel = read.size("conv_L_cache")
    width = read.size("conv_dim", default=hidden)
    out = read.size("conv_dim_out", default=hidden)
    if width != hidden or out != hidden:
        raise InvalidInput(f"{read.name}: conv_dim {width} and conv_dim_out {out} differ from hidden_size {hidden}")
    return MixerShape(
        split=4 * hidden * hidden + hidden * kernel,
        rows=4 * hidden,
        narrow_state=hidden * (kernel - 1),
    )
