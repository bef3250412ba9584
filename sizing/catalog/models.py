"""Model architectures: from a Hugging Face ``config.json`` to parameters, KV elements and FLOPs.

Parameter counts follow from the layer shapes (biases and norms, below 0.1 %, are left out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizing.catalog.encoders import encoder_parameters
from sizing.catalog.feed_forward import Experts, FeedForwardShape, expert_count, feed_forward_shape
from sizing.catalog.layers import LayerPlan, Mixer, layer_plan, without_idle_windows
from sizing.catalog.mixers import block_indexer, indexer_layers, mixer_shape
from sizing.catalog.per_layer import without_overrides
from sizing.catalog.quantization import Quantization, checkpoint_quantization
from sizing.catalog.reader import Reader
from sizing.catalog.refusals import language_model, refuse_encoders, refuse_other_parts
from sizing.catalog.shapes import MixerShape
from sizing.catalog.shared_blocks import SharedBlocks, residual_parameters, shared_blocks
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["USER_SOURCE", "CacheLayers", "ModelSpec", "Part", "from_hf_config"]

#: Source of a model that no catalogue entry names.
USER_SOURCE = "config.json given by the user"
#: More layers than any model has: what goes through them one by one stays quick.
_MOST_LAYERS = 2_000
#: Layers that do not follow from the fields read here, named before what else such a configuration lacks.
_UNSUPPORTED = ("block_configs", "compress_ratios")
#: From this release of transformers on embeddings are tied by the outer configuration; no release has more digits.
_TIED_OUTSIDE_FROM, _LONGEST_RELEASE = 5, 3


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of one kind over all layers, in parameters.

    ``split`` is divided over tensor-parallel ranks, ``kv`` as far as there are KV heads, ``replicated`` is whole on
    every rank; ``rows`` are the output channels of the split matrices.
    """

    kind: str
    split: float = 0.0
    kv: float = 0.0
    replicated: float = 0.0
    rows: float = 0.0

    @property
    def parameters(self) -> float:
        """Parameters of the part, counted once."""
        return self.split + self.kv + self.replicated


