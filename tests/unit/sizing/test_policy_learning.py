from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from sizing.memory import resolve
from sizing.model import Confidence, Demand, Deployment, PolicyConfig, Slo, Workload
from sizing.observed import ObservedLoad
from sizing.policy import ReplicaController
from sizing.replica import ReplicaModel
from sizing.steptime import StepCoefficients

DEPLOYMENT = Deployment("llama-3.1-8b", "h100-sxm")


def load(rate: float, e2e_ratio: float = 1.0, tokens: float = 1000.0) -> ObservedLoad:
    """What a replica whose steps take ``e2e_ratio`` times the prior's shows at a rate."""
    prior = StepCoefficients()
    names = [name for name in prior.__dataclass_fields__ if name != "learned"]
    slower = replace(prior, **{name: getattr(prior, name) * e2e_ratio for name in names})
    model = ReplicaModel(resolve(DEPLOYMENT), Workload(tokens, 200), coefficients=slower)
    batch = model.lane_batch(rate)
    assert batch is not None
    latency = model.mean_latency(batch)
    return ObservedLoad(tokens, 200, latency.ttft_seconds + 199 * latency.tpot_seconds, rate)


def taught(ratio: float, loads: int = 40) -> ReplicaController:
    subject = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    for i in range(loads):
        assert subject.observe(load(4.0 + i % 10, ratio))
    return subject


def steady() -> Demand:
    return Demand((0.1, 0.5, 0.9), (15.0, 20.0, 24.0), Workload(1000, 200), 120.0, observed_requests_per_second=20.0)


def test_observed_loads_make_the_advice_calibrated_and_move_it() -> None:
    before = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash").decide(
        0.0, steady(), 2, gap=False, warm=True
    )
    slow = taught(1.5).decide(0.0, steady(), 2, gap=False, warm=True)
    assert before.confidence is Confidence.INTERPOLATED
    assert slow.confidence is Confidence.CALIBRATED
    name = "capacity_requests_per_second_per_replica"
    assert slow.evidence[name] < 0.85 * before.evidence[name]
    assert slow.evidence["calibration_loads"] == 40
    assert 0.0 <= slow.evidence["interval_coverage_ratio"] <= 1.0


def test_few_or_equal_loads_change_nothing() -> None:
    few, equal = taught(1.5, 9), ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    for _ in range(50):
        equal.observe(load(6.0, 1.5))
    plain = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    expected = plain.decide(0.0, steady(), 2, gap=False, warm=True)
    for subject in (few, equal):
        advice = subject.decide(0.0, steady(), 2, gap=False, warm=True)
        assert advice.confidence is Confidence.INTERPOLATED
        assert (advice.desired, advice.lower, advice.upper) == (expected.desired, expected.lower, expected.upper)


@pytest.mark.parametrize(
    "impossible",
    [
        ObservedLoad(1000, 200, float("nan"), 5.0),
        ObservedLoad(1000, 200, -1.0, 5.0),
        ObservedLoad(1000, 200, 5.0, 1e6),
        ObservedLoad(1000, 1, 5.0, 5.0),
        ObservedLoad(100_000, 2, 5.0, 0.1),
        ObservedLoad(1e12, 200, 5.0, 5.0),
        ObservedLoad(1000, 200, 5.0, 5.0, cached_share=7.0),
    ],
)
def test_loads_that_cannot_be_teach_nothing(impossible: ObservedLoad) -> None:
    subject = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    assert not subject.observe(impossible)
    unknown = ReplicaController("m", "p", replace(DEPLOYMENT, gpu="abacus"), Slo(), PolicyConfig(), "hash")
    assert not unknown.observe(load(5.0))


def test_what_was_learned_survives_a_restart_to_the_bit() -> None:
    live = taught(1.3, 23)
    restored = pickle.loads(pickle.dumps(live))
    for i in range(30):
        for subject in (live, restored):
            subject.observe(load(3.0 + i % 7, 1.3))
        assert live.decide(60.0 * i, steady(), 2, gap=False, warm=True) == restored.decide(
            60.0 * i, steady(), 2, gap=False, warm=True
        )
