"""What a policy's run comes to: replica-hours, attainment, latencies, cost, and regret against the oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.load_test import within_slo
from pipeline.evaluate.policies.base import Setup
from pipeline.evaluate.policies.oracle import BIN_SECONDS
from pipeline.evaluate.run import Run, replicas_over_time
from sizing.simulate.replica_state import ReplicaTimes

__all__ = ["PolicyResult", "decision_cost_hours", "policy_result"]

Floats = NDArray[np.float64]

#: Regret compares the fleet with what is needed this often.
_SAMPLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One row of the results. None: unknown, or nothing to say it of.

    Attainment is the share of all requests within the objectives: unserved ones are outside. ``ttft_attainment`` and
    ``tpot_attainment`` are of one objective each. Percentiles are over served requests. ``unserved_requests`` were
    refused, lost with their replica, or never finished; ``late_requests`` were served outside the objectives.
    ``mean_replicas`` and ``replica_hours`` count replicas from their order until they are gone, from the first request
    on; so does ``max_replicas``, which with those that drain may exceed the pool's limit. ``cost`` is US dollars at the
    catalogue's price. ``regret`` is in replica-hours: what was too much, and ``under_to_over_cost`` times what was too
    little, beyond the oracle's own.
    """

    policy: str
    replica_hours: float
    gpu_hours: float
    mean_replicas: float
    max_replicas: int
    slo_attainment: float | None
    ttft_attainment: float | None
    tpot_attainment: float | None
    ttft_p50_seconds: float | None
    ttft_p99_seconds: float | None
    tpot_p95_seconds: float | None
    unserved_requests: int
    scale_events: int
    cost: float | None
    regret: float | None
    ttft_p95_seconds: float | None
    tpot_p50_seconds: float | None
    tpot_p99_seconds: float | None
    late_requests: int


def policy_result(
    name: str,
    run: Run,
    setup: Setup,
    *,
    score_from_seconds: float = 0.0,
    oracle_cost_hours: float | None = None,
    needed: NDArray[np.int64] | None = None,
) -> PolicyResult:
    """Return the figures of one run from ``score_from_seconds`` to the end of the trace.

    ``needed`` are the replicas that each minute needs by the oracle, whose own decisions cost ``oracle_cost_hours``;
    without both the regret is unknown.
    """
    outcome, slo = run.outcome, setup.pool.slo()
    # The fleet is there from the first request on, which may come later than the window that it comes in begins.
    start, end = max(score_from_seconds, float(outcome.requests.arrival_seconds[0])), setup.end_seconds
    scored = outcome.requests.arrival_seconds >= start
    ttft, tpot = outcome.ttft_seconds[scored], outcome.tpot_seconds[scored]
    finished = outcome.finished[scored]
    count = int(scored.sum())
    # What began and was lost later was not served.
    met = {
        "slo_attainment": within_slo(ttft, tpot, slo),
        "ttft_attainment": np.isfinite(ttft) & (ttft <= (slo.ttft_seconds or math.inf)),
        "tpot_attainment": ~(tpot > (slo.tpot_seconds or math.inf)),
    }
    shares = {key: float((value & finished).sum()) / count if count else None for key, value in met.items()}
    hours = math.fsum(_within(life, start, end) for life in run.replicas) / 3_600.0
    changes = [at for at, _ in run.scaled if start <= at < end]
    moments = np.unique([start, *changes, *(life.ordered_seconds for life in run.replicas)])
    most = replicas_over_time(run, moments[(moments >= start) & (moments < end)], ready=False)
    gpu_hours = hours * setup.pool.deployment().gpus
    price = setup.resolved.gpu.price
    regret = None
    if needed is not None and oracle_cost_hours is not None:
        regret = decision_cost_hours(run, setup, needed, score_from_seconds) - oracle_cost_hours
    return PolicyResult(
        policy=name,
        replica_hours=hours,
        gpu_hours=gpu_hours,
        mean_replicas=hours * 3_600.0 / (end - start) if end > start else 0.0,
        max_replicas=int(most.max()) if most.size else 0,
        **shares,
        ttft_p50_seconds=_quantile(ttft[finished], 0.5),
        ttft_p99_seconds=_quantile(ttft[finished], 0.99),
        tpot_p95_seconds=_quantile(tpot[finished], 0.95),
        unserved_requests=count - int(finished.sum()),
        scale_events=len(changes),
        cost=None if price is None else gpu_hours * price.dollars_per_gpu_hour,
        regret=regret,
        ttft_p95_seconds=_quantile(ttft[finished], 0.95),
        tpot_p50_seconds=_quantile(tpot[finished], 0.5),
        tpot_p99_seconds=_quantile(tpot[finished], 0.99),
        late_requests=int((finished & ~met["slo_attainment"]).sum()),
    )


def decision_cost_hours(run: Run, setup: Setup, needed: NDArray[np.int64], start_seconds: float) -> float:
    """Return what the fleet was too large, plus ``under_to_over_cost`` times what it was too small, in replica-hours.

    Too large counts what is ordered, too small what is ready.
    """
    at = np.arange(start_seconds, setup.end_seconds, _SAMPLE_SECONDS)
    need = needed[np.minimum((at // BIN_SECONDS).astype(np.int64), len(needed) - 1)]
    over = np.maximum(replicas_over_time(run, at, ready=False) - need, 0).sum()
    under = np.maximum(need - replicas_over_time(run, at, ready=True), 0).sum()
    return float(over + setup.pool.under_to_over_cost * under) * _SAMPLE_SECONDS / 3_600.0


def _within(life: ReplicaTimes, start: float, end: float) -> float:
    return max(min(life.gone_seconds, end) - max(life.ordered_seconds, start), 0.0)


def _quantile(values: Floats, level: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, level)) if known.size else None
