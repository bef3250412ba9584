"""What ``tokentide whatif`` prints of a plan, of a step in demand, and of an API: as a row, as JSON, as notes below."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sizing.compare import Outcome
from sizing.economics import ApiPrice, break_even_share
from sizing.explain.model import Value
from sizing.planning.spike_loss import late_requests
from sizing.replica.speculative_step import Drafting

__all__ = ["COLUMNS", "PlanRow", "api_cells", "api_row", "late", "notes_text"]

COLUMNS = ("plan", "replicas", "10–90 %", "GPUs", "req/s each", "TTFT s", "TPOT ms", "binds", "$/h", "$/1M out", "note")
_DAY_SECONDS = 86_400.0


def late(now: Outcome, step: Outcome, lead_seconds: int) -> float | None:
    """Return the requests that wait beyond the TTFT objective within a day; None: a plan cannot be had."""
    ttft, each = now.option.slo.ttft_seconds, (now.capacity_requests_per_second, step.capacity_requests_per_second)
    if now.replicas is None or step.replicas is None or ttft is None or each[0] is None or each[1] is None:
        return None
    capacity = ((0.0, now.replicas * each[0]), (float(lead_seconds), step.replicas * each[1]))
    rate = step.option.requests_per_second
    return late_requests(rate, capacity, patience_seconds=ttft, duration_seconds=_DAY_SECONDS)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row: an outcome under its own or another name, with the requests that are late until its replicas are there."""

    outcome: Outcome
    other_name: str | None = None
    late: float | None = None

    @property
    def name(self) -> str:
        """What the row is called."""
        return self.other_name or self.outcome.option.name

    def notes(self) -> list[str]:
        """What is to be said of it below the table."""
        if self.other_name is not None:
            return []
        problem = () if self.outcome.problem is None else (self.outcome.problem,)
        return [*problem, *self.outcome.caveats]

    def row(self) -> tuple[Value, ...]:
        """Return it as a row of the table."""
        outcome, cost = self.outcome, self.outcome.cost
        note = outcome.confidence.value if outcome.feasible else "SLO out of reach"
        if outcome.replicas is None:
            note = "not possible"
        elif self.other_name is not None:
            note = "late: unknown" if self.late is None else f"late: {self.late:,.0f} requests"
        return (
            self.name,
            outcome.replicas,
            None if outcome.replicas is None else f"{outcome.replicas_lower}–{outcome.replicas_upper}",
            outcome.gpus,
            outcome.capacity_requests_per_second,
            outcome.ttft_seconds,
            None if outcome.tpot_seconds is None else outcome.tpot_seconds * 1e3,
            None if outcome.binding is None else outcome.binding.value,
            None if cost is None else cost.dollars_per_hour,
            None if cost is None else cost.dollars_per_million_output_tokens,
            note,
        )

    def plain(self) -> dict[str, Any]:
        """Return it as JSON."""
        return _plain(self.outcome) | {"plan": self.name, "late_requests": self.late}


def api_row(price: ApiPrice, now: Outcome) -> dict[str, Any]:
    """Return what an API would cost for the same requests, and from which use of its capacity the present plan is
    cheaper.
    """
    option = now.option
    hourly = price.dollars_per_request(option.workload) * option.requests_per_second * 3_600.0
    tokens = option.workload.output_tokens * option.requests_per_second * 3_600.0
    share = None
    if now.cost is not None and now.replicas and now.capacity_requests_per_second:
        capacity = now.replicas * now.capacity_requests_per_second
        share = break_even_share(now.cost.dollars_per_hour, capacity, option.workload, price)
    prices = price.dollars_per_million_input_tokens, price.dollars_per_million_output_tokens
    return {
        "plan": f"API at ${prices[0]:g} in, ${prices[1]:g} out",
        "requests_per_second": option.requests_per_second,
        "dollars_per_hour": hourly,
        "dollars_per_million_output_tokens": hourly / tokens * 1e6 if tokens else None,
        "break_even_utilisation": share,
        "caveats": ["its latency and the quality of its answers are not judged"],
    }


def api_cells(told: dict[str, Any]) -> tuple[Value, ...]:
    """Return that of an API as a row of the table."""
    share = told["break_even_utilisation"]
    note = "no price to compare with" if share is None else f"now is cheaper above {share:.0%} use"
    nothing: list[Value] = [None] * 7
    return (told["plan"], *nothing, told["dollars_per_hour"], told["dollars_per_million_output_tokens"], note)


def _plain(outcome: Outcome) -> dict[str, Any]:
    cost, price, option = outcome.cost, outcome.price, outcome.option
    drafting = option.serving if isinstance(option.serving, Drafting) else None
    return {
        "plan": option.name,
        "gpu": option.deployment.gpu,
        "tensor_parallel": option.deployment.tensor_parallel,
        "precision": option.deployment.precision,
        "kv_precision": option.deployment.kv_precision,
        "pipeline_parallel": option.deployment.pipeline_parallel,
        "expert_parallel": option.deployment.expert_parallel,
        "data_parallel": option.deployment.data_parallel,
        "engine": option.deployment.engine,
        "draft_tokens": drafting.draft_tokens if drafting else None,
        "acceptance": drafting.acceptance if drafting else None,
        "prefill_replicas": outcome.prefill_replicas,
        "requests_per_second": option.requests_per_second,
        "fits": outcome.fits,
        "feasible": outcome.feasible,
        "replicas": outcome.replicas,
        "replicas_lower": outcome.replicas_lower,
        "replicas_upper": outcome.replicas_upper,
        "gpus": outcome.gpus,
        "capacity_requests_per_second": outcome.capacity_requests_per_second,
        "ttft_seconds": outcome.ttft_seconds,
        "tpot_seconds": outcome.tpot_seconds,
        "binding": outcome.binding,
        "confidence": outcome.confidence,
        "price": None
        if price is None
        else {
            "dollars_per_gpu_hour": price.dollars_per_gpu_hour,
            "source": price.source,
            "as_of": price.as_of,
        },
        "dollars_per_hour": None if cost is None else cost.dollars_per_hour,
        "dollars_per_million_output_tokens": None if cost is None else cost.dollars_per_million_output_tokens,
        "dollars_per_million_tokens": None if cost is None else cost.dollars_per_million_tokens,
        "utilisation": None if cost is None else cost.utilisation,
        "problem": outcome.problem,
        "caveats": list(outcome.caveats),
    }


def notes_text(plans: Iterable[PlanRow]) -> str:
    """Return what is to be said of the plans, each note once with the plans that it is of."""
    named: dict[str, list[str]] = {}
    for plan in plans:
        for note in plan.notes():
            named.setdefault(note, []).append(plan.name)
    return "\n".join(["", *(f"{'; '.join(names)}: {note}" for note, names in named.items())]) if named else ""
