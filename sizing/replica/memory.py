"""What fits: weights, reserves, KV budget and how many sequences can run at once.

Formulas: weights per GPU in ``weights``, what the engine keeps free in ``reserve``, how it lays out the KV cache in
``kv_cache``. KV bytes per token = layers · KV heads · (key dim + value dim) · bytes (GQA), layers · (latent + rope dim)
· bytes (MLA), a window's worth for windowed layers, constant state for recurrent layers (vLLM's documentation of its
KV cache; architectures from config.json).
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sizing.catalog import Catalog, GpuSpec, ModelSpec
from sizing.catalog.engines import engine, engine_memory, engine_release
from sizing.catalog.kernels import check_kernel
from sizing.catalog.layers import Mixer
from sizing.catalog.models import USER_SOURCE, CacheLayers
from sizing.catalog.precision import BYTES_PER_PARAMETER, KV_BYTES_PER_ELEMENT, kv_precision, weight_precision
from sizing.catalog.quantization import Quantization, assumed_quantization
from sizing.errors import DoesNotFit, InvalidInput
from sizing.replica.kv_cache import BlockLayout, block_layout
from sizing.replica.reserve import Reserve, engine_reserve
from sizing.replica.weights import ResidentWeights, Shards, resident_weights
from sizing.types import CHECKPOINT_PRECISION, Deployment

__all__ = ["Memory", "Resolved", "dense_precision", "fit", "kv_bytes_per_token", "resolve", "weight_bytes"]

#: A change is said to make a model fit when it leaves at least this share of the usable memory for the KV cache.
_USEFUL_KV_SHARE = 0.1
_MAX_GPUS = 4096
_NEWEST = (10**6,)  # the release of an engine whose version is not given: after all that are known
_BLOCK_TOKENS, _LATENT_BLOCK_TOKENS = 16, 64  # vLLM's where the engine's is not known; MLA's kernels


@lru_cache(maxsize=256)
def _unpacked(packed: bytes) -> Resolved:
    """Read what ``Resolved`` packed."""
    return Resolved(*pickle.loads(packed))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A deployment with its names looked up and its numbers checked."""

    deployment: Deployment
    model: ModelSpec
    gpu: GpuSpec
    precision: str
    kv_precision: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Packed, so that what many pools run on is one object when they are read."""
        fields = self.deployment, self.model, self.gpu, self.precision, self.kv_precision
        return _unpacked, (pickle.dumps(fields),)

    @property
    def assumed_gpu(self) -> bool:
        """Whether links or efficiencies of the GPU are assumed, not measured."""
        return "assumed" in self.gpu.source

    @property
    def bare_configuration(self) -> bool:
        """Whether the model is known by a configuration that the user gave, and by nothing else."""
        return self.model.source == USER_SOURCE

    @property
    def lanes(self) -> int:
        """Independent batches of one replica: data-parallel ranks, times the micro-batches of a pipeline."""
        return self.deployment.data_parallel * self.deployment.pipeline_parallel

    @property
    def quantization(self) -> Quantization | None:
        """How the weights are quantised: as the checkpoint is, where it has this precision, else as is usual."""
        return _quantization(self.model, self.precision, self.deployment.model)

    @property
    def precision_source(self) -> str:
        """Where the precision of the weights is from, for reports."""
        if self.deployment.precision != CHECKPOINT_PRECISION:
            own = self.model.checkpoint_precision
            return "given" if own in (None, self.precision) else f"given; the checkpoint is in {own}"
        if self.model.quantization is None:
            return "16 bits: the configuration names no quantization"
        return f"quantization_config of the checkpoint ({self.model.quantization.method})"


def _quantization(model: ModelSpec, precision: str, name: str) -> Quantization | None:
    found = model.quantization_in(precision)
    if found is not None:
        return found
    return assumed_quantization(precision, experts=model.experts > 0, model_type=model.model_type, like=name)


def resolve(deployment: Deployment, catalog: Catalog | None = None) -> Resolved:
    """Look up the names of a deployment and check its numbers.

    Raises:
        UnknownModel, UnknownGpu: a name is not in the catalogue.
        InvalidInput: a number is out of range, or a precision or version cannot be read.
        NoKernel: the engine cannot serve this precision on this GPU.
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
    if deployment.max_model_len is not None and not 1 <= deployment.max_model_len <= 10**9:
        raise InvalidInput(f"max_model_len must be between 1 and 1e9, not {deployment.max_model_len!r}")
    engine_release(deployment.engine_version)
    model = catalog.checkpoint(deployment.model)
    own = model.quantization
    asked = deployment.precision.strip().lower()
    precision = (own.precision if own else "bf16") if asked == CHECKPOINT_PRECISION else weight_precision(asked)
    gpu, cache = catalog.gpu(deployment.gpu), deployment.kv_precision
    check_kernel(deployment.engine, gpu, precision, experts=model.experts > 0)
    memory = engine_memory(deployment.engine, deployment.engine_version)
    if cache is None and memory is not None and memory.kv_from_checkpoint:
        quantization = _quantization(model, precision, deployment.model)
        cache = None if quantization is None else quantization.kv_precision
    return Resolved(
        deployment=deployment,
        model=model,
        gpu=gpu,
        precision=precision,
        kv_precision=kv_precision(cache),
    )


