from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from pipeline.demo.fleet import history
from pipeline.demo.scenario import SCENARIOS, scenario
from pipeline.engine.load_samples import LoadObserver
from pipeline.engine.workload_moments import LengthMoments
from pipeline.windows.fleet import FleetReport, ReplicaCount
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


def after(minutes: int, **fields: object) -> ClosedWindow:
    """The window so many minutes later."""
    return replace(WINDOW, start=60 * minutes, **fields)  # type: ignore[arg-type]


def reported(
    minute: int, ready: int = 2, queued: int | None = 0, *, changes: tuple[ReplicaCount, ...] = (), **fields: object
) -> ClosedWindow:
    """A minute whose newest report is of the end of the minute after it, as lateness of a minute makes it."""
    at = 60.0 * (minute + 2)
    report = FleetReport(at, queued, 10, (*changes, ReplicaCount(at, ready, ready)))
    return after(minute, fleet=report, ready_replicas=ready, current_replicas=ready, **fields)


def test_what_the_window_tells_of_first_and_further_tokens_is_the_evidence() -> None:
    # 4 s each, of which 0.3 s are to the first of 200 tokens: over the tokens, whatever the mean over requests is.
    load = warm().load(after(1, ttft_seconds=0.3, tpot_seconds=0.05))
    assert load is not None
    assert load.ttft_seconds == 0.3
    assert load.tpot_seconds == pytest.approx(3.7 / 199)
    # Where some were not served, the sums are not of the requests that the means are of.
    load = warm().load(after(1, ok=590, ttft_seconds=0.3, tpot_seconds=0.02))
    assert load is not None
    assert load.tpot_seconds == 0.02
    # Of requests with one token each nothing is known, and a mean of zero is no measurement.
    for nothing in (None, 0.0):
        load = warm().load(after(1, ttft_seconds=nothing, tpot_seconds=nothing))
        assert load is not None
        assert (load.ttft_seconds, load.tpot_seconds) == (None, None)


def warm() -> LoadObserver:
    observer = LoadObserver()
    observer.load(WINDOW)
    return observer


def test_a_window_is_a_load_of_one_replica() -> None:
    load = warm().load(after(1))
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
    assert warm().load(after(1)) is not None
    assert warm().load(after(1, **change)) is None


def test_after_a_change_of_replicas_one_window_is_left_out() -> None:
    observer = warm()
    assert observer.load(after(1, ready_replicas=4, current_replicas=4)) is None
    restored = pickle.loads(pickle.dumps(observer))
    for each in (observer, restored):
        load = each.load(after(2, ready_replicas=4, current_replicas=4))
        assert load is not None
        assert load.requests_per_second == pytest.approx(2.5)


def test_replicas_are_those_of_the_window_although_the_report_is_newer() -> None:
    """Two more are ready from 3:30 on: the report with the window before says so, and the mixed window is left out."""
    observer = LoadObserver()
    learned = [observer.load(reported(minute)) is not None for minute in range(2)]
    learned.append(observer.load(reported(2, 4, changes=(ReplicaCount(210.0, 4, 4),))) is not None)
    learned += [observer.load(reported(minute, 4)) is not None for minute in (3, 4)]
    assert learned == [False, True, False, False, True]


def test_a_queue_that_grows_or_is_worked_off_teaches_nothing() -> None:
    # By the mean time to first token: of the requests that arrived, these began in more or less than a minute.
    for first_seconds, wanted in (
        ((0.3, 0.3, 5.0, 5.0), [True, True, True]),
        ((0.3, 0.3, 7.0, 30.0), [True, False, False]),
        ((30.0, 30.0, 0.3, 0.3), [True, False, True]),
    ):
        observer = LoadObserver()
        told = [observer.load(after(i, ttft_seconds=first)) is not None for i, first in enumerate(first_seconds)]
        assert told[1:] == wanted
    # By what waits, as reported from the start of the window on; 600 requests come in a window.
    for queued, wanted in (
        ((0, 50, 0, 50, 0, 0), [True] * 5),
        ((0, 0, 0, 90, 0, 0), [True, True, False, False, False]),
        ((900, 900, 900, 900, 900, 0), [True, True, True, True, False]),
    ):
        observer = LoadObserver()
        told = [observer.load(reported(i, queued=count)) is not None for i, count in enumerate(queued)]
        assert told[1:] == wanted, queued


def test_a_gap_forgets_the_replicas() -> None:
    observer = warm()
    observer.load(after(1, gap=True))
    assert observer.load(after(2)) is None
    assert observer.load(after(3)) is not None


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
