"""Steps 6 to 8: the roofline, the precision, the parallel shape."""

from __future__ import annotations

from dataclasses import replace

from sizing.calibration.measurement import COEFFICIENTS, step_terms
from sizing.catalog.precision import BYTES_PER_PARAMETER
from sizing.compare import Outcome
from sizing.explain.model import GIVEN, Chart, Fact, Series, Step, Table, Value
from sizing.explain.question import Worked
from sizing.replica.step_time import StepCoefficients

__all__ = ["parallel_shape", "quantization", "roofline"]

_TERMS = {
    "layer_seconds": "launch, per layer",
    "sequence_seconds": "per sequence",
    "weight_ratio": "reading weights",
    "kv_ratio": "reading KV",
    "compute_ratio": "computing",
    "comm_ratio": "communication",
}
COLUMNS = ("choice", "fits", "GPUs per replica", "req/s per replica", "replicas", "GPUs", "$ per hour", "what binds")


def roofline(w: Worked) -> Step:
    """The roofline: what one engine step is made of, from a batch of one to a full one."""
    gpu, model, precision = w.resolved.gpu, w.resolved.model, w.resolved.precision
    flops = gpu.effective_flops_per_second(precision)
    bandwidth = gpu.memory_bandwidth_bytes_per_second
    corner = flops * BYTES_PER_PARAMETER[precision] / (2 * bandwidth)
    values = w.known.coefficients or StepCoefficients()
    batches = sorted(
        {1.0, *(max(w.replica.max_lane_batch * share, 1.0) for share in (0.25, 0.5, 1.0)), max(w.lane_batch, 1.0)}
    )
    terms = {batch: step_terms(w.resolved, w.workload, batch) for batch in batches}
    names = tuple(f"batch {batch:.0f}" for batch in batches)
    layers = tuple(
        Series(_TERMS[name], names, tuple(float(terms[b][i]) * getattr(values, name) * 1e3 for b in batches))
        for i, name in enumerate(COEFFICIENTS)
    )
    at = max(w.lane_batch, 1.0)
    parts = {s.name: s.y[batches.index(at)] for s in layers}
    biggest = max(parts, key=lambda name: parts[name])
    step = w.replica.step_seconds(at) * 1e3
    return Step(
        6,
        "Roofline",
        "What is a step of the engine made of, and what limits it?",
        inputs=(
            Fact("memory bandwidth", bandwidth / 1e12, "TB/s", w.gpu_source),
            Fact("peak FLOP/s", gpu.flops_per_second[gpu.compute_precision(precision)] / 1e12, "TFLOP/s", w.gpu_source),
            Fact(
                "share that large GEMMs reach",
                flops / gpu.flops_per_second[gpu.compute_precision(precision)],
                "",
                w.gpu_source,
            ),
            Fact("active parameters", model.active_parameters / 1e9, "billion", w.model_source),
            *(
                Fact(
                    _TERMS[name],
                    getattr(values, name) * (1e6 if name.endswith("seconds") else 1.0),
                    "µs" if name.endswith("seconds") else "× ideal",
                    w.step_source,
                )
                for name in COEFFICIENTS
            ),
        ),
        results=(
            Fact("corner batch", corner, "tokens", "FLOP/s · bytes per parameter / (2 · bandwidth)"),
            Fact("step with one sequence", w.replica.step_seconds(1.0) * 1e3, "ms", "sum of the terms"),
            Fact("step at the operating point", step, "ms", "sum of the terms; the TPOT of step 11 adds fluctuation"),
        ),
        conclusion=(
            f"At the operating point a step takes {step:.1f} ms with {at:.0f} sequences in a batch; "
            f"{biggest} is the largest part."
        ),
        charts=(Chart("stacked", "One step of the engine", "sequences decoding", "ms", layers),),
    )