def dense_precision(model: ModelSpec, precision: str) -> str:
    """Return the precision of everything but the experts' weights, as the step time reads them.

    4-bit checkpoints of mixture-of-experts models keep it in bf16 (quantization_config of openai/gpt-oss-120b,
    moonshotai/Kimi-K2.5, nvidia/Kimi-K2.5-NVFP4, nvidia/MiniMax-M2.5-NVFP4 and nvidia/Qwen3.5-397B-A17B-NVFP4: modules
    to ignore).
    """
    return "bf16" if model.experts and BYTES_PER_PARAMETER[precision] < 1 else precision


def weight_bytes(model: ModelSpec, precision: str) -> tuple[float, float, float]:
    """Return the bytes of (dense parts, routed experts, embedding and head) that a step reads, over all GPUs.

    Embedding and head stay in bf16 at every precision, as quantised checkpoints keep them. What lies on each GPU, with
    copies, scales and padding, is ``Memory.weights``.
    """
    return (
        model.dense_parameters * BYTES_PER_PARAMETER[dense_precision(model, precision)],
        model.expert_parameters * BYTES_PER_PARAMETER[precision],
        (model.embedding_parameters + model.head_parameters) * BYTES_PER_PARAMETER["bf16"],
    )


def kv_bytes_per_token(model: ModelSpec, precision: str | None = None) -> float:
    """Return the KV bytes that one more token of a short context takes, over all layers and before replication.

    >>> from sizing.catalog import resolve_model
    >>> models = ("llama-3.1-8b", "llama-3.3-70b", "deepseek-v3", "deepseek-v3.2")
    >>> [int(kv_bytes_per_token(resolve_model(m))) for m in models]
    [131072, 327680, 70272, 78324]
    """
    element = KV_BYTES_PER_ELEMENT[kv_precision(precision)]
    return (model.kv_elements_full + model.kv_elements_windowed) * element + model.index_bytes


