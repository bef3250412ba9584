"""What fits: weights, reserves, KV budget and how many sequences can run at once.

Formulas: weights = parameters · bytes; KV bytes per token = 2 · layers · KV heads · head dim · bytes (GQA), layers ·
(latent + rope dim) · bytes (MLA), a window's worth for windowed layers, constant state for linear attention (vLLM's
documentation of its KV cache; architectures from config.json). Reserves: ``sizing/catalog/gpus.yaml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sizing.catalog import Catalog, GpuSpec, ModelSpec
from sizing.catalog.models import USER_SOURCE
from sizing.catalog.precision import BYTES_PER_PARAMETER, KV_BYTES_PER_ELEMENT, kv_precision, weight_precision
from sizing.errors import DoesNotFit, InvalidInput
from sizing.model import Deployment

__all__ = ["Memory", "Resolved", "dense_precision", "fit", "kv_bytes_per_token", "resolve", "weight_bytes"]


#: A change is said to make a model fit when it leaves at least this share of the usable memory for the KV cache.
_USEFUL_KV_SHARE = 0.1
_MAX_GPUS = 4096


@dataclass(frozen=True, slots=True)
class Resolved:
    """A deployment with its names looked up and its numbers checked."""

    deployment: Deployment
    model: ModelSpec
    gpu: GpuSpec
    precision: str
    kv_precision: str

    @property
    def extrapolated(self) -> bool:
        """Whether the GPU or the model is of a kind that nothing was measured on."""
        return "assumed" in self.gpu.source or self.model.source == USER_SOURCE

    @property
    def lanes(self) -> int:
        """Independent batches of one replica: data-parallel ranks, times the micro-batches of a pipeline."""
        return self.deployment.data_parallel * self.deployment.pipeline_parallel


def resolve(deployment: Deployment, catalog: Catalog | None = None) -> Resolved:
    """Look up the names of a deployment and check its numbers.

    Raises:
        UnknownModel, UnknownGpu: a name is not in the catalogue.
        InvalidInput: a number cannot be.
    """
    catalog = catalog or Catalog()
    for field in (
        "tensor_parallel",
        "pipeline_parallel",
        "expert_parallel",
        "data_parallel",
        "max_num_seqs",
        "max_batched_tokens",
    ):
        value = getattr(deployment, field)
        if not 1 <= value <= 10_000_000 or value != int(value):
            raise InvalidInput(f"{field} must be a whole number of at least 1, not {value!r}")
    if deployment.gpus > _MAX_GPUS:
        raise InvalidInput(f"{deployment.gpus} GPUs per replica is not plausible (at most {_MAX_GPUS})")
    if not 0 < deployment.memory_utilisation <= 1:
        raise InvalidInput(f"memory_utilisation must be in (0, 1], not {deployment.memory_utilisation!r}")
    if deployment.observed_kv_tokens is not None and deployment.observed_kv_tokens < 1:
        raise InvalidInput(f"observed_kv_tokens must be at least 1, not {deployment.observed_kv_tokens!r}")
    return Resolved(
        deployment=deployment,
        model=catalog.model(deployment.model),
        gpu=catalog.gpu(deployment.gpu),
        precision=weight_precision(deployment.precision),
        kv_precision=kv_precision(deployment.kv_precision),
    )


def dense_precision(model: ModelSpec, precision: str) -> str:
    """Return the precision of everything but the experts' weights.

    4-bit checkpoints of mixture-of-experts models keep it in bf16 (quantization_config of openai/gpt-oss-120b,
    moonshotai/Kimi-K2.5, nvidia/Kimi-K2.5-NVFP4, nvidia/MiniMax-M2.5-NVFP4 and nvidia/Qwen3.5-397B-A17B-NVFP4: modules
    to ignore).
    """
    return "bf16" if model.experts and BYTES_PER_PARAMETER[precision] < 1 else precision


def weight_bytes(model: ModelSpec, precision: str) -> tuple[float, float, float]:
    """Return the bytes of (dense parts, routed experts, embedding and head).

    Embedding and head stay in bf16 at every precision, as quantised checkpoints keep them.
    """
    return (
        model.dense_parameters * BYTES_PER_PARAMETER[dense_precision(model, precision)],
        model.expert_parameters * BYTES_PER_PARAMETER[precision],
        (model.embedding_parameters + model.head_parameters) * BYTES_PER_PARAMETER["bf16"],
    )


def kv_bytes_per_token(model: ModelSpec, precision: str | None = None) -> float:
    """Return the KV bytes that one more token of a short context takes, over all layers and before replication.

    >>> from sizing.catalog import resolve_model
    >>> [int(kv_bytes_per_token(resolve_model(m))) for m in ("llama-3.1-8b", "llama-3.3-70b", "deepseek-v3")]
    [131072, 327680, 70272]
    """
    element = KV_BYTES_PER_ELEMENT[kv_precision(precision)]
    return (model.kv_elements_full + model.kv_elements_windowed) * element


def kv_share_per_gpu(model: ModelSpec, tensor_parallel: int) -> float:
    """Return the share of a token's KV that each tensor-parallel rank holds.

    KV heads are split, and replicated beyond their number; MLA's latent cache is replicated on every rank.
    """
    return 1.0 if model.kv_heads is None else 1.0 / min(tensor_parallel, model.kv_heads)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one replica. Bytes are per GPU; tokens and sequences are per replica.

    ``kv_tokens`` is the capacity in tokens of short contexts (or what the engine reported);
    ``sequence_state_bytes`` is the constant state of linear-attention layers per sequence and GPU.
    """

    gpu_bytes: float
    usable_bytes: float
    weight_bytes: float
    reserve_bytes: float
    kv_budget_bytes: float
    kv_bytes_per_token: float
    kv_bytes_per_token_full: float
    kv_bytes_per_token_windowed: float
    window_tokens: int
    sequence_state_bytes: float
    kv_tokens: float
    observed: bool
    lanes: int

    @property
    def fits(self) -> bool:
        """Whether the weights leave room for any KV cache."""
        return self.kv_tokens > 0

    def context_bytes(self, context_tokens: float) -> float:
        """Return the KV bytes per GPU of one sequence holding ``context_tokens`` tokens."""
        return (
            self.kv_bytes_per_token_full * context_tokens
            + self.kv_bytes_per_token_windowed * min(context_tokens, self.window_tokens)
            + self.sequence_state_bytes
        )

    def max_sequences(self, context_tokens: float) -> float:
        """Return how many sequences of mean resident context ``context_tokens`` the KV cache of one replica holds."""
        if not self.fits:
            return 0.0
        if self.observed:
            return self.kv_tokens / max(context_tokens, 1.0)
        return self.lanes_budget_bytes / max(self.context_bytes(max(context_tokens, 1.0)), 1e-9)

    @property
    def lanes_budget_bytes(self) -> float:
        """KV budget over the lanes that a sequence can run in, in bytes per GPU."""
        return self.kv_budget_bytes * self.lanes


