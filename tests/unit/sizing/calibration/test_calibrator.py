from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sizing.calibration.calibrator import Calibrator, calibrated
from sizing.calibration.measurement import COEFFICIENTS, ObservedPoint, implied_lane_batch, step_terms
from sizing.calibration.table import calibrations, observed_point, predict_point
from sizing.errors import DoesNotFit, InvalidInput, SizingError
from sizing.replica.memory import require_fit, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import Deployment, Workload

H100 = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
PRIOR = StepCoefficients()


def changed(**ratios: float) -> StepCoefficients:
    return replace(PRIOR, **{name: getattr(PRIOR, name) * ratio for name, ratio in ratios.items()})


def measured(truth: StepCoefficients, tokens_in: float, tokens_out: float, batch: float) -> ObservedPoint:
    """What a replica with ``truth`` shows at a batch."""
    model = ReplicaModel(H100, Workload(tokens_in, tokens_out), coefficients=truth)
    ttft = model.latency(batch, 0.5).ttft_seconds
    return ObservedPoint(
        tokens_in, tokens_out, model.step_seconds(batch), ttft, requests_per_second=model.requests_per_second(batch)
    )


def varied(truth: StepCoefficients) -> list[ObservedPoint]:
    shapes = ((100, 400, 4), (100, 400, 100), (4000, 100, 2), (4000, 100, 20), (8000, 1000, 30), (1000, 1000, 200))
    return [measured(truth, *shape) for shape in shapes]


def test_the_terms_are_the_step_of_the_replica() -> None:
    workload = Workload(1000, 200, 2e6, 1.2e5, 2.4e5, cached_share=0.3)
    model = ReplicaModel(H100, workload)
    values = [getattr(PRIOR, name) for name in COEFFICIENTS]
    assert step_terms(H100, workload, 20.0) @ values == pytest.approx(model.step_seconds(20.0))


def test_without_points_it_is_the_prior_with_its_spread() -> None:
    learned = calibrated(H100, [])
    assert learned.coefficients == PRIOR
    assert min(learned.log_spread.values()) > 0.3
    known = learned.at(Workload(1000, 200), 20.0)
    assert (known.step_ratio, known.ttft_ratio, known.near) == (1.0, 1.0, False)
    assert known.step_log_sd > 0.3


def test_points_that_the_prior_explains_leave_it_and_narrow_it() -> None:
    learned = calibrated(H100, varied(PRIOR))
    for name in COEFFICIENTS:
        assert getattr(learned.coefficients, name) == pytest.approx(getattr(PRIOR, name), rel=0.02)
    near, far = learned.at(Workload(4000, 100), 15.0), learned.at(Workload(100_000, 20), 2.0)
    assert near.near
    assert not far.near
    assert near.step_log_sd < 0.15 < far.step_log_sd
    assert near.step_log_sd < 0.4 * calibrated(H100, []).at(Workload(4000, 100), 15.0).step_log_sd


@pytest.mark.parametrize("name", ["compute_ratio", "kv_ratio"])
def test_a_slower_term_is_found_from_varied_loads(name: str) -> None:
    """And carries over to loads that were not observed."""
    truth = changed(**{name: 1.6})
    learned = calibrated(H100, varied(truth))
    assert getattr(learned.coefficients, name) / getattr(PRIOR, name) > 1.2
    others = [other for other in ("compute_ratio", "kv_ratio") if other != name]
    assert getattr(learned.coefficients, others[0]) / getattr(PRIOR, others[0]) == pytest.approx(1.0, abs=0.2)
    elsewhere = measured(truth, 2000, 300, 40.0)
    known = learned.at(elsewhere.workload, 40.0)
    model = ReplicaModel(H100, elsewhere.workload, dispersion=0.0, coefficients=learned.scaled(known.step_ratio))
    assert model.step_seconds(40.0) == pytest.approx(elsewhere.tpot_seconds, rel=0.06)


def test_one_shape_moves_the_coefficients_only_together() -> None:
    """What a single load cannot tell apart is not told apart."""
    truth = changed(weight_ratio=1.5)
    point = measured(truth, 200, 400, 8.0)
    learned = calibrated(H100, [point, point])
    ratios = [getattr(learned.coefficients, name) / getattr(PRIOR, name) for name in COEFFICIENTS]
    assert max(ratios) / min(ratios) < 1.001
    assert 1.1 < ratios[0] < 1.5
    assert learned.log_spread["compute_ratio"] > 0.35
    # Nearby the rest is made up for locally; far away it is not.
    assert learned.at(point.workload, 8.0).step_ratio > 1.02
    assert learned.at(Workload(50_000, 20), 1.0).step_ratio == pytest.approx(1.0, abs=0.01)


