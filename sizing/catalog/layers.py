"""Which layers a language model has, in order: how each mixes tokens, and which kind of feed-forward part it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sizing.catalog.reader import Reader
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["FeedForward", "LayerPlan", "Mixer", "layer_plan", "without_idle_windows"]


class Mixer(StrEnum):
    """How a layer mixes tokens: attention over everything, over a window or a chunk, or a recurrent state."""

    FULL = "full"
    WINDOW = "window"
    CHUNK = "chunk"
    GATED_DELTA = "gated_delta"  # Qwen3-Next
    KIMI_DELTA = "kimi_delta"  # Kimi Linear
    LIGHTNING = "lightning"  # MiniMax-01 and M1
    MAMBA1 = "mamba1"
    MAMBA2 = "mamba2"
    SHORT_CONV = "short_conv"  # LFM2
    NONE = "none"


class FeedForward(StrEnum):
    """The feed-forward part of a layer."""

    DENSE = "dense"
    EXPERTS = "experts"
    BOTH = "both"  # Gemma 4: a dense part beside the experts
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """The mixer and the feed-forward part of every layer, and the size of the window (0: no windowed layer).

    A layer with two mixers, such as Falcon-H1's, has its second one among further entries without a feed-forward part:
    entry ``i`` belongs to layer ``owner(i)`` (``second``; empty: every entry is a layer of its own).
    """

    mixers: tuple[Mixer, ...]
    feed_forward: tuple[FeedForward, ...]
    window_tokens: int
    second: tuple[int, ...] = ()

    def owner(self, entry: int) -> int:
        """Return the layer that an entry belongs to, counted from 0."""
        first = len(self.mixers) - len(self.second)
        return entry if entry < first else self.second[entry - first]

    def count(self, mixer: Mixer) -> int:
        """Return how many layers have this mixer."""
        return self.mixers.count(mixer)

    @property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return sum(kind in (FeedForward.EXPERTS, FeedForward.BOTH) for kind in self.feed_forward)

    @property
    def dense_layers(self) -> int:
        """Layers with a dense feed-forward part."""
        return sum(kind in (FeedForward.DENSE, FeedForward.BOTH) for kind in self.feed_forward)


_WORDS = {
    "full_attention": Mixer.FULL,
    "attention": Mixer.FULL,
    "deepseek_sparse_attention": Mixer.FULL,  # sparse attention still caches every token
    "indexed_attention": Mixer.FULL,  # the same in transformers 5
    "sliding_attention": Mixer.WINDOW,
    "chunked_attention": Mixer.CHUNK,
    "linear_attention": Mixer.GATED_DELTA,
    "mamba": Mixer.MAMBA2,
    "conv": Mixer.SHORT_CONV,
}
#: What "linear_attention" is, by the beginning of the model type: transformers 5 writes this word for every recurrent
#: layer. Elsewhere it is the gated delta rule.
_LINEAR = {
    "minimax": Mixer.LIGHTNING,
    "granitemoehybrid": Mixer.MAMBA2,
    "bamba": Mixer.MAMBA2,
    "jamba": Mixer.MAMBA1,
    "kimi_linear": Mixer.KIMI_DELTA,
    "zamba2": Mixer.MAMBA2,
}
_NEMOTRON = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}
#: How the sizes of recurrent layers are named, and of which.
_SIZES = {
    "mamba_": {Mixer.MAMBA1, Mixer.MAMBA2},
    "linear_": {Mixer.GATED_DELTA, Mixer.KIMI_DELTA},
}
#: No layer has a number with more digits.
_LONGEST_NUMBER = 6
#: Models of recurrent layers alone.
_PURE = {"mamba": Mixer.MAMBA1, "falcon_mamba": Mixer.MAMBA1, "mamba2": Mixer.MAMBA2}


def layer_plan(read: Reader, layers: int, experts: int) -> LayerPlan:
    """Return the layers of a configuration; ``experts`` is the number of routed experts (0: a dense model).

    Raises:
        UnknownModel, InvalidInput: it names a kind of layer that is not known, or not every layer.
    """
    if read.model_type in _PURE:
        read.ignore("d_model", "d_inner", "n_layer", "pad_vocab_size_multiple")  # copies of what is read
        return LayerPlan((_PURE[read.model_type],) * layers, (FeedForward.NONE,) * layers, 0)
    if read.model_type == "falcon_h1":
        return _both(read, layers)
    if read.model_type == "zamba2":
        return _zamba2(read, layers)
    pattern = _nemotron_pattern(read, layers)
    if pattern is not None:
        return pattern
    mixers = _mixers(read, layers)
    if read.model_type.startswith("lfm2"):
        read.ignore("conv_L_cache", "conv_dim", "conv_dim_out", "conv_use_xavier_init")
    window = 0
    if {Mixer.WINDOW, Mixer.CHUNK} & set(mixers):
        window = read.size("sliding_window", "sliding_window_size", "attention_chunk_size")
    read.ignore("sliding_window", "sliding_window_size", "attention_chunk_size", "sliding_window_pattern")
    if read.model_type == "minicpm":
        read.ignore("sparse_config")  # reads less of a long context, but keeps all of it
    if "layer_types" in read.fields:  # sizes of a kind of layer that is not among them (Granite 4 Micro has no Mamba)
        for prefix, kinds in _SIZES.items():
            if not kinds & set(mixers):
                read.ignore(*(key for key in read.fields if str(key).startswith(prefix)))
    if Mixer.LIGHTNING in mixers:
        read.ignore("block_size")  # of tokens that are computed together
    read.ignore("use_sliding_window", "max_window_layers", "layer_types", "_sliding_window_pattern", "layer_switch")
    if not read.flag("use_cla"):  # Hunyuan's cross-layer attention shares a KV cache between layers
        read.ignore("cla_share_factor")
    return LayerPlan(tuple(mixers), tuple(_feed_forward(read, layers, experts)), window)


def without_idle_windows(plan: LayerPlan, context: int | None) -> LayerPlan:
    """Return the plan with layers whose window is as long as the longest context counted as full ones.

    Configurations carry such a window as "none" (Phi-4-mini: 262,144 tokens of a context of 131,072).
    """
    if context is None or not plan.window_tokens or plan.window_tokens < context or Mixer.CHUNK in plan.mixers:
        return plan
    mixers = tuple(Mixer.FULL if mixer is Mixer.WINDOW else mixer for mixer in plan.mixers)
    return replace(plan, mixers=mixers, window_tokens=0)


def _both(read: Reader, layers: int) -> LayerPlan:
    """Falcon-H1: attention and Mamba-2 side by side in every layer (modeling_falcon_h1)."""
    # The width is given beside its factor; layer_types is the same word for all layers.
    read.ignore("layer_types", "mlp_expansion_factor")
    if read.get("attn_layer_indices") or not read.flag("mamba_use_mlp", default=True):
        raise UnknownModel(f"{read.name}: Falcon-H1 without attention or MLP in some layers is not supported yet")
    return LayerPlan(
        (Mixer.FULL,) * layers + (Mixer.MAMBA2,) * layers,
        (FeedForward.DENSE,) * layers + (FeedForward.NONE,) * layers,
        0,
        tuple(range(layers)),
    )


def _zamba2(read: Reader, layers: int) -> LayerPlan:
    """Zamba2: Mamba-2 in every layer, before some of them a block of attention that several share.

    The blocks' weights are no layer's own (``sizing.catalog.shared_blocks``), their caches are.
    """
    words = read.words("layers_block_type", layers) or read.words("layer_types", layers)
    indices = read.get("hybrid_layer_ids")
    read.ignore("hybrid_layer_ids", "layers_block_type", "layer_types")
    if words is not None:
        if set(words) - {"mamba", "linear_attention", "hybrid"}:
            raise UnknownModel(f"{read.name}: unknown layers_block_type {sorted(set(words))[:5]}")
        indices = [i for i, word in enumerate(words) if word == "hybrid"]
    if not isinstance(indices, list | tuple) or not all(type(i) is int and 0 <= i < layers for i in indices):
        raise UnknownModel(f"{read.name}: Zamba2 without layers_block_type or hybrid_layer_ids is not supported")
    return LayerPlan(
        (Mixer.MAMBA2,) * layers + (Mixer.FULL,) * len(indices),
        (FeedForward.NONE,) * (layers + len(indices)),
        0,
        tuple(indices),
    )


def _nemotron_pattern(read: Reader, layers: int) -> LayerPlan | None:
    """Read Nemotron-H's pattern: M Mamba-2, * attention, - dense MLP, E experts; each a layer of its own."""
    pattern, blocks = read.get("hybrid_override_pattern"), read.get("layers_block_type")
    read.ignore("mtp_hybrid_override_pattern", "mtp_layers_block_type")
    if pattern is None and isinstance(blocks, list | tuple):
        pattern = "".join(_NEMOTRON.get(str(block), "?") for block in blocks)
    if pattern is None:
        return None
    if not isinstance(pattern, str) or set(pattern) - set("M*-E") or len(pattern) != layers:
        raise InvalidInput(
            f"{read.name}: the pattern of a hybrid must name {layers} layers: M, *, - and E, or their words"
        )
    mixers = {"M": Mixer.MAMBA2, "*": Mixer.FULL}
    parts = {"-": FeedForward.DENSE, "E": FeedForward.EXPERTS}
    read.ignore("sliding_window")
    return LayerPlan(
        tuple(mixers.get(letter, Mixer.NONE) for letter in pattern),
        tuple(parts.get(letter, FeedForward.NONE) for letter in pattern),
        0,
    )


