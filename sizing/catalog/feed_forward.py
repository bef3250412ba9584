"""The feed-forward parts of a model: dense, shared experts, routed experts and their routers."""

from __future__ import annotations

from dataclasses import dataclass

from sizing.catalog.layers import FeedForward, LayerPlan
from sizing.catalog.reader import Reader
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["Experts", "FeedForwardShape", "expert_count", "feed_forward_shape"]

#: Model types whose feed-forward part has two matrices, not a gate beside them (their modelling code in transformers).
_WITHOUT_GATE = {
    "apertus", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron",
    "opt", "phi", "starcoder2",
}  # fmt: skip
#: Activations that are a gate's wherever they occur (SiLU and what is made of it).
_GATES = ("silu", "swish", "swiglu", "situ", "gegelu")
#: Model types whose squared ReLU has no gate; that of BitNet has one.
_SQUARED_RELU = ("nemotron", "arcee")
#: Model types whose GELU is a gate's.
_GATED_GELU = ("gemma", "cohere", "recurrent_gemma", "vaultgemma", "zamba2")


#: No multiplier of a width is larger.
_MOST_FACTOR = 100


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts: ``count`` in each of ``layers`` layers, each ``matrices`` matrices of ``width`` by ``inner``."""

    layers: int
    count: int
    per_token: int
    width: int
    inner: int
    matrices: int
    biases: bool = False

    @property
    def bias_parameters(self) -> int:
        """Biases of one expert; left out of ``parameters``, but engines hold them in 32 bits."""
        return ((self.matrices - 1) * self.inner + self.width) if self.biases else 0

    @property
    def parameters(self) -> int:
        """Parameters of all experts of all layers."""
        return self.layers * self.count * self.matrices * self.width * self.inner


@dataclass(frozen=True, slots=True)
class FeedForwardShape:
    """All feed-forward parts together: parameters by kind, and output channels of the split matrices.

    ``inner`` is the widest dense or shared intermediate size of a layer.
    """

    dense: int
    shared: int
    projections: int
    router: int
    dense_rows: int
    shared_rows: int
    inner: int
    experts: Experts | None


def expert_count(read: Reader) -> int:
    """Return the number of routed experts in a layer; 0 for a dense model."""
    return read.size("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", default=0)


def feed_forward_shape(read: Reader, plan: LayerPlan, hidden: int) -> FeedForwardShape:
    """Return the feed-forward parts of all layers.

    Raises:
        UnknownModel, InvalidInput: a size is missing, or more experts are used per token than there are.
    """
    matrices = _matrices(read)
    count = expert_count(read)
    if not count or not plan.expert_layers:
        read.ignore(
            "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size", "top_k_experts",
            "moe_shared_expert_intermediate_size", "n_shared_experts", "moe_latent_size",
        )  # fmt: skip
        return _all_dense(read, plan, hidden, matrices)
    per_token = read.size(
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "top_k_experts",
        "moe_topk",
        "moe_k",
        "moe_top_k",
    )
    if per_token > count:
        raise InvalidInput(f"{read.name}: {per_token} experts per token out of {count}")
    inner = read.size("moe_intermediate_size", "intermediate_size")
    # Nemotron 3 Super's experts work in a smaller space, with a projection into it and back.
    width = read.size("moe_latent_size", default=hidden)
    shared = _shared_width(read, inner)
    layers = plan.expert_layers
    dense = read.size("intermediate_size_mlp", "dense_intermediate_size", "intermediate_size", default=inner)
    dense = dense if plan.dense_layers else 0
    up = matrices - 1
    return FeedForwardShape(
        dense=plan.dense_layers * matrices * hidden * dense,
        shared=layers * matrices * hidden * shared,
        projections=0 if width == hidden else layers * 2 * hidden * width,
        router=layers * hidden * count,
        dense_rows=plan.dense_layers * (up * dense + hidden),
        shared_rows=layers * (up * shared + hidden) if shared else 0,
        inner=max(dense, shared),
        experts=Experts(layers, count, per_token, width, inner, matrices, read.model_type.startswith("gpt_oss")),
    )


def _all_dense(read: Reader, plan: LayerPlan, hidden: int, matrices: int) -> FeedForwardShape:
    layers = [i for i, kind in enumerate(plan.feed_forward) if kind is not FeedForward.NONE]
    if not layers:
        read.ignore("intermediate_size")  # Mamba's own width
        return FeedForwardShape(0, 0, 0, 0, 0, 0, hidden, None)
    # Granite's hybrids without experts keep their dense part in the shared one's fields.
    inner = read.size("shared_intermediate_size", default=0) if read.model_type.startswith("granitemoe") else 0
    inner = inner or _dense_width(read, hidden)
    read.ignore("intermediate_size", "shared_intermediate_size", "ffn_hidden_size")
    if read.model_type == "qwen":  # two matrices of half the size up, one down (modeling_qwen, QWenMLP)
        inner //= 2
    wide = 0
    if read.flag("use_double_wide_mlp"):  # Gemma 4: layers that share another layer's KV cache have twice the width
        shared = read.size("num_kv_shared_layers", default=0)
        wide = sum(i >= len(plan.mixers) - shared for i in layers)
    units = len(layers) + wide
    return FeedForwardShape(
        dense=units * matrices * hidden * inner,
        shared=0,
        projections=0,
        router=0,
        dense_rows=units * (matrices - 1) * inner + len(layers) * hidden,
        shared_rows=0,
        inner=inner * (2 if wide else 1),
        experts=None,
    )


def _dense_width(read: Reader, hidden: int) -> int:
    """Return the intermediate size of a dense layer."""
    if read.model_type == "falcon":
        return read.size("ffn_hidden_size", default=4 * hidden)
    if read.model_type != "lfm2":
        return read.size("intermediate_size", "ff_intermediate_size")
    # LFM2 is given the width of a part without a gate: two thirds of it, rounded up (modeling_lfm2, Lfm2MLP).
    inner = read.size("block_ff_dim", "intermediate_size")
    adjusted, step = read.flag("block_auto_adjust_ff_dim"), read.size("block_multiple_of")
    factor = read.get("block_ffn_dim_multiplier")
    read.ignore("block_dim", "num_heads", "block_use_swiglu", "block_mlp_init_scale", "block_out_init_scale",
                "block_use_xavier_init")  # fmt: skip
    if not adjusted:
        return inner
    inner = 2 * inner // 3
    if factor is None:
        return inner
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= _MOST_FACTOR:
        raise InvalidInput(f"{read.name}: block_ffn_dim_multiplier must be a number above 0, not {str(factor)[:40]!r}")
    return -(-int(factor * inner) // step) * step


def _matrices(read: Reader) -> int:
    """Return the matrices of one feed-forward part: two, or three with a gate.

    Raises:
        UnknownModel: the activation does not say whether there is a gate.
    """
    activation = next(
        (
            value
            for value in (
                read.get("mlp_hidden_act"),
                read.get("hidden_act"),
                read.get("hidden_activation"),
                read.get("activation_function"),
            )
            if isinstance(value, str)
        ),
        "silu",
    )
    if read.model_type in _WITHOUT_GATE or (
        activation == "relu2" and (not read.model_type or read.model_type.startswith(_SQUARED_RELU))
    ):
        return 2
    gated = (
        (activation == "relu2" and read.model_type == "bitnet")
        or activation.startswith(_GATES)
        or (activation.startswith("gelu") and read.model_type.startswith(_GATED_GELU))
    )
    if not gated:
        raise UnknownModel(
            f"{read.name}: hidden_act {activation[:20]!r} of model_type {read.model_type[:30]!r} does not say "
            "whether the feed-forward part has a gate"
        )
    return 3


def _shared_width(read: Reader, inner: int) -> int:
    """Return the intermediate size of the experts that every token of a layer uses; 0 for none."""
    sizes = ("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size", "share_expert_dim")
    sized = read.size(*sizes, "shared_intermediate_size", default=0)
    counts = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
    count = read.size(*counts, default=0)
    if sized:
        return sized
    if not count and read.model_type.startswith("llama4"):
        count = 1  # beside the routed ones (modeling_llama4)
    return count * inner
