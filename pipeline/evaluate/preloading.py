"""What loading before a spike saved and what idling cost, in an evaluation with and without it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.evaluate.policies.base import PolicySpec, Setup
from pipeline.evaluate.result import PolicyResult
from pipeline.evaluate.run import Run
from sizing.planning.preload import Preload

__all__ = ["Saved", "preloading_dict", "saved"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A policy that loads ahead, less the same rule without it (``beside``).

    ``late_requests_saved`` are requests that were outside the SLO without it, less those with it. ``idle``
    replica-hours are paid for and do not take requests yet. ``cost_more`` in US dollars; None: no price is known.
    """

    policy: str
    beside: str
    late_requests_saved: int
    replica_hours_more: float
    idle_replica_hours_more: float
    cost_more: float | None

    def __str__(self) -> str:
        cost = "" if self.cost_more is None else f" (${self.cost_more:+,.2f})"
        return (
            f"{self.policy} beside {self.beside}: {self.late_requests_saved:,} fewer requests outside the SLO, "
            f"{self.replica_hours_more:+,.2f} replica-hours{cost}, "
            f"{self.idle_replica_hours_more:+,.2f} of them not taking requests yet."
        )


def saved(
    specs: Sequence[PolicySpec],
    results: Iterable[PolicyResult],
    runs: Mapping[str, Run],
    setup: Setup,
    score_from_seconds: float,
) -> tuple[Saved, ...]:
    """Return what each policy that loads ahead saved, where the same rule without it was evaluated, too."""
    by_name = {result.policy: result for result in results}
    arrival = setup.requests.arrival_seconds
    count = int((arrival >= score_from_seconds).sum())
    found = []
    for spec in specs:
        if spec.beside is None or spec.beside not in by_name:
            continue
        with_it, without = by_name[spec.name], by_name[spec.beside]
        late = [count - round((result.slo_attainment or 0.0) * count) for result in (without, with_it)]
        idle = [_idle_hours(runs[name], score_from_seconds, setup.end_seconds) for name in (spec.name, spec.beside)]
        cost = None if with_it.cost is None or without.cost is None else with_it.cost - without.cost
        hours = with_it.replica_hours - without.replica_hours
        found.append(Saved(spec.name, spec.beside, late[0] - late[1], hours, idle[0] - idle[1], cost))
    return tuple(found)


def _idle_hours(run: Run, start: float, end: float) -> float:
    """Return the replica-hours that were paid for before a replica took requests."""
    spans = (
        min(life.ready_seconds, life.drained_seconds, end) - max(life.ordered_seconds, start) for life in run.replicas
    )
    return math.fsum(max(span, 0.0) for span in spans) / 3_600.0


def preloading_dict(plans: Iterable[Preload], compared: Iterable[Saved]) -> dict[str, Any]:
    """Return the ``preloading`` of the results as JSON."""
    events = [
        {
            "event": plan.spike.name,
            "starts_at": plan.spike.starts_at,
            "ends_at": plan.spike.ends_at,
            "replicas": plan.replicas,
            "running": plan.spike.running,
            "begin_at": plan.begin_at,
            "ready_at": plan.ready_at,
            "delay_seconds": plan.delay_seconds,
            "idle_replica_hours": plan.idle_replica_seconds / 3_600.0,
            "idle_dollars": plan.idle_dollars,
            "late_requests_without": plan.late_requests_without,
            "late_requests_with": plan.late_requests_with,
        }
        for plan in plans
    ]
    return {"events": events, "policies": [asdict(item) for item in compared]}