def _mixers(read: Reader, layers: int) -> Sequence[Mixer]:
    words = read.words("layer_types", layers)
    read.ignore("full_attention_interval", "attn_type_list", "full_attn_idxs")
    if words is not None:
        # Intervals that the words were made from.
        read.ignore("layer_group_size", "global_attn_every_n_layers", "hybrid_layer_pattern")
        unknown = set(words) - set(_WORDS)
        if not read.model_type.startswith("lfm"):
            unknown |= {"conv"} & set(words)
        if unknown:
            raise UnknownModel(f"{read.name}: unknown layer types {sorted(unknown)[:5]}")
        linear = next((mixer for kind, mixer in _LINEAR.items() if read.model_type.startswith(kind)), None)
        if linear is None and read.get("linear_num_heads") is not None:
            linear = Mixer.KIMI_DELTA  # Ling's hybrids
        named = [_WORDS[word] for word in words]
        return [linear or mixer if mixer is Mixer.GATED_DELTA else mixer for mixer in named]
    listed = _listed(read, layers)
    if listed is not None:
        return listed
    if read.get("attn_type_list") is not None:
        return [Mixer.FULL if full else Mixer.LIGHTNING for full in read.flags("attn_type_list", layers)]
    if read.get("hybrid_layer_pattern") is not None:
        return [Mixer.WINDOW if flag else Mixer.FULL for flag in read.flags("hybrid_layer_pattern", layers)]
    recurrent = _recurrent(read, layers)
    if recurrent is not None:
        return recurrent
    interval = read.size("full_attention_interval", default=0)
    if interval:
        return [Mixer.FULL if (i + 1) % interval == 0 else Mixer.GATED_DELTA for i in range(layers)]
    if read.get("attention_chunk_size") is not None:
        # Llama 4: every fourth layer has no rotary embedding and attends to everything (transformers,
        # Llama4TextConfig).
        rotary = read.flags("no_rope_layers", layers) if read.get("no_rope_layers") else None
        return [
            Mixer.CHUNK if (rotary[i] if rotary is not None else (i + 1) % 4) else Mixer.FULL for i in range(layers)
        ]
    return _windowed(read, layers)