def fit(resolved: Resolved) -> Memory:
    """Work out the memory of one replica; a negative KV budget means that it does not fit (see ``explain_misfit``)."""
    deployment, model, gpu = resolved.deployment, resolved.model, resolved.gpu
    tp, pp, dp = deployment.tensor_parallel, deployment.pipeline_parallel, deployment.data_parallel
    dense, experts, ends = weight_bytes(model, resolved.precision)
    # Attention and dense MLPs are copied per data-parallel rank, experts are spread over all of them (vLLM's
    # data-parallel deployment guide); a pipeline splits layers; embedding and head sit on its first and last stage.
    per_gpu = dense / (tp * pp) + experts / (tp * dp * pp) + ends / (tp * min(pp, 2))
    reserve = gpu.other_reserve_bytes + gpu.comm_reserve(tp * dp * pp)
    usable = gpu.memory_bytes * deployment.memory_utilisation
    budget = usable - per_gpu - reserve
    element = KV_BYTES_PER_ELEMENT[resolved.kv_precision] * kv_share_per_gpu(model, tp)
    full, windowed = model.kv_elements_full * element, model.kv_elements_windowed * element
    per_token = full + windowed
    # A lane of a pipeline holds all layers of its sequences over pp GPUs with 1/pp of the layers each.
    tokens = max(budget, 0.0) * pp * dp / per_token if per_token else math.inf
    observed = deployment.observed_kv_tokens
    return Memory(
        gpu_bytes=gpu.memory_bytes,
        usable_bytes=usable,
        weight_bytes=per_gpu,
        reserve_bytes=reserve,
        kv_budget_bytes=budget,
        kv_bytes_per_token=per_token,
        kv_bytes_per_token_full=full,
        kv_bytes_per_token_windowed=windowed,
        window_tokens=model.window_tokens,
        sequence_state_bytes=model.state_elements * KV_BYTES_PER_ELEMENT["bf16"] / tp,
        kv_tokens=float(observed) if observed is not None else tokens,
        observed=observed is not None,
        lanes=resolved.lanes,
    )


