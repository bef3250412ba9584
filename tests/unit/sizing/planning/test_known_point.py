from __future__ import annotations

import pytest

from sizing.calibration.calibrator import calibrated
from sizing.calibration.global_fit import builtin_learned
from sizing.calibration.measurement import ObservedPoint
from sizing.compare import Option, evaluate
from sizing.explain.question import Question, Worked
from sizing.planning.known_point import known_point
from sizing.planning.plan import Planner
from sizing.planning.workload_grid import rounded
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.report import size_report
from sizing.types import Confidence, Demand, Deployment, PolicyConfig, Slo, Workload

CHAT = Workload(1000, 250)
POLICY = PolicyConfig(max_replicas=1_000)
RESOLVED = resolve(Deployment("llama-3.1-8b", "h100-sxm"))


def measured(step_factor: float, ttft_factor: float) -> list[ObservedPoint]:
    """Points of a deployment whose steps and first tokens take so many times what the model says."""
    replica = ReplicaModel(RESOLVED, CHAT)
    points = []
    for batch in (4.0, 20.0, 60.0, 100.0):
        latency = replica.latency(batch, 0.5)
        tpot = latency.tpot_seconds * step_factor
        rate = batch / (CHAT.output_tokens * tpot)
        points.append(ObservedPoint(1000, 250, tpot, latency.ttft_seconds * ttft_factor, requests_per_second=rate))
    return points


def test_without_measurements_it_is_the_global_fit() -> None:
    _, known = known_point(RESOLVED, CHAT, Slo())
    assert known.support.step_ratios_80 == builtin_learned().tpot_interval_80.factors(0.0, "dense, vllm")
    assert (known.confidence, known.points, known.ttft_ratio) == (Confidence.INTERPOLATED, 0, 1.0)
    _, assumed = known_point(resolve(Deployment("llama-3.1-8b", "mi300x")), CHAT, Slo())
    assert assumed.confidence is Confidence.EXTRAPOLATED


def test_slower_than_thought_carries_less_and_is_known_better() -> None:
    before, unmeasured = known_point(RESOLVED, CHAT, Slo(1.0, 0.03))
    calibration = calibrated(RESOLVED, measured(1.4, 1.4))
    after, known = known_point(RESOLVED, CHAT, Slo(1.0, 0.03), calibration=calibration)
    assert after.requests_per_second < 0.85 * before.requests_per_second
    assert after.at_slo.tpot_seconds == pytest.approx(0.03, rel=1e-3)
    assert known.support.step_ratios_80[0] > unmeasured.support.step_ratios_80[0]
    assert known.support.step_ratios_80[1] < unmeasured.support.step_ratios_80[1]
    assert (known.confidence, known.points) == (Confidence.CALIBRATED, 4)
    assert "calibrated" in after.message


def test_measured_first_tokens_count_against_their_objective() -> None:
    slo = Slo(0.15, None)
    before, _ = known_point(RESOLVED, CHAT, slo)
    slow, known = known_point(RESOLVED, CHAT, slo, calibration=calibrated(RESOLVED, measured(1.0, 2.0)))
    assert known.ttft_ratio > 1.4
    assert slow.requests_per_second < before.requests_per_second
    assert slow.at_slo.ttft_seconds <= 0.15 * 1.001


def spread_points(count: int, step_factor: float, ttft_factor: float) -> list[ObservedPoint]:
    """So many loads of a deployment whose steps and first tokens take so many times what the model says."""
    replica = ReplicaModel(RESOLVED, CHAT)
    points = []
    for index in range(count):
        batch = 4.0 + 8.0 * index
        latency = replica.latency(batch, 0.5)
        tpot = latency.tpot_seconds * step_factor
        rate = batch / (CHAT.output_tokens * tpot)
        points.append(ObservedPoint(1000, 250, tpot, latency.ttft_seconds * ttft_factor, requests_per_second=rate))
    return points


@pytest.mark.parametrize("count", [0, 4, 12])
@pytest.mark.parametrize(
    ("step_factor", "slo"), [(1.4, Slo(1.0, 0.03)), (1.8, Slo(1.0, 0.05)), (0.7, Slo(1.0, 0.03)), (1.4, Slo(0.2, None))]
)
def test_the_live_planner_and_the_offline_answer_are_one(count: int, step_factor: float, slo: Slo) -> None:
    calibration = calibrated(RESOLVED, spread_points(count, step_factor, step_factor)) if count else None
    live = Planner(RESOLVED.deployment, slo, calibration=calibration)
    workload = rounded(CHAT)
    offline, known = known_point(RESOLVED, workload, slo, calibration=calibration)
    assert live.operating_point(CHAT) == offline
    assert live.known(CHAT) == (offline, known)
    demand = Demand((0.5,), (200.0,), workload, 120.0)
    report = size_report(RESOLVED.deployment, workload, slo, 200.0, POLICY, calibration=calibration)
    outcome = evaluate(Option("one", RESOLVED.deployment, workload, slo, 200.0, calibration=calibration), POLICY)
    explained = Worked(Question(RESOLVED.deployment, slo, demand, POLICY, calibration=calibration))
    planned = live.plan(demand, POLICY)
    expected = (planned.desired, planned.lower, planned.upper, known.confidence)
    assert (report.replicas, report.replicas_lower, report.replicas_upper, report.confidence) == expected
    assert (outcome.replicas, outcome.replicas_lower, outcome.replicas_upper, outcome.confidence) == expected
    worked = (explained.plan.desired, explained.plan.lower, explained.plan.upper, explained.known.confidence)
    assert worked == expected


def test_a_few_measured_first_tokens_make_a_plan_more_careful_only() -> None:
    slow, fast = (calibrated(RESOLVED, spread_points(4, 1.0, factor)) for factor in (2.0, 0.3))
    assert known_point(RESOLVED, CHAT, Slo(0.15, None), calibration=slow)[1].ttft_ratio > 1.4
    assert known_point(RESOLVED, CHAT, Slo(0.15, None), calibration=fast)[1].ttft_ratio == 1.0
    many = calibrated(RESOLVED, spread_points(12, 1.0, 0.3))
    assert known_point(RESOLVED, CHAT, Slo(0.15, None), calibration=many)[1].ttft_ratio == 0.5