def kv_share_per_gpu(model: ModelSpec, tensor_parallel: int) -> float:
    """Return the share of a token's KV that each tensor-parallel rank holds.

    KV heads are split, and replicated beyond their number; MLA's latent cache is replicated on every rank.
    """
    return 1.0 if model.kv_heads is None else 1.0 / min(tensor_parallel, model.kv_heads)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one replica. Bytes are per GPU; tokens and sequences are per replica.

    ``usable_bytes`` is the engine's share of what the driver reports. ``kv_tokens`` is the KV cache's size as the
    engine prints it at start (or what it reported), which for models with several kinds of layers is not a number of
    tokens that fit; ``sequence_state_bytes`` is the constant state of recurrent layers per sequence and GPU; ``ranks``
    are data-parallel ranks, each with a KV cache of its own of ``cache_bytes`` (the KV budget, or what the
    engine's report comes to).
    """

    gpu_bytes: float
    usable_bytes: float
    weights: ResidentWeights
    reserve: Reserve
    kv_budget_bytes: float
    kv_bytes_per_token: float
    kv_bytes_per_token_full: float
    kv_bytes_per_token_windowed: float
    window_tokens: int
    sequence_state_bytes: float
    kv_tokens: float
    observed: bool
    ranks: int
    layout: BlockLayout
    batched_tokens: int
    cache_bytes: float

    @property
    def weight_bytes(self) -> float:
        """Weights on one GPU, in bytes."""
        return self.weights.total

    @property
    def reserve_bytes(self) -> float:
        """What the engine keeps free on one GPU, in bytes."""
        return self.reserve.total

    @property
    def fits(self) -> bool:
        """Whether the weights leave room for any KV cache."""
        return self.kv_tokens > 0

    def context_bytes(self, context_tokens: float) -> float:
        """Return the KV bytes per GPU of one running sequence that holds ``context_tokens`` tokens, on average."""
        return self.layout.sequence_bytes(context_tokens)

    def max_sequences(self, context_tokens: float) -> float:
        """Return how many sequences of mean resident context ``context_tokens`` the KV cache of one replica holds."""
        if not self.fits:
            return 0.0
        return self.cache_bytes * self.ranks / max(self.context_bytes(max(context_tokens, 1.0)), 1e-9)

    def engine_concurrency(self, tokens: int) -> float:
        """Return the "Maximum concurrency" for sequences of ``tokens`` tokens that the engine prints, per replica.

        Windowed layers count a window and one step's tokens for every sequence, so it is less than what runs.
        """
        if not self.fits:
            return 0.0
        return self.ranks * self.layout.printed_concurrency(self.cache_bytes, tokens, self.batched_tokens)


def fit(resolved: Resolved) -> Memory:
    """Work out the memory of one replica; a negative KV budget means that it does not fit (see ``explain_misfit``)."""
    deployment, model, gpu = resolved.deployment, resolved.model, resolved.gpu
    tp, pp, dp = deployment.tensor_parallel, deployment.pipeline_parallel, deployment.data_parallel
    release = engine_release(deployment.engine_version)
    shards = Shards(tp, pp, dp, deployment.expert_parallel > 1, release or _NEWEST)
    weights = resident_weights(model, resolved.quantization, gpu.architecture, gpu.vendor, shards)
    reserve = engine_reserve(deployment, model, gpu, resolved.quantization)
    usable = gpu.visible_memory_bytes * deployment.memory_utilisation
    budget = usable - weights.total - reserve.total
    element = KV_BYTES_PER_ELEMENT[resolved.kv_precision] * kv_share_per_gpu(model, tp)
    full, windowed = model.kv_elements_full * element + model.index_bytes, model.kv_elements_windowed * element
    layout = _layout(resolved)
    observed = deployment.observed_kv_tokens
    memory = engine_memory(deployment.engine, deployment.engine_version)
    length = deployment.max_model_len or model.context_tokens
    if memory is None or not memory.tokens_are_concurrency or layout.group_count == 1:
        length = None
    batched = deployment.max_batched_tokens
    return Memory(
        gpu_bytes=gpu.memory_bytes,
        usable_bytes=usable,
        weights=weights,
        reserve=reserve,
        kv_budget_bytes=budget,
        kv_bytes_per_token=full + windowed,
        kv_bytes_per_token_full=full,
        kv_bytes_per_token_windowed=windowed,
        window_tokens=model.window_tokens,
        sequence_state_bytes=model.state_elements * KV_BYTES_PER_ELEMENT["bf16"] / tp,
        kv_tokens=dp * layout.printed_tokens(budget, length, batched) if observed is None else float(observed),
        observed=observed is not None,
        ranks=dp,
        layout=layout,
        batched_tokens=batched,
        cache_bytes=budget if observed is None else layout.budget_of(observed / dp, length, batched),
    )


def _layout(resolved: Resolved) -> BlockLayout:
    deployment, model = resolved.deployment, resolved.model
    spec = engine(deployment.engine)
    memory = engine_memory(deployment.engine, deployment.engine_version)
    block = (spec.kv_block_tokens if spec is not None else None) or _BLOCK_TOKENS
    if model.kv_heads is None and block == _BLOCK_TOKENS:
        block = _LATENT_BLOCK_TOKENS
    return block_layout(
        model.caches or _plain_caches(model),
        tensor_parallel=deployment.tensor_parallel,
        pipeline_parallel=deployment.pipeline_parallel,
        kv_bytes=KV_BYTES_PER_ELEMENT[resolved.kv_precision],
        block_tokens=block,
        windows=memory is None or memory.windows,
        chunks=memory is None or memory.chunks,
        longest_tokens=deployment.max_model_len or model.context_tokens,
    )


def _plain_caches(model: ModelSpec) -> tuple[CacheLayers, ...]:
    """Return the caches of a model that is known by its totals alone."""
    return (CacheLayers(Mixer.FULL, 1, int(model.kv_elements_full), model.kv_heads),)


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

    def with_nodes(words: str, change: Resolved) -> str:
        across = _across_nodes(resolved, roomy) if change.precision != resolved.precision == "fp8" else None
        return f"{words} would fit" if across is None else f"{words} would fit, or at this precision {across}"

    first = [*alternatives(resolved), *_four_bits(resolved)]
    for change, words in first:
        if roomy(change):
            return with_nodes(words, change)
    for change, words in first:
        for second, more in [*alternatives(change), *_four_bits(change)]:
            if roomy(second):
                return with_nodes(f"{words} with {more}", second)
    across = _across_nodes(resolved, roomy)
    return "no number of these GPUs that was tried fits" if across is None else f"at this precision it fits on {across}"


def _across_nodes(resolved: Resolved, roomy: Callable[[Resolved], bool]) -> str | None:
    """Say how many GPUs of how many nodes hold the weights as they are; None: no number that was tried."""
    deployment = resolved.deployment
    for power in range(12):
        wider = replace(deployment, tensor_parallel=2**power, observed_kv_tokens=None)
        if wider.gpus <= _MAX_GPUS and roomy(replace(resolved, deployment=wider)):
            return f"{wider.gpus} GPUs, {math.ceil(wider.gpus / resolved.gpu.gpus_per_node)} nodes"
    return None


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