@dataclass(frozen=True, slots=True)
class CacheLayers:
    """Layers that keep the same of every token or sequence, per layer: KV elements, or state elements by width.

    ``index_bytes`` per token and layer; ``heads`` None: a latent cache, whole on every rank. ``window_tokens`` 0: all.
    """

    mixer: Mixer
    layers: int
    kv_elements: int = 0
    heads: int | None = None
    index_bytes: int = 0
    window_tokens: int = 0
    wide_state: int = 0
    narrow_state: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One language model by the numbers that memory and time follow from.

    Parameters are counts: ``dense_parameters`` are read for every token (attention, dense and shared MLPs, routers),
    ``head_parameters`` the output head, ``embedding_parameters`` the input embedding (0 where tied to the head),
    ``expert_parameters`` all routed experts together, ``encoder_parameters`` vision and audio towers,
    ``lookup_parameters`` embeddings of which a token reads one row per layer (Gemma's per-layer embeddings). KV:
    ``kv_elements_full`` per token over the layers that keep the whole context, ``kv_elements_windowed`` per token over
    the layers that keep ``window_tokens``, ``index_bytes`` per token of the sparse-attention indexers of
    ``index_layers`` layers, whose heads · dim sum to ``index_width``, ``selected_tokens`` of a context that attention
    then reads (0: all) and ``selected_width`` its ``attention_width`` there, ``state_elements`` per sequence over
    recurrent layers (32-bit states count twice). ``kv_heads`` is None for MLA, whose latent cache
    cannot be split over tensor-parallel ranks, else the smallest number in any layer. ``attention_width`` sums heads ·
    (query/key + value dim) / 2 over the layers with softmax attention. ``heads`` are the attention heads,
    ``context_tokens`` the longest context that the configuration names, ``quantization`` what its checkpoint is
    quantised to (None: not at all). ``parts`` and ``caches`` say where weights and caches lie; ``widest`` is the widest
    intermediate size, ``absorbed_parameters`` what engines hold a second time in bf16 for MLA,
    ``repeated_parameters`` the part of ``dense_parameters`` that is stored once but read again (shared blocks).
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
    quantization: Quantization | None = None
    encoder_parameters: float = 0.0
    lookup_parameters: float = 0.0
    index_bytes: float = 0.0
    index_layers: int = 0
    index_width: float = 0.0
    selected_tokens: int = 0
    selected_width: float = 0.0
    vocabulary: int | None = None
    model_type: str = ""
    parts: tuple[Part, ...] = ()
    caches: tuple[CacheLayers, ...] = ()
    expert_shape: Experts | None = None
    widest: int = 0
    absorbed_parameters: float = 0.0
    repeated_parameters: float = 0.0
    quantizations: tuple[Quantization, ...] = ()

    @property
    def checkpoint_precision(self) -> str | None:
        """The precision that most of the checkpoint's weights are quantised to; None: it is not quantised."""
        return None if self.quantization is None else self.quantization.precision

    def quantization_in(self, precision: str) -> Quantization | None:
        """Return how the checkpoint, or an owner's quantised one, is quantised in a precision; None: unknown."""
        known = [] if self.quantization is None else [self.quantization]
        return next((each for each in [*known, *self.quantizations] if each.precision == precision), None)

    @property
    def total_parameters(self) -> float:
        """Parameters of the whole model, towers included."""
        return (
            self.dense_parameters
            + self.head_parameters
            + self.embedding_parameters
            + self.expert_parameters
            + self.encoder_parameters
            + self.lookup_parameters
            - self.repeated_parameters
        )

    @property
    def active_parameters(self) -> float:
        """Parameters that compute one token, without embeddings and towers."""
        return self.dense_parameters + self.head_parameters + self.expert_parameters * self.expert_share

    @property
    def expert_share(self) -> float:
        """Share of the routed experts that one token uses; 0 for a dense model."""
        return self.experts_per_token / self.experts if self.experts else 0.0


def from_hf_config(config: Mapping[str, Any], name: str = "config", source: str | None = None) -> ModelSpec:
    """Read a Hugging Face ``config.json`` (the language model under ``text_config`` or the like where nested).

    Knows dense and mixture-of-experts transformers with grouped-query or multi-head latent attention, sparse attention
    with an indexer, sliding windows, layers that share a KV cache, hybrids with gated delta rule, Kimi delta
    attention, lightning attention, Mamba-1, Mamba-2 or short convolutions, and Mamba alone. What may change parameters
    or the KV cache and is not known is refused by name.

    Raises:
        UnknownModel: not a mapping, an encoder, a field is missing, or a key or kind of layer that this parser does not
            know.
        InvalidInput: a size is not a positive whole number, or a quantization cannot be read.
    """
    if not isinstance(config, Mapping):
        raise UnknownModel(f"{name}: a model configuration must be a mapping, not {type(config).__name__}")
    refuse_encoders(config, name)
    fields = without_overrides(language_model(config))
    for key in _UNSUPPORTED:
        if fields.get(key) is not None:
            raise UnknownModel(f"{name}: architectures with {key!r} are not supported yet")
    refuse_other_parts(config, name)
    read = Reader(name, fields, nested=language_model(config) is not config)
    blocks = fields.get("layers_block_type")
    named = len(blocks) if isinstance(blocks, list | tuple) and blocks else None
    layers = read.size("num_hidden_layers", default=named)
    if layers > _MOST_LAYERS:
        raise InvalidInput(f"{name}: num_hidden_layers must be at most {_MOST_LAYERS:,}, not {layers:,}")
    hidden, vocab = read.size("hidden_size"), read.size("vocab_size")
    context = read.size("max_position_embeddings", "seq_length", "max_sequence_length", default=0) or None
    plan = without_idle_windows(layer_plan(read, layers, expert_count(read)), context)
    shapes = {mixer: mixer_shape(read, mixer, hidden) for mixer in dict.fromkeys(plan.mixers)}
    read.ignore("num_attention_heads", "num_key_value_heads", "head_dim", "attention_head_dim", "v_head_dim")
    indexed = indexer_layers(read, layers)
    blocks_indexed, index_elements, index_parameters = block_indexer(read, layers, hidden)
    mlp = feed_forward_shape(read, plan, hidden)
    lookup, per_layer = _per_layer_embeddings(read, layers, hidden)
    per_layer += residual_parameters(read, layers, hidden)
    blocks_shared = shared_blocks(read, plan, hidden)
    shared = read.size("num_kv_shared_layers", default=0)
    tied = _tied(read, config)
    read.refuse_unread()
    parts = _parts(plan, shapes, mlp, indexed, per_layer) + _shared_parts(blocks_shared)
    caches = _caches(plan, shapes, indexed, shared)
    if blocks_indexed:
        parts += (Part("indexer", replicated=float(blocks_indexed * index_parameters)),)
        caches += (CacheLayers(Mixer.FULL, blocks_indexed, index_elements),)
    full = [cache for cache in caches if cache.mixer is Mixer.FULL]
    windowed = [cache for cache in caches if cache.mixer in (Mixer.WINDOW, Mixer.CHUNK)]
    heads = [cache.heads for cache in (*full, *windowed) if cache.heads is not None]
    used = {mixer for mixer in shapes if mixer in (Mixer.FULL, Mixer.WINDOW, Mixer.CHUNK)}
    encoder = encoder_parameters(config, name)
    parts += (Part("head", split=float(hidden * vocab)),)
    if not tied:
        parts += (Part("embedding", split=float(hidden * vocab)),)
    if lookup:
        parts += (Part("embedding", split=lookup),)
    if encoder:
        parts += (Part("encoder", split=encoder),)
    quantization = checkpoint_quantization(config, name) or checkpoint_quantization(fields, name)
    return ModelSpec(
        name=name,
        layers=layers,
        hidden_size=hidden,
        kv_heads=min(heads) if heads else (1 if not used else None),
        dense_parameters=blocks_shared.repeated
        + sum(part.parameters for part in parts if part.kind not in ("head", "embedding", "encoder")),
        head_parameters=float(hidden * vocab),
        embedding_parameters=0.0 if tied else float(hidden * vocab),
        expert_parameters=float(mlp.experts.parameters) if mlp.experts else 0.0,
        experts=mlp.experts.count if mlp.experts else 0,
        experts_per_token=mlp.experts.per_token if mlp.experts else 0,
        kv_elements_full=float(sum(cache.layers * cache.kv_elements for cache in full)),
        kv_elements_windowed=float(sum(cache.layers * cache.kv_elements for cache in windowed)),
        window_tokens=plan.window_tokens,
        state_elements=float(sum(cache.layers * (2 * cache.wide_state + cache.narrow_state) for cache in caches)),
        attention_width=float(sum(shapes[mixer].width for mixer in plan.mixers)),
        source=source or USER_SOURCE,
        heads=read.size("num_attention_heads") if used or Mixer.LIGHTNING in shapes else None,
        context_tokens=context,
        quantization=None if quantization is None else quantization.bound(plan, read.model_type, _named(parts, mlp)),
        encoder_parameters=encoder,
        lookup_parameters=lookup,
        index_bytes=float(sum(cache.layers * cache.index_bytes for cache in caches)),
        index_layers=sum(cache.layers for cache in caches if cache.index_bytes),
        index_width=float(sum(cache.layers * shapes[cache.mixer].index_width for cache in caches if cache.index_bytes)),
        selected_tokens=max((shape.selected_tokens for shape in shapes.values()), default=0),
        selected_width=float(sum(shapes[mixer].selected_width for mixer in plan.mixers)),
        vocabulary=vocab,
        model_type=read.model_type,
        parts=parts,
        caches=caches,
        expert_shape=mlp.experts,
        widest=max(mlp.inner, blocks_shared.inner),
        absorbed_parameters=float(sum(shapes[mixer].absorbed for mixer in plan.mixers)),
        repeated_parameters=float(blocks_shared.repeated),
    )


def _shared_parts(blocks: SharedBlocks) -> tuple[Part, ...]:
    sizes = {"attention": blocks.attention, "mlp": blocks.mlp, "projection": blocks.adapters}
    return tuple(Part(kind, split=float(size)) for kind, size in sizes.items() if size)


def _named(parts: tuple[Part, ...], mlp: FeedForwardShape) -> set[str]:
    return {part.kind for part in parts} | ({"experts"} if mlp.experts else set())


def _tied(read: Reader, config: Mapping[str, Any]) -> bool:
    read.ignore("tie_word_embeddings")
    # Transformers 5 ties by the outer configuration and writes the language model's default beside it; before, the
    # language model's own said so.
    release = str(config.get("transformers_version") or "").partition(".")[0]
    newer = release.isdecimal() and len(release) <= _LONGEST_RELEASE and int(release) >= _TIED_OUTSIDE_FROM
    for fields in (config, read.fields) if newer else (read.fields, config):
        value = fields.get("tie_word_embeddings")
        if value is not None:
            return bool(value)
    return bool(read.get("tie_word_embeddings"))


def _per_layer_embeddings(read: Reader, layers: int, hidden: int) -> tuple[float, float]:
    """Return Gemma's per-layer embeddings: the table that is looked up, and the matrices that bring it into layers.

    A table of vocabulary × layers × size, one projection of the hidden state to layers · size, and per layer a gate and
    a projection (transformers, modeling_gemma3n and modeling_gemma4).
    """
    size = read.size("hidden_size_per_layer_input", default=0)
    if not size:
        return 0.0, 0.0
    vocab = read.size("vocab_size_per_layer_input", "vocab_size")
    return float(vocab * layers * size), float(hidden * layers * size + layers * 2 * hidden * size)


def _parts(
    plan: LayerPlan,
    shapes: Mapping[Mixer, MixerShape],
    mlp: FeedForwardShape,
    indexed: int,
    per_layer: float,
) -> tuple[Part, ...]:
    """Return the weights of the layers by kind, without routed experts."""
    found: list[Part] = []
    kinds = {
        "attention": (Mixer.FULL, Mixer.WINDOW, Mixer.CHUNK),
        "linear_attention": (Mixer.GATED_DELTA, Mixer.KIMI_DELTA, Mixer.LIGHTNING),
        "mamba": (Mixer.MAMBA1, Mixer.MAMBA2, Mixer.SHORT_CONV),
    }
    for kind, mixers in kinds.items():
        layers = [shapes[mixer] for mixer in plan.mixers if mixer in mixers]
        if layers:
            found.append(
                Part(
                    kind,
                    split=float(sum(shape.split for shape in layers)),
                    kv=float(sum(shape.kv_projections for shape in layers)),
                    replicated=float(sum(shape.replicated for shape in layers)),
                    rows=float(sum(shape.rows for shape in layers)),
                )
            )
    index = max((shape.indexer for shape in shapes.values()), default=0)
    if index:
        found.append(Part("indexer", replicated=float(index * min(indexed, plan.count(Mixer.FULL)))))
    if mlp.dense:
        found.append(Part("mlp", split=float(mlp.dense), rows=float(mlp.dense_rows)))
    if mlp.shared:
        found.append(Part("shared_expert", split=float(mlp.shared), rows=float(mlp.shared_rows)))
    if mlp.projections:
        found.append(Part("projection", replicated=float(mlp.projections)))
    if mlp.router:
        found.append(Part("router", replicated=float(mlp.router)))
    if per_layer:
        found.append(Part("projection", replicated=per_layer))
    return tuple(found)


def _caches(plan: LayerPlan, shapes: Mapping[Mixer, MixerShape], indexed: int, shared: int) -> tuple[CacheLayers, ...]:
    """Return what the layers keep; the last ``shared`` layers use the cache of an earlier one and keep nothing."""
    own = plan.mixers[: max(len(plan.mixers) - shared, 0)]
    found: list[CacheLayers] = []
    for mixer in dict.fromkeys(own):
        shape, layers = shapes[mixer], own.count(mixer)
        if mixer is Mixer.NONE:
            continue
        window = plan.window_tokens if mixer in (Mixer.WINDOW, Mixer.CHUNK) else 0
        kept = CacheLayers(
            mixer, layers, shape.kv_elements, shape.kv_heads, shape.index_bytes, window, shape.wide_state,
            shape.narrow_state,
        )  # fmt: skip
        if shape.index_bytes and indexed < layers:
            # Layers that use the indexer of an earlier one keep no index of their own.
            plain = CacheLayers(mixer, layers - indexed, shape.kv_elements, shape.kv_heads, 0, window)
            found += [CacheLayers(mixer, indexed, shape.kv_elements, shape.kv_heads, shape.index_bytes, window), plain]
            continue
        found.append(kept)
    return tuple(found)