def test_coefficients_stay_within_a_factor_of_two() -> None:
    learner = Calibrator(H100, forgetting=1.0)
    points = varied(changed(**dict.fromkeys(COEFFICIENTS, 9.0)))
    for point in points:
        learner.update(point)
    learned = learner.calibration
    ratios = [getattr(learned.coefficients, name) / getattr(PRIOR, name) for name in COEFFICIENTS]
    assert max(ratios) <= 2.0 * (1 + 1e-9)
    known = learned.at(Workload(4000, 100), 20.0)
    assert math.isfinite(known.step_ratio)
    assert known.step_ratio > 2.0
    # A whole load test, which is learned at once, first scales all of them by what the entry is off.
    whole = calibrated(H100, points)
    assert whole.entry_ratio == pytest.approx(9.0, rel=0.01)
    assert whole.coefficients.weight_ratio == pytest.approx(9.0 * PRIOR.weight_ratio, rel=0.05)
    assert not whole.at(Workload(4000, 100), 20.0).near


def test_order_is_irrelevant_without_forgetting_and_results_repeat() -> None:
    points = varied(changed(kv_ratio=1.4))
    one, other = calibrated(H100, points), calibrated(H100, points[::-1])
    workload = Workload(3000, 300)
    assert one.at(workload, 20.0).step_ratio == pytest.approx(other.at(workload, 20.0).step_ratio, rel=1e-9)
    assert one.at(workload, 20.0) == calibrated(H100, points).at(workload, 20.0)


def test_what_changed_is_learned_anew_and_memory_is_bounded() -> None:
    learner = Calibrator(H100, forgetting=0.9, max_points=12)
    random = np.random.default_rng(1)
    for truth in (changed(weight_ratio=1.5), PRIOR):
        for _ in range(40):
            batch = float(random.uniform(4, 60))
            learner.update(measured(truth, float(random.uniform(200, 3000)), 300.0, batch))
    learned = learner.calibration
    assert len(learned.points) == 12
    now = measured(PRIOR, 1000, 300, 20.0)
    model = ReplicaModel(H100, now.workload, dispersion=0.0, coefficients=learned.coefficients)
    step = model.step_seconds(20.0) * learned.at(now.workload, 20.0).step_ratio
    assert step == pytest.approx(now.tpot_seconds, rel=0.05)
    assert learner.calibration is learned


def test_ttft_gets_a_factor_of_its_own() -> None:
    points = [replace(point, ttft_seconds=3.0 * (point.ttft_seconds or 0.0)) for point in varied(PRIOR)]
    known = calibrated(H100, points).at(Workload(4000, 100), 15.0)
    assert known.ttft_ratio == pytest.approx(3.0, rel=0.25)
    assert known.step_ratio == pytest.approx(1.0, abs=0.03)
    silent = [replace(point, ttft_seconds=None) for point in points]
    assert calibrated(H100, silent).at(Workload(4000, 100), 15.0).ttft_ratio == 1.0


def test_the_batch_is_little_s() -> None:
    closed = ObservedPoint(1000, 200, 0.01, 0.5, concurrency=100.0, closed_loop=True)
    assert implied_lane_batch(H100, closed, PRIOR) == pytest.approx(100 * 2.0 / 2.5)
    rate = ObservedPoint(1000, 200, 0.01, requests_per_second=10.0)
    assert implied_lane_batch(H100, rate, PRIOR) == pytest.approx(20.0)
    unknown = ObservedPoint(1000, 200, 0.01, concurrency=100.0)
    assert 60 < implied_lane_batch(H100, unknown, PRIOR) < 100


@pytest.mark.parametrize(
    "field",
    [
        {"tpot_seconds": 0.0},
        {"tpot_seconds": math.nan},
        {"input_tokens": -1.0},
        {"ttft_seconds": math.inf},
        {"requests_per_second": None},
        {"cached_share": 2.0},
    ],
)
def test_points_that_cannot_be(field: dict[str, float]) -> None:
    good = ObservedPoint(1000, 200, 0.01, 0.1, requests_per_second=5.0)
    with pytest.raises(InvalidInput):
        calibrated(H100, [replace(good, **field)])


def test_learners_that_cannot_be() -> None:
    for options in ({"forgetting": 0.0}, {"forgetting": 1.5}, {"max_points": 0}):
        with pytest.raises(InvalidInput):
            Calibrator(H100, **options)  # type: ignore[arg-type]


ROW = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "precision": "bf16", "isl": 1000, "osl": 200}


