from __future__ import annotations

import pytest

from sizing.calibrate import calibrated
from sizing.known import known_point
from sizing.memory import resolve
from sizing.model import Confidence, Deployment, Slo, Workload
from sizing.observed import ObservedPoint
from sizing.plan import STEP_TIME_ERROR_RATIO
from sizing.replica import ReplicaModel

CHAT = Workload(1000, 250)
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
    assert known.error_ratio == STEP_TIME_ERROR_RATIO
    assert (known.confidence, known.points, known.ttft_ratio) == (Confidence.INTERPOLATED, 0, 1.0)
    _, assumed = known_point(resolve(Deployment("llama-3.1-8b", "mi300x")), CHAT, Slo())
    assert assumed.confidence is Confidence.EXTRAPOLATED


def test_slower_than_thought_carries_less_and_is_known_better() -> None:
    before, _ = known_point(RESOLVED, CHAT, Slo(1.0, 0.03))
    calibration = calibrated(RESOLVED, measured(1.4, 1.4))
    after, known = known_point(RESOLVED, CHAT, Slo(1.0, 0.03), calibration=calibration)
    assert after.requests_per_second < 0.85 * before.requests_per_second
    assert after.at_slo.tpot_seconds == pytest.approx(0.03, rel=1e-3)
    assert known.error_ratio < STEP_TIME_ERROR_RATIO
    assert (known.confidence, known.points) == (Confidence.CALIBRATED, 4)
    assert "calibrated" in after.message


def test_measured_first_tokens_count_against_their_objective() -> None:
    slo = Slo(0.15, None)
    before, _ = known_point(RESOLVED, CHAT, slo)
    slow, known = known_point(RESOLVED, CHAT, slo, calibration=calibrated(RESOLVED, measured(1.0, 2.0)))
    assert known.ttft_ratio > 1.4
    assert slow.requests_per_second < before.requests_per_second
    assert slow.at_slo.ttft_seconds <= 0.15 * 1.001
