"""A sizing in thirteen steps, each with its inputs, its results and where every number is from.

``explain`` works it out; ``render_text`` and ``render_html`` write it; ``Explanation.to_dict`` is for machines. The
order of work is the usual one of capacity planning for inference: demand and objectives, memory, speed, operating
point, fleet, follow-up.
"""

from __future__ import annotations

from collections.abc import Callable

from sizing.catalog import Catalog
from sizing.explain.fleet import fleet, watch
from sizing.explain.html import render_html
from sizing.explain.load import batching, curve, kv_optimisation
from sizing.explain.memory import kv_at_peak, overheads, weights
from sizing.explain.model import Chart, Explanation, Fact, Series, Step, Table
from sizing.explain.needs import objectives, workload
from sizing.explain.question import Question, Worked
from sizing.explain.speed import parallel_shape, quantization, roofline
from sizing.explain.text import render_text

__all__ = [
    "Chart",
    "Explanation",
    "Fact",
    "Question",
    "Series",
    "Step",
    "Table",
    "explain",
    "render_html",
    "render_text",
]


_STEPS: tuple[Callable[[Worked], Step], ...] = (
    workload,
    objectives,
    weights,
    kv_at_peak,
    overheads,
    roofline,
    quantization,
    parallel_shape,
    batching,
    kv_optimisation,
    curve,
    fleet,
    watch,
)


def explain(question: Question, catalog: Catalog | None = None) -> Explanation:
    """Work out a sizing step by step.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: the question cannot be understood.
        DoesNotFit: the weights or one request do not fit; the text says what would.
    """
    w = Worked(question, catalog)
    resolved, plan = w.resolved, w.plan
    gpus = plan.desired * question.deployment.gpus
    answer = (
        f"{plan.desired} replica{'' if plan.desired == 1 else 's'} = {gpus} GPU{'' if gpus == 1 else 's'} "
        f"(10–90 %: {plan.lower}–{plan.upper} replicas), {w.known.confidence.value}: {plan.message}"
    )
    return Explanation(
        title=f"{resolved.model.name} ({resolved.precision}, {resolved.kv_precision} KV) on "
        f"{question.deployment.gpus} × {resolved.gpu.name} per replica",
        answer=answer,
        steps=tuple(step(w) for step in _STEPS),
    )