def _listed(read: Reader, layers: int) -> Sequence[Mixer] | None:
    """Read hybrids that list the layers with attention: LFM2 counts them from 0, Kimi Linear from 1."""
    if read.model_type.startswith("lfm2"):
        first, indices, other = 0, read.get("full_attn_idxs"), Mixer.SHORT_CONV
        if indices is None:  # attention everywhere (transformers, Lfm2Config)
            return [Mixer.FULL] * layers
    else:
        inner = read.get("linear_attn_config")
        if inner is None:
            return None
        own = Reader(read.name, inner if isinstance(inner, Mapping) else {})
        first, indices, other = 1, own.get("full_attn_layers"), Mixer.KIMI_DELTA
        if not own.fields.get("kda_layers") or read.get("kv_lora_rank") is None:
            raise UnknownModel(f"{read.name}: architectures with this 'linear_attn_config' are not supported yet")
    if not isinstance(indices, list | tuple) or not all(type(i) is int and 0 <= i - first < layers for i in indices):
        raise UnknownModel(f"{read.name}: the layers with attention must be listed by their numbers")
    return [Mixer.FULL if i + first in indices else other for i in range(layers)]


def _recurrent(read: Reader, layers: int) -> Sequence[Mixer] | None:
    """Read hybrids that name their attention layers by period (Jamba) or index (Bamba)."""
    period = read.size("attn_layer_period", default=0)
    offset = read.get("attn_layer_offset") or 0
    if period:
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < period:
            raise InvalidInput(f"{read.name}: attn_layer_offset must be a whole number below attn_layer_period")
        return [Mixer.FULL if i % period == offset else Mixer.MAMBA1 for i in range(layers)]
    indices = read.get("attn_layer_indices")
    if isinstance(indices, list | tuple):
        if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < layers for i in indices):
            raise InvalidInput(f"{read.name}: attn_layer_indices must be numbers of layers")
        return [Mixer.FULL if i in indices else Mixer.MAMBA2 for i in range(layers)]
    if read.get("mamba_num_heads") is not None or read.get("mamba_d_state") is not None:
        raise UnknownModel(f"{read.name}: Mamba layers without a pattern of layers are not supported yet")
    return None


