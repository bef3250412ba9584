"""Steps 3 to 5: weights, KV cache at peak, overheads; what is left over."""

from __future__ import annotations

from sizing.catalog.precision import KV_BYTES_PER_ELEMENT
from sizing.explain.model import GIVEN, Chart, Fact, Series, Step, Table
from sizing.explain.question import Worked
from sizing.replica.memory import kv_bytes_per_token, kv_share_per_gpu

__all__ = ["kv_at_peak", "overheads", "weights"]

_GIB = 2**30
_LAYOUT = (
    "attention and dense parts ÷ (TP · PP), experts ÷ (TP · DP · PP), embedding and head on the end stages; routers, "
    "MLA's down-projections and indexers on every GPU"
)


def weights(w: Worked) -> Step:
    """Weights: how many parameters, in which precision, on how many GPUs."""
    model, resolved, memory = w.resolved.model, w.resolved, w.memory
    here = memory.weights
    others = model.embedding_parameters + model.head_parameters + model.encoder_parameters + model.lookup_parameters
    rows = (
        ("attention, dense and shared parts", model.dense_parameters / 1e9, here.dense / _GIB),
        ("routed experts", model.expert_parameters / 1e9, here.experts / _GIB),
        ("embedding, head, towers", others / 1e9, here.ends / _GIB),
        ("copies that the engine makes (MLA)", model.absorbed_parameters / 1e9, here.copies / _GIB),
    )
    quantization = resolved.quantization
    size = 2.0 if quantization is None else quantization.bytes_per_parameter
    kept = "" if quantization is None else ", ".join(f"{part} {share:.0%}" for part, share in quantization.kept)
    share = memory.weight_bytes / memory.usable_bytes
    return Step(
        3,
        "Weights",
        "How much memory do the weights take on each GPU?",
        inputs=(
            Fact("parameters", model.total_parameters / 1e9, "billion", f"layer shapes; {w.model_source}"),
            Fact("active per token", model.active_parameters / 1e9, "billion", f"layer shapes; {w.model_source}"),
            Fact("precision", resolved.precision, "", resolved.precision_source),
            Fact("bytes per quantised parameter", size, "B", "format, with its scales"),
            Fact("kept in 16 bits beside embedding and head", kept or "nothing", "", resolved.precision_source),
            Fact("GPUs per replica", w.question.deployment.gpus, "", "TP · PP · DP, given"),
        ),
        results=(
            Fact("weights per GPU", memory.weight_bytes / _GIB, "GiB", _LAYOUT),
            Fact("share of usable memory", share * 100, "%", "weights per GPU / usable memory (step 5)"),
        ),
        conclusion=f"Weights take {memory.weight_bytes / _GIB:.1f} GiB per GPU, {share:.0%} of the usable memory.",
        tables=(
            Table(
                "Weights",
                ("part", "billion parameters of the model", "GiB per GPU"),
                rows,
                f"{w.model_source}; bf16 ends",
            ),
        ),
    )


def kv_at_peak(w: Worked) -> Step:
    """KV cache: bytes per token, and what the operating point keeps resident."""
    model, resolved, memory, point = w.resolved.model, w.resolved, w.memory, w.point
    element = KV_BYTES_PER_ELEMENT[resolved.kv_precision]
    if model.kv_heads is None:
        kind = "multi-head latent attention: layers · (latent + rope) · bytes, whole on every TP rank"
    else:
        kind = "2 · layers · KV heads · head dimension · bytes; heads split over TP, copied beyond their number"
    full = w.workload.input_tokens + w.workload.output_tokens
    room = memory.max_sequences(full)
    used = point.kv_tokens / point.kv_capacity_tokens if point.kv_capacity_tokens else 0.0
    origin = "the engine's own report" if memory.observed else "KV budget (step 5) in blocks"
    return Step(
        4,
        "KV cache at peak",
        "How many tokens stay in the cache, and how many fit?",
        inputs=(
            Fact("KV precision", resolved.kv_precision, "", GIVEN),
            Fact("bytes per element", element, "B", "format"),
            Fact("KV heads", "latent (MLA)" if model.kv_heads is None else model.kv_heads, "", w.model_source),
            Fact("window of the windowed layers", model.window_tokens or None, "tokens", w.model_source),
            Fact(
                "share of a token's KV per GPU",
                kv_share_per_gpu(model, w.question.deployment.tensor_parallel),
                "",
                kind,
            ),
        ),
        results=(
            Fact("KV bytes per token, whole model", kv_bytes_per_token(model, resolved.kv_precision), "B", kind),
            Fact("of these in layers with a window", model.kv_elements_windowed * element, "B", w.model_source),
            Fact("state per sequence and GPU", memory.sequence_state_bytes / 2**20, "MiB", "linear-attention layers"),
            Fact("KV cache size that the engine prints", memory.kv_tokens, "tokens", origin),
            Fact("capacity of a replica", point.kv_capacity_tokens, "tokens", f"sequences · mean context; {origin}"),
            Fact("resident at the operating point", point.kv_tokens, "tokens", "batch · mean context"),
            Fact("sequences of full length that fit", room, "", "KV budget / bytes of input + output tokens"),
        ),
        conclusion=f"At the operating point {used:.0%} of the KV cache is in use.",
    )


def overheads(w: Worked) -> Step:
    """Overheads: what engine, graphs and communication take; what is left for the KV cache."""
    memory, gpu, deployment = w.memory, w.resolved.gpu, w.question.deployment
    reserve = memory.reserve
    unused = memory.gpu_bytes - memory.usable_bytes
    bar = (f"{deployment.gpus} × {gpu.name}",)
    layers = (
        ("weights", memory.weight_bytes),
        ("activations", reserve.activations),
        ("runtime and graphs", reserve.runtime + reserve.graphs),
        ("communication", reserve.communication),
        ("KV cache", max(memory.kv_budget_bytes, 0.0)),
        ("not for the engine", unused),
    )
    return Step(
        5,
        "Overheads",
        "What else needs memory, and what is left for the KV cache?",
        inputs=(
            Fact("memory of the GPU", memory.gpu_bytes / _GIB, "GiB", w.gpu_source),
            Fact("memory that the driver reports", gpu.visible_memory_bytes / _GIB, "GiB", w.gpu_source),
            Fact("share that the engine may use", deployment.memory_utilisation * 100, "%", GIVEN),
            Fact("activations at the largest step", reserve.activations / _GIB, "GiB", reserve.source),
            Fact("CUDA or ROCm, beside PyTorch", reserve.runtime / _GIB, "GiB", reserve.source),
            Fact("communication buffers", reserve.communication / _GIB, "GiB", reserve.source),
            Fact("CUDA graphs, where the engine counts them", reserve.graphs / _GIB, "GiB", reserve.source),
        ),
        results=(
            Fact("usable", memory.usable_bytes / _GIB, "GiB", "reported memory · share"),
            Fact("left for the KV cache", memory.kv_budget_bytes / _GIB, "GiB per GPU", "usable − weights − reserves"),
        ),
        conclusion=(
            f"{memory.kv_budget_bytes / _GIB:.1f} GiB per GPU are left for the KV cache"
            + (
                ", but the engine's own figure is used."
                if memory.observed
                else ". Give the engine's own figure if known."
            )
        ),
        charts=(
            Chart(
                "stacked",
                "Memory of one GPU",
                "",
                "GiB",
                tuple(Series(name, bar, (size / _GIB,)) for name, size in layers),
            ),
        ),
    )
