from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from sizing.calibration.measurement import COEFFICIENTS, ObservedLoad, point_of_load
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.scaling.controller import ReplicaController
from sizing.types import Confidence, Demand, Deployment, PolicyConfig, Recommendation, Slo, Workload

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


def slow_prefill(rate: float, ratio: float, *, told: bool = True) -> ObservedLoad:
    """What a replica whose prompts take ``ratio`` times as long shows at a rate; steps are as the prior has them."""
    model = ReplicaModel(resolve(DEPLOYMENT), Workload(6000, 100))
    batch = model.lane_batch(rate)
    assert batch is not None
    latency = model.mean_latency(batch)
    ttft = latency.ttft_seconds * ratio
    e2e = ttft + 99 * latency.tpot_seconds
    return ObservedLoad(6000, 100, e2e, rate, ttft_seconds=ttft if told else None, tpot_seconds=latency.tpot_seconds)


def after(loads: list[ObservedLoad], ttft_seconds: float = 0.4) -> Recommendation:
    subject = ReplicaController("m", "p", DEPLOYMENT, Slo(ttft_seconds, 0.2), PolicyConfig(max_replicas=200), "hash")
    for each in loads:
        subject.observe(each)
    demand = Demand((0.1, 0.5, 0.9), (30.0, 40.0, 48.0), Workload(6000, 100), 120.0, observed_requests_per_second=40.0)
    return pickle.loads(pickle.dumps(subject)).decide(0.0, demand, 30, gap=False, warm=True)


@pytest.mark.slow
def test_a_slow_first_token_is_learned_from_live_windows() -> None:
    name = "capacity_requests_per_second_per_replica"
    rates = [1.0 + i % 6 for i in range(40)]
    plain = after([slow_prefill(rate, 1.0) for rate in rates])
    slow = after([slow_prefill(rate, 2.0) for rate in rates])
    assert slow.evidence[name] < 0.9 * plain.evidence[name]
    assert slow.desired > plain.desired
    # Within what is predicted, as measured: about the objective itself binds.
    assert slow.evidence["predicted_ttft_seconds"] <= 0.4
    # Nothing told, nothing learned of it.
    untold = after([slow_prefill(rate, 2.0, told=False) for rate in rates])
    assert untold.evidence[name] == pytest.approx(plain.evidence[name], rel=0.05)


@pytest.mark.slow
def test_a_fast_first_token_is_believed_down_to_one_half() -> None:
    rates = [1.0 + i % 6 for i in range(40)]
    half, tenth = (after([slow_prefill(rate, ratio) for rate in rates]) for ratio in (0.5, 0.1))
    name = "capacity_requests_per_second_per_replica"
    assert tenth.evidence[name] <= half.evidence[name] * 1.1


def test_a_queue_teaches_nothing_of_the_first_token() -> None:
    model = ReplicaModel(resolve(DEPLOYMENT), Workload(6000, 100))
    near = 0.95 * model.saturation_requests_per_second
    resolved, prior = resolve(DEPLOYMENT), StepCoefficients()
    calm = point_of_load(resolved, slow_prefill(2.0, 1.0), prior)
    queue = point_of_load(resolved, slow_prefill(near, 20.0), prior)
    assert calm is not None
    assert calm.ttft_seconds is not None
    assert queue is not None
    assert queue.ttft_seconds is None


def measured(rate: float, tpot_ratio: float = 1.0, ttft_ratio: float = 1.0) -> ObservedLoad:
    """A load whose times per output token and to first token were measured, as the prior has them but for a factor."""
    model = ReplicaModel(resolve(DEPLOYMENT), Workload(1000, 200))
    batch = model.lane_batch(rate)
    assert batch is not None
    seen = model.mean_latency(batch)
    e2e = seen.ttft_seconds + 199 * seen.tpot_seconds
    return ObservedLoad(
        1000,
        200,
        e2e,
        rate,
        ttft_seconds=seen.ttft_seconds * ttft_ratio,
        tpot_seconds=seen.tpot_seconds * tpot_ratio,
    )


def capacity(subject: ReplicaController) -> float:
    advice = subject.decide(0.0, steady(), 2, gap=False, warm=True)
    return advice.evidence["capacity_requests_per_second_per_replica"]


@pytest.mark.slow
@pytest.mark.parametrize("odd", [{"tpot_ratio": 0.05}, {"tpot_ratio": 0.3}, {"tpot_ratio": 5.0}, {"tpot_ratio": 100.0}])
@pytest.mark.parametrize("after", [24, 60])
def test_one_odd_window_of_times_per_token_moves_nothing(odd: dict[str, float], after: int) -> None:
    subject, steady_one = (ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash") for _ in range(2))
    for i in range(after + 60):
        rate = 4.0 + i % 10
        steady_one.observe(measured(rate))
        subject.observe(measured(rate, **odd) if i == after else measured(rate))
    assert capacity(subject) == pytest.approx(capacity(steady_one), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1e-3, 1e3])