def _windowed(read: Reader, layers: int) -> Sequence[Mixer]:
    # Qwen carries a window that is switched off by use_sliding_window, and starts it at max_window_layers.
    if read.get("sliding_window") is None or read.get("use_sliding_window") is False:
        return [Mixer.FULL] * layers
    if read.get("use_sliding_window") is True and read.get("max_window_layers") is not None:
        first = read.get("max_window_layers")
        if isinstance(first, bool) or not isinstance(first, int):
            raise InvalidInput(f"{read.name}: max_window_layers must be a whole number")
        return [Mixer.WINDOW if i >= first else Mixer.FULL for i in range(layers)]
    pattern = read.get("sliding_window_pattern") or read.get("_sliding_window_pattern")
    if isinstance(pattern, str):  # EXAONE 4: "LLLG", local and global
        if not pattern or set(pattern) - set("LG"):
            raise UnknownModel(f"{read.name}: unknown sliding_window_pattern {pattern[:40]!r}")
        return [Mixer.WINDOW if pattern[i % len(pattern)] == "L" else Mixer.FULL for i in range(layers)]
    step = read.size("sliding_window_pattern", "_sliding_window_pattern", "layer_switch", default=0)
    return [Mixer.FULL if step and (i + 1) % step == 0 else Mixer.WINDOW for i in range(layers)]


def _feed_forward(read: Reader, layers: int, experts: int) -> Sequence[FeedForward]:
    placed = (
        "moe_layer_freq", "mlp_layer_types", "expert_layer_period", "expert_layer_offset", "moe_layers",
        "moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval", "first_k_dense_replace",
        "mlp_only_layers", "interleave_moe_layer_step", "decoder_sparse_step", "enable_moe_block", "num_dense_layers",
    )  # fmt: skip
    read.ignore(*placed)
    if not experts:
        return [FeedForward.DENSE] * layers
    if read.flag("enable_moe_block") or (_is_grok(read) and read.flag("residual_moe")):
        return [FeedForward.BOTH] * layers
    chosen = _expert_layers(read, layers)
    return [FeedForward.EXPERTS if flag else FeedForward.DENSE for flag in chosen]


def _is_grok(read: Reader) -> bool:
    """Whether this is Grok 1 or 2, whose configuration has the model type of something else."""
    named = read.get("architectures")
    return isinstance(named, list | tuple) and "Grok1ForCausalLM" in named


def _whole(read: Reader, key: str, default: int) -> int:
    value = read.get(key)
    if isinstance(value, list | tuple) and value and all(item == value[0] for item in value):
        value = value[0]
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{read.name}: {key} must be a whole number, not {str(value)[:40]!r}")
    return value


def _expert_layers(read: Reader, layers: int) -> Sequence[bool]:
    if isinstance(read.get("moe_layer_freq"), list | tuple):
        return read.flags("moe_layer_freq", layers)
    words = read.words("mlp_layer_types", layers)
    if words is not None:
        unknown = set(words) - {"dense", "sparse"}
        if unknown:
            raise UnknownModel(f"{read.name}: unknown mlp_layer_types {sorted(unknown)[:5]}")
        return [word == "sparse" for word in words]
    listed = read.get("moe_layers")
    if isinstance(read.get("moe_layers_enum"), str):  # Step 3: "4,5,6"
        listed = [
            int(i) if i.isdecimal() and len(i) < _LONGEST_NUMBER else -1 for i in read.get("moe_layers_enum").split(",")
        ]
        if not all(0 <= i < layers for i in listed):
            raise InvalidInput(f"{read.name}: moe_layers_enum must be numbers of layers, with commas between them")
    if isinstance(listed, list | tuple) and listed:
        return [i in listed for i in range(layers)]
    period = read.size("expert_layer_period", default=0)
    if period:  # Jamba
        return [i % period == _whole(read, "expert_layer_offset", 0) for i in range(layers)]
    if read.get("moe_layer_start_index") is not None:  # ERNIE 4.5
        first, last = _whole(read, "moe_layer_start_index", 0), _whole(read, "moe_layer_end_index", -1)
        step = read.size("moe_layer_interval", default=1)
        last = layers - 1 if last == -1 else last
        return [first <= i <= last and (i + 1) % step == 0 for i in range(layers)]
    first = _whole(read, "first_k_dense_replace", _whole(read, "num_dense_layers", 0))
    only = read.get("mlp_only_layers") or ()
    if not isinstance(only, list | tuple) or first < 0:
        raise InvalidInput(f"{read.name}: first_k_dense_replace and mlp_only_layers must be a number and a list")
    step = read.size("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq", default=1)
    # DeepSeek counts layers from 0 (modeling_deepseek), Qwen and Llama 4 from 1; with a step of 1 both agree.
    shift = 0 if read.get("moe_layer_freq") is not None else 1
    return [i >= first and (i + shift) % step == 0 and i not in only for i in range(layers)]
