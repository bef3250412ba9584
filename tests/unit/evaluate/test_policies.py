"""Each rule on a small case that can be done by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate.policies.base import CALENDAR, START_UP_PARTS, Stabiliser
from pipeline.evaluate.policies.dynamo_engine import DynamoEngine
from pipeline.evaluate.policies.dynamo_load import DynamoLoad
from pipeline.evaluate.policies.dynamo_throughput import DynamoThroughput, KalmanTrend
from pipeline.evaluate.policies.hpa import Hpa, desired_replicas
from pipeline.evaluate.policies.keda import Keda
from pipeline.evaluate.policies.kpa import Kpa
from pipeline.evaluate.policies.llmd_slo import LlmdSlo, wished_replicas
from pipeline.evaluate.policies.oracle import Oracle, needed_replicas
from pipeline.evaluate.policies.reactive import Reactive
from pipeline.evaluate.policies.registry import POLICIES, chosen_policies
from pipeline.evaluate.policies.wva import Wva, saturation_step
from sizing.simulate.lane import LaneLoad
from sizing.types import Slo
from tests.unit.evaluate.pools import setup


def seen(now: float = 600.0, replicas: int = 4, ready: int | None = None, **values: Any) -> Any:
    """Metrics with the given values: functions of the window where they are called in the policies."""
    called = ("arrivals", "input_tokens", "output_tokens", "ttft_seconds", "tpot_seconds")
    given = {k: (lambda _, v=v: v) if k in called else v for k, v in values.items()}
    return SimpleNamespace(now_seconds=now, replicas=replicas, ready=replicas if ready is None else ready, **given)


def load(running: int = 0, waiting: int = 0, kv: float = 0.0, context: int = 0, queued: int = 0) -> LaneLoad:
    return LaneLoad(running, waiting, kv, context, queued)


def test_the_hpa_has_a_tolerance_and_counts_starting_pods_as_idle() -> None:
    assert [desired_replicas(4, 4, total, 10.0) for total in (36.0, 44.0, 45.0, 60.0, 20.0)] == [4, 4, 5, 6, 2]
    # 60 in 3 ready pods are 20 each; over 5 pods 12 each: ceil(1.2 * 5).
    assert desired_replicas(5, 3, 60.0, 10.0) == 6
    assert desired_replicas(8, 3, 60.0, 10.0) == 8
    assert desired_replicas(0, 0, 25.0, 10.0) == 3
    assert Hpa(10.0, of_kv=False).decide(seen(in_flight=1_000)) == 8  # at most 4 pods or 100 %
    assert Hpa(0.5, of_kv=True).decide(seen(loads=[load(kv=0.75)] * 4)) == 6


def test_down_waits_for_the_greatest_wish_of_the_window() -> None:
    window = Stabiliser(down_seconds=300.0, up_seconds=30.0)
    wishes = [(0, 4, 4), (60, 4, 2), (299, 4, 2), (301, 4, 2), (330, 2, 6), (345, 2, 6), (365, 6, 6)]
    assert [window.apply(at, current, wish) for at, current, wish in wishes] == [4, 4, 4, 2, 2, 6, 6]


def test_keda_divides_by_its_thresholds_and_doubles_at_most() -> None:
    assert Keda(16.0, None).decide(seen(running=100, waiting=50)) == 7
    assert Keda(16.0, None).decide(seen(running=500, waiting=0)) == 8
    assert Keda(None, 1.0).decide(seen(running=500, waiting=6)) == 6
    assert Keda(None, 1.0).decide(seen(running=500, waiting=0)) == 0


def test_the_kpa_panics_by_its_short_window_and_never_goes_down_in_panic() -> None:
    policy = Kpa(10.0)
    for turn in range(30):
        assert policy.decide(seen(2.0 * (turn + 1), 2, in_flight=20)) == 2
    # Mean of 6 s is (20 + 20 + 100) / 3 = 46.7: 5 replicas for 2 ready are at least 2.0; stable: (29 · 20 + 100) / 30.
    assert policy.decide(seen(62.0, 2, in_flight=20)) == 2
    assert policy.decide(seen(64.0, 2, in_flight=100)) == 5
    assert policy.decide(seen(66.0, 5, ready=2, in_flight=0)) == 5
    assert policy.replicas(5, 66.0) == 5


def test_wva_moves_by_one_on_what_is_left_to_spare() -> None:
    assert saturation_step([0.5, 0.7], [0, 5], 0.1) == 0  # the second is saturated by its queue, the first has 0.3
    assert saturation_step([0.9, 0.9], [0, 0], 0.1) == 1
    assert saturation_step([0.1, 0.1], [2.5, 2.5], 0.1) == 1
    assert saturation_step([0.35, 0.35], [0, 0], 0.1) == -1  # 0.70 on one leaves 0.1
    assert saturation_step([0.36, 0.36], [0, 0], 0.1) == 0
    assert saturation_step([], [], 0.1) == 0
    assert Wva(0.1).decide(seen(replicas=3, ready=2, loads=[load(kv=0.9)] * 2)) == 3
    assert Wva(0.1).decide(seen(replicas=2, loads=[load(kv=0.9)] * 2)) == 3


def test_llmd_asks_by_the_worse_latency_with_credit_for_what_starts() -> None:
    # s = 0.825: 4 · 0.825 / 0.55 = 6; with 2 of 4 ready: 4 · 0.825 · 0.5 / 0.55 = 3, so 4 + ceil(4 · -0.25) = 3.
    assert wished_replicas(0.825, 4, 4) == 6
    assert wished_replicas(0.825, 4, 2) == 3
    assert wished_replicas(0.2, 4, 4) == 2
    policy = LlmdSlo(Slo(2.0, 0.1), 0.55)
    ttft = np.full(50, 1.65)
    wants = [
        policy.decide(seen(15.0 * turn, 4, ttft_seconds=ttft, tpot_seconds=np.full(9, 0.02))) for turn in range(1, 4)
    ]
    assert wants == [6, 4, 4]  # one burst a minute
    idle = LlmdSlo(Slo(2.0, 0.1), 0.55)
    nothing = np.zeros(0)
    wants = [idle.decide(seen(15.0 * turn, 4, ttft_seconds=nothing, tpot_seconds=nothing)) for turn in range(1, 12)]
    assert wants == [3] + [4] * 7 + [3, 4, 4]  # one pod a time, every 120 s


def test_reactive_divides_the_rate_by_what_a_replica_carries() -> None:
    assert Reactive(2.0, 1.25).decide(seen(arrivals=480)) == 5  # 8 per second · 1.25 / 2
    assert Reactive(2.0, 1.0).decide(seen(15.0, 1, arrivals=60)) == 2  # 15 s seen: 4 per second


def test_the_oracle_orders_a_start_up_ahead_and_keeps_what_it_needs_soon() -> None:
    made = setup()
    needed = needed_replicas(made, 1.0)
    capacity = made.load_test.requests_per_second
    counts = np.bincount((made.requests.arrival_seconds // 60).astype(int), minlength=len(needed))
    assert needed.tolist() == [min(max(math.ceil(n / 60 / capacity), 1), 6) for n in counts]
    oracle = Oracle(made, 1.0)
    step = int(np.flatnonzero(np.diff(needed) > 0)[0] + 1)  # the first minute that needs more
    assert oracle.decide(seen(step * 60.0 - 46.0)) == needed[step - 1]
    assert oracle.decide(seen(step * 60.0 - 45.0)) == needed[step]


def test_the_kalman_filter_is_the_textbook_one() -> None:
    values = [10.0, 12.0, 15.0, 11.0, 30.0]
    f, h = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    x, p = np.array([[values[0]], [0.0]]), np.eye(2) * 1_000.0
    policy = KalmanTrend()
    for place, value in enumerate(values):
        if place:
            gain = p @ h.T / (h @ p @ h.T + 10.0)
            x, p = x + gain * (value - h @ x), (np.eye(2) - gain @ h) @ p
        x, p = f @ x, f @ p @ f.T + np.diag([1.0, 0.1])
        assert policy.next(value) == pytest.approx(float(x[0, 0]))


def test_the_dynamo_engine_rate_is_littles_law_within_the_objectives() -> None:
    made = setup()
    engine = DynamoEngine.of(made)

    def itl(batch: int) -> float:
        return made.step.step_seconds(batch, 1150.0, batch * 1000 / 300, 500.0)

    limit = itl(40)
    assert engine.best_requests_per_second(1000, 300, None, limit) == pytest.approx(40 / (300 * limit))
    assert engine.best_requests_per_second(1000, 300, None, itl(1) / 2) == pytest.approx(1 / (300 * itl(1)))
    # Two steps: the budget, and the rest.
    two = made.step.step_seconds(5, 100.0, 8192, 500.0) + made.step.step_seconds(5, 100.0, 808, 500.0)
    assert engine.next_ttft_seconds(8000, 1000, 5, 500) == pytest.approx(two)


def test_the_dynamo_planners_scale_by_rate_and_by_one() -> None:
    made = setup()
    engine, slo = DynamoEngine.of(made), Slo(1.0, 0.03)
    rate = engine.best_requests_per_second(1000, 300, 1.0, 0.03)
    traffic = seen(replicas=1, arrivals=math.floor(180 * 2.5 * rate), input_tokens=1000.0, output_tokens=300.0)
    assert DynamoThroughput(engine, slo, 1.0, kalman=False).decide(traffic) == 3
    assert DynamoThroughput(engine, slo, 1.0, kalman=False).decide(seen(input_tokens=None, output_tokens=None)) == 4
    busy, idle = load(running=400, context=460_000), load()
    slow = [load(running=30, context=34_500, queued=200_000)]
    for loads, wanted in (([busy] * 2, 3), ([busy, idle], 2), ([idle] * 2, 1), ([idle], 1), (slow * 2, 3)):
        metrics = seen(replicas=len(loads), loads=tuple(loads), input_tokens=1000.0, output_tokens=300.0)
        assert DynamoLoad(engine, slo, 0.8).decide(metrics) == wanted
    starting = seen(replicas=3, ready=2, loads=(busy, busy), input_tokens=1000.0, output_tokens=300.0)
    assert DynamoLoad(engine, slo, 0.8).decide(starting) == 3


def test_policies_are_chosen_by_name_and_each_has_a_knob_with_its_own_value() -> None:
    assert [spec.name for spec in chosen_policies("oracle, tokentide,oracle")] == ["oracle", "tokentide"]
    assert [spec.name for spec in chosen_policies(None, (CALENDAR, START_UP_PARTS))] == list(POLICIES)
    assert set(POLICIES) - {spec.name for spec in chosen_policies(None)} == {"preload", "warm-pool"}
    with pytest.raises(InputError, match="preload needs --calendar"):
        chosen_policies("reactive,preload", (START_UP_PARTS,))
    for spec in POLICIES.values():
        assert spec.policy(setup()).interval_seconds > 0
        assert list(spec.knob.values) == sorted(set(spec.knob.values))
    with pytest.raises(InputError, match="there are: tokentide, oracle"):
        chosen_policies("best")
