from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from pipeline.demo.fleet import history
from pipeline.demo.scenario import SCENARIOS, scenario
from pipeline.engine.load_samples import LoadObserver
from pipeline.engine.workload_moments import LengthMoments
from pipeline.windows.types import ClosedWindow
from sizing.scaling.controller import ReplicaController
from sizing.types import Confidence, Demand

WINDOW = ClosedWindow(
    start=0,
    grain_seconds=60,
    model="m",
    pool="p",
    requests=600,
    ok=600,
    rejected=0,
    input_tokens=600_000,
    cached_input_tokens=150_000,
    output_tokens=120_000,
    input_tokens_squared=0,
    output_tokens_squared=0,
    input_output_product=0,
    kv_token_milliseconds=0,
    inflight_milliseconds=2_400_000,
    preemptions=0,
    current_replicas=2,
    ready_replicas=2,
)


def test_what_the_window_tells_of_first_and_further_tokens_is_the_evidence() -> None:
    load = warm().load(replace(WINDOW, ttft_seconds=0.3, tpot_seconds=0.02))
    assert load is not None
    assert (load.ttft_seconds, load.tpot_seconds) == (0.3, 0.02)
    # Of requests with one token each nothing is known, and a mean of zero is no measurement.
    for nothing in (None, 0.0):
        load = warm().load(replace(WINDOW, ttft_seconds=nothing, tpot_seconds=nothing))
        assert load is not None
        assert (load.ttft_seconds, load.tpot_seconds) == (None, None)


def warm() -> LoadObserver:
    observer = LoadObserver()
    observer.load(WINDOW)
    return observer


def test_a_window_is_a_load_of_one_replica() -> None:
    load = warm().load(WINDOW)
    assert load is not None
    assert (load.input_tokens, load.output_tokens, load.cached_share) == (1000.0, 200.0, 0.25)
    assert load.e2e_seconds == pytest.approx(4.0)
    assert load.requests_per_second == pytest.approx(5.0)


@pytest.mark.parametrize(
    "change",
    [
        {"gap": True},
        {"ready_replicas": None},
        {"ready_replicas": 0},
        {"ready_replicas": 3},
        {"completeness": 0.5},
        {"preemptions": 1},
        {"requests": 10, "ok": 10},
        {"ok": 500},
        {"inflight_milliseconds": 0},
        {"output_tokens": 0},
        {"input_tokens": 0},
    ],
)
def test_windows_that_say_little_are_not_learned(change: dict[str, int]) -> None:
    assert warm().load(replace(WINDOW, **change)) is None


def test_after_a_change_of_replicas_one_window_is_left_out() -> None:
    observer = warm()
    grown = replace(WINDOW, ready_replicas=4, current_replicas=4)
    assert observer.load(grown) is None
    restored = pickle.loads(pickle.dumps(observer))
    for each in (observer, restored):
        load = each.load(grown)
        assert load is not None
        assert load.requests_per_second == pytest.approx(2.5)


def test_a_gap_forgets_the_replicas() -> None:
    observer = warm()
    observer.load(replace(WINDOW, gap=True))
    assert observer.load(WINDOW) is None
    assert observer.load(WINDOW) is not None


@pytest.mark.slow
def test_the_demonstration_s_fleet_makes_the_advice_calibrated() -> None:
    """Ninety simulated minutes of telemetry, as the demonstration passes them through the engine."""
    live = 1_800_000_000.0 // 86_400 * 86_400
    fleet = scenario(next(iter(SCENARIOS)), live)
    pool = next(pool for pool in fleet.pool_settings() if "70b" in pool.model)
    observer = LoadObserver()
    controller = ReplicaController(pool.model, pool.pool, pool.deployment(), pool.slo(), pool.policy(), config_hash="0")
    lengths = LengthMoments()
    confidence = []
    for chunk in history(fleet, live - 5_400, live):
        for step in chunk.steps(60):
            window = next(w for w in step.windows if w.key == (pool.model, pool.pool))
            load = observer.load(window)
            if load is not None:
                controller.observe(load)
            lengths.learn(window)
            workload = lengths.workload()
            if workload is None:
                continue
            rate = window.requests / 60
            demand = Demand((0.1, 0.5, 0.9), (0.9 * rate, rate, 1.1 * rate), workload, 120.0)
            confidence.append(
                controller.decide(float(window.end), demand, window.ready_replicas, gap=False, warm=True).confidence
            )
    assert confidence[0] is Confidence.INTERPOLATED
    assert confidence[-1] is Confidence.CALIBRATED