def test_observed_rows_calibrate_predictions_of_the_same_deployment_only() -> None:
    plain = predict_point({**ROW, "concurrency": 16})
    slow = plain["tpot_ms_p50"] * 1.4
    learned = calibrations(
        [
            {**ROW, "concurrency": 16, "tpot_ms": slow, "ttft_ms": plain["ttft_ms_p50"]},
            {**ROW, "concurrency": "32", "tpot_ms_p50": str(slow * 1.3), "tp": ""},
        ]
    )
    answer = predict_point({**ROW, "concurrency": 16}, calibrations=learned)
    assert answer["tpot_ms_p50"] == pytest.approx(slow, rel=0.08)
    assert answer["confidence"] == "calibrated"
    width, before = (math.log(one["tpot_ms_upper"] / one["tpot_ms_lower"]) for one in (answer, plain))
    assert width < 0.5 * before
    assert answer["tpot_ms_lower"] < slow < answer["tpot_ms_upper"]
    assert answer["ttft_ms_upper"] / answer["ttft_ms_lower"] < plain["ttft_ms_upper"] / plain["ttft_ms_lower"]
    far = predict_point({**ROW, "isl": 30_000, "concurrency": 16}, calibrations=learned)
    assert far["confidence"] == "extrapolated", "seven times the longest input that was measured anywhere"
    assert far["tpot_ms_upper"] / far["tpot_ms_lower"] > width
    rate = predict_point({**ROW, "request_rate": 5}, calibrations=learned)
    assert rate["error"] is None
    other = {**ROW, "gpu": "h200-sxm", "concurrency": 16}
    assert predict_point(other, calibrations=learned) == predict_point(other)


def test_observed_rows_that_cannot_be_read_say_which() -> None:
    with pytest.raises(SizingError, match=r"observed row 2: tpot_ms_p50 is missing"):
        calibrations([{**ROW, "concurrency": 1, "tpot_ms": 5}, {**ROW, "concurrency": 1}])
    with pytest.raises(SizingError, match="observed row mine: unknown GPU"):
        calibrations([{**ROW, "id": "mine", "gpu": "abacus", "concurrency": 1, "tpot_ms": 5}])
    with pytest.raises(InvalidInput):
        observed_point({**ROW, "tpot_ms": 5})


def test_new_points_are_compared_with_a_posterior_that_lacks_at_most_ten_and_no_news() -> None:
    learner = Calibrator(H100)
    for index in range(12):
        learner.update(measured(PRIOR, 1000, 200, 4.0 + index))
    before = learner.recent
    learner.update(measured(PRIOR, 1000, 200, 9.5))
    assert learner.recent is before, "it repeats what is known"
    learner.update(measured(changed(**dict.fromkeys(COEFFICIENTS, 1.9)), 1000, 200, 9.0))
    assert learner.recent is not before, "it was news"
    assert len(learner.recent.points) == 14
    copy = pickle.loads(pickle.dumps(learner))
    for each in (learner, copy):
        for index in range(11):
            each.update(measured(PRIOR, 1000, 200, 5.0 + index))
    assert copy.recent.at(Workload(1000, 200), 9.0) == learner.recent.at(Workload(1000, 200), 9.0)


def test_places_beyond_those_of_the_deployment_take_no_memory_from_a_load_test() -> None:
    """The sampling step's buffers grow with max_num_seqs: with a place for every token this would not fit."""
    tight = resolve(Deployment("kimi-k2", "b200-sxm", tensor_parallel=4, precision="nvfp4", max_num_seqs=64))
    with pytest.raises(DoesNotFit):
        require_fit(replace(tight, deployment=replace(tight.deployment, max_num_seqs=10_000_000)))
    point = ObservedPoint(1024, 1024, 0.012, 0.2, concurrency=16.0, closed_loop=True)
    assert calibrated(tight, [point]).entry_ratio > 0


def test_nothing_is_said_of_a_first_token_that_would_wait_without_end() -> None:
    """Long prompts in small steps: decoding sustains the rate, prefill does not."""
    small = resolve(
        Deployment("gpt-oss-120b", "h200-nvl", tensor_parallel=2, max_num_seqs=1024, max_batched_tokens=512)
    )
    point = ObservedPoint(6161.0, 43.9, 0.033, ttft_seconds=0.2, requests_per_second=4.05)

    step, first = Calibrator(small).surprise(point)

    assert math.isfinite(step)
    assert first is None


def test_only_points_within_a_factor_of_about_two_are_near() -> None:
    learner = Calibrator(H100)
    seen = measured(PRIOR, 1000, 200, 20)
    assert not learner.is_near(seen), "nothing was learned yet"
    learner.update(seen)
    assert learner.is_near(measured(PRIOR, 1500, 200, 25))
    assert not learner.is_near(measured(PRIOR, 1000, 200, 60))
    assert not learner.is_near(measured(PRIOR, 4000, 200, 20))
    with pytest.raises(InvalidInput):
        learner.is_near(replace(seen, tpot_seconds=math.nan))