def explain_misfit(resolved: Resolved) -> str:
    """Say in one sentence by how much the weights do not fit and what would make them fit."""
    memory = fit(resolved)
    missing = -memory.kv_budget_bytes
    return (
        f"{resolved.model.name} in {resolved.precision} needs {memory.weight_bytes / 2**30:.1f} GiB of weights and "
        f"{memory.reserve_bytes / 2**30:.1f} GiB of reserve per GPU, {missing / 2**30:.1f} GiB more than the "
        f"{memory.usable_bytes / 2**30:.1f} GiB usable on {resolved.gpu.name}; {_what_fits(resolved)}"
    )


def _what_fits(resolved: Resolved) -> str:
    """Say what would make a misfit fit: one change, two, or how many GPUs it takes."""

    def roomy(change: Resolved) -> bool:
        memory = fit(change)
        return memory.kv_budget_bytes > _USEFUL_KV_SHARE * memory.usable_bytes

    first = [*alternatives(resolved), *_four_bits(resolved)]
    for change, words in first:
        if roomy(change):
            return f"{words} would fit"
    for change, words in first:
        for second, more in [*alternatives(change), *_four_bits(change)]:
            if roomy(second):
                return f"{words} with {more} would fit"
    deployment = resolved.deployment
    for power in range(12):
        wider = replace(deployment, tensor_parallel=2**power, observed_kv_tokens=None)
        if wider.gpus <= _MAX_GPUS and roomy(replace(resolved, deployment=wider)):
            nodes = math.ceil(wider.gpus / resolved.gpu.gpus_per_node)
            return f"at this precision it fits on {wider.gpus} GPUs, {nodes} nodes"
    return "no number of these GPUs that was tried fits"


def _four_bits(resolved: Resolved) -> list[tuple[Resolved, str]]:
    if BYTES_PER_PARAMETER[resolved.precision] < 1:
        return []
    return [
        (replace(resolved, precision="int4", deployment=replace(resolved.deployment, precision="int4")), "int4 weights")
    ]


def require_fit(resolved: Resolved) -> Memory:
    """Return the memory of one replica.

    Raises:
        DoesNotFit: no room is left for a KV cache; the text says by how much and what would help.
    """
    memory = fit(resolved)
    if not memory.fits:
        raise DoesNotFit(explain_misfit(resolved))
    return memory


def alternatives(resolved: Resolved) -> list[tuple[Resolved, str]]:
    """Return single changes that relieve a replica, the least intrusive first, each with its words.

    More tensor parallelism within a node, then FP8 weights where the GPU computes them, then an FP8 KV cache.
    """
    deployment = resolved.deployment
    changes: list[tuple[Resolved, str]] = []
    if resolved.precision == "bf16" and "fp8" in resolved.gpu.flops_per_second:
        changes.append(
            (replace(resolved, precision="fp8", deployment=replace(deployment, precision="fp8")), "fp8 weights")
        )
    if resolved.kv_precision == "bf16" and "fp8" in resolved.gpu.flops_per_second:
        fp8_kv = replace(deployment, kv_precision="fp8", observed_kv_tokens=None)
        changes.append((replace(resolved, kv_precision="fp8", deployment=fp8_kv), "an fp8 KV cache"))
    size = deployment.tensor_parallel * 2
    while size <= resolved.gpu.gpus_per_node:
        wider = replace(deployment, tensor_parallel=size, observed_kv_tokens=None)
        changes.append((replace(resolved, deployment=wider), f"tensor parallelism {size}"))
        size *= 2
    return changes