def quantization(w: Worked) -> Step:
    """The precision: what fewer bits per weight and per KV element would do."""
    deployment, gpu = w.question.deployment, w.resolved.gpu
    outcomes: list[Outcome] = []
    chosen = None
    precisions = ["bf16", "fp8", "int4"] + (["nvfp4"] if "nvfp4" in gpu.flops_per_second else [])
    precisions += [w.resolved.precision] if w.resolved.precision not in precisions else []
    for precision in precisions:
        for kv in ("bf16", "fp8"):
            same = precision == w.resolved.precision and kv == w.resolved.kv_precision
            if precision == "fp8" and "fp8" not in gpu.flops_per_second and not same:
                continue  # the GPU has no FP8: weights would be widened on the fly, not a choice people make
            changed = (
                deployment
                if same
                else replace(deployment, precision=precision, kv_precision=kv, observed_kv_tokens=None)
            )
            option = w.option(f"{precision} weights, {kv} KV", deployment=changed)
            chosen = len(outcomes) if same else chosen
            outcomes.append(w.outcome(option if same else replace(option, calibration=None)))
    best = _best(outcomes)
    saved = (w.plan.desired - best.replicas) if best and best.replicas is not None else 0
    return Step(
        7,
        "Precision",
        "What would fewer bits do? (quality is not judged here)",
        inputs=(
            Fact("precision of the weights", w.resolved.precision, "", GIVEN),
            Fact("precision of the KV cache", w.resolved.kv_precision, "", GIVEN),
            Fact("precisions that the GPU computes", ", ".join(sorted(gpu.flops_per_second)), "", w.gpu_source),
        ),
        results=(
            Fact("fewest replicas by precision alone", best.replicas if best else None, "", "the table below"),
            Fact("which", best.option.name if best else None, "", "the table below"),
        ),
        conclusion=(
            f"{best.option.name} would save {saved} replica{'' if saved == 1 else 's'}."
            if best and saved > 0
            else "No other precision needs fewer replicas."
        ),
        tables=(choices("Precisions", outcomes, chosen, w),),
    )


def parallel_shape(w: Worked) -> Step:
    """The parallel shape: how many GPUs share one replica, over which links."""
    deployment, gpu = w.question.deployment, w.resolved.gpu
    outcomes: list[Outcome] = []
    chosen = None
    sizes = [2**power for power in range(8) if 2**power <= gpu.gpus_per_node]
    sizes = sorted({*sizes, deployment.tensor_parallel})
    for size in sizes:
        same = size == deployment.tensor_parallel
        changed = deployment if same else replace(deployment, tensor_parallel=size, observed_kv_tokens=None)
        option = w.option(f"tensor parallelism {size}", deployment=changed)
        chosen = len(outcomes) if same else chosen
        outcomes.append(w.outcome(option if same else replace(option, calibration=None)))
    shape = f"TP {deployment.tensor_parallel}, PP {deployment.pipeline_parallel}, "
    shape += f"DP {deployment.data_parallel}, EP {deployment.expert_parallel}"
    group = deployment.tensor_parallel
    link = gpu.link(group) if group > 1 else None
    by_gpus = [o for o in outcomes if o.feasible and o.gpus]
    best = min(by_gpus, key=lambda o: (o.gpus or 0, o.option.deployment.gpus), default=None)
    return Step(
        8,
        "Parallel shape",
        "How many GPUs share one replica, and what do their links cost?",
        inputs=(
            Fact("shape", shape, "", GIVEN),
            Fact("topology", f"{gpu.topology}, {gpu.gpus_per_node} GPUs per node", "", w.gpu_source),
            Fact(
                "all-reduce bandwidth of this group",
                None if link is None else link.bandwidth_bytes_per_second / 1e9,
                "GB/s",
                w.gpu_source,
            ),
            Fact(
                "all-reduce latency of this group",
                None if link is None else link.latency_seconds * 1e6,
                "µs",
                w.gpu_source,
            ),
        ),
        results=(
            Fact("fewest GPUs in total", best.gpus if best else None, "", "the table below"),
            Fact("with", best.option.name if best else None, "", "the table below"),
        ),
        conclusion=(
            f"{best.option.name} needs the fewest GPUs, {best.gpus} in all."
            if best
            else "No size meets the objectives."
        ),
        tables=(choices("Tensor parallelism", outcomes, chosen, w),),
    )


def _best(outcomes: list[Outcome]) -> Outcome | None:
    usable = [o for o in outcomes if o.feasible and o.replicas is not None]
    return min(usable, key=lambda o: o.replicas or 0, default=None)


def choices(title: str, outcomes: list[Outcome], chosen: int | None, w: Worked) -> Table:
    """Return the table of some choices, each sized on its own."""
    rows: list[tuple[Value, ...]] = [
        (
            o.option.name,
            o.fits,
            o.option.deployment.gpus,
            o.capacity_requests_per_second,
            o.replicas,
            o.gpus,
            None if o.cost is None else o.cost.dollars_per_hour,
            "objective out of reach" if o.fits and not o.feasible else "memory" if not o.fits else o.binding,
        )
        for o in outcomes
    ]
    source = "each row is sized like the question itself; only the marked one uses measurements, if there are any"
    return Table(title, COLUMNS, tuple(rows), f"{source}; {w.step_source}", chosen)