def test_one_odd_time_to_first_token_moves_nothing(ratio: float) -> None:
    subject, steady_one = (ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash") for _ in range(2))
    for i in range(90):
        rate = 4.0 + i % 10
        steady_one.observe(measured(rate))
        assert subject.observe(measured(rate, ttft_ratio=ratio) if i == 40 else measured(rate)), "its other time counts"
    assert capacity(subject) == pytest.approx(capacity(steady_one), rel=0.02)


@pytest.mark.slow
def test_what_lasts_is_believed() -> None:
    subject = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    for i in range(60):
        subject.observe(measured(4.0 + i % 10))
    before = capacity(subject)
    told = [subject.observe(measured(4.0 + i % 10, tpot_ratio=3.0)) for i in range(60)]
    assert told[:4] == [False] * 4
    assert told[4]
    assert capacity(subject) < 0.9 * before


def fed(*seen: tuple[float, float]) -> ReplicaController:
    """A controller that has seen loads of these rates, whose times per token are so many times those of the prior."""
    subject = ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash")
    for rate, ratio in seen:
        assert subject.observe(measured(rate, tpot_ratio=ratio))
    return subject


def test_a_second_load_that_confirms_the_first_is_planned_with() -> None:
    believed = capacity(fed())
    assert capacity(fed((8.0, 1.5))) == believed, "one load alone moves nothing"
    confirmed = capacity(fed((8.0, 1.5), (8.5, 1.5)))
    assert confirmed < 0.9 * believed
    assert confirmed == pytest.approx(capacity(fed(*((8.0 + i % 2 / 2, 1.5) for i in range(40)))), rel=0.05)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(((8.0, 1.5), (8.5, 1.0)), id="another time"),
        pytest.param(((2.0, 1.5), (14.0, 1.5)), id="far from the first"),
        pytest.param(((8.0, 1.5), (8.5, 1.05), (8.0, 1.5), (8.0, 1.5)), id="after one outside its interval"),
    ],
)
def test_loads_that_do_not_confirm_each_other_wait_for_the_fifth(seen: tuple[tuple[float, float], ...]) -> None:
    believed = capacity(fed())
    assert capacity(fed(*seen)) == believed
    more = ((8.0, 1.5),) * (5 - len(seen))
    assert capacity(fed(*seen, *more)) < 0.9 * believed


def test_what_two_loads_taught_survives_a_restart_to_the_bit() -> None:
    live = fed((8.0, 1.5), (8.5, 1.5))
    restored = pickle.loads(pickle.dumps(live))
    assert capacity(restored) == capacity(live)
    for subject in (live, restored):
        subject.observe(measured(9.0, tpot_ratio=1.4))
    assert capacity(restored) == capacity(live)


def beyond(share: float, tpot_ratio: float = 0.6, told: bool = True) -> ObservedLoad:
    """A load at ``share`` of the saturation that the prior has, on a replica whose steps take ``tpot_ratio`` of it."""
    prior = StepCoefficients()
    quick = replace(prior, **{name: getattr(prior, name) * tpot_ratio for name in COEFFICIENTS})
    workload = Workload(1000, 200)
    rate = share * ReplicaModel(resolve(DEPLOYMENT), workload).saturation_requests_per_second
    model = ReplicaModel(resolve(DEPLOYMENT), workload, coefficients=quick)
    batch = model.lane_batch(rate)
    assert batch is not None
    seen = model.mean_latency(batch)
    e2e = seen.ttft_seconds + 199 * seen.tpot_seconds
    return ObservedLoad(1000, 200, e2e, rate, tpot_seconds=seen.tpot_seconds if told else None)


def test_loads_that_the_model_calls_too_many_teach_that_it_is_too_slow() -> None:
    shares = [1.05 + 0.05 * (i % 5) for i in range(40)]
    plain, told, untold = (ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash") for _ in range(3))
    for share in shares:
        told.observe(beyond(share))
        assert not untold.observe(beyond(share, told=False)), "its latency may be a queue's"
    assert capacity(told) > 1.25 * capacity(plain)
    assert capacity(untold) == capacity(plain)


@pytest.mark.slow
def test_one_load_that_cannot_be_moves_nothing() -> None:
    """Half of the replicas were not counted in one window: each seems to do twice as much."""
    subject, steady_one = (ReplicaController("m", "p", DEPLOYMENT, Slo(), PolicyConfig(), "hash") for _ in range(2))
    for i in range(90):
        each = beyond(0.5 + 0.04 * (i % 10), tpot_ratio=1.0)
        steady_one.observe(each)
        twice = replace(each, requests_per_second=3.0 * each.requests_per_second)
        subject.observe(twice if i == 40 else each)
    assert capacity(subject) == pytest.approx(capacity(steady_one), rel=0.02)


def test_more_at_once_than_fits_is_no_evidence() -> None:
    resolved = resolve(DEPLOYMENT)
    load = beyond(1.2)
    assert point_of_load(resolved, load, StepCoefficients()) is not None
    assert load.tpot_seconds is not None
    crowd = replace(load, tpot_seconds=100.0 * load.tpot_seconds, e2e_seconds=100.0 * load.e2e_seconds)
    assert point_of_load(resolved, crowd, StepCoefficients()) is None
