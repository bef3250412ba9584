from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sizing.errors import InvalidInput
from sizing.planning.preload import Spike, WarmPlace, preload
from sizing.planning.spike_loss import late_requests
from sizing.start_up import Stage, StartUp

SPLIT = StartUp.of_parts(300.0, 240.0, 60.0)
ONSET = 100_000.0
# Four requests a second for an hour on a replica of one; four more make it five.
LAUNCH = Spike("launch", "llama", ONSET, ONSET + 3_600, 1, 5, 4.0, 1.0, 10.0, SPLIT, dollars_per_replica_hour=16.0)


def test_loading_begins_a_start_up_and_a_margin_before_the_onset() -> None:
    (plan,) = preload([LAUNCH], ONSET - 86_400, margin_seconds=120, detection_seconds=30)
    assert (plan.replicas, plan.begin_at, plan.ready_at) == (4, ONSET - 720, ONSET - 120)
    assert plan.idle_replica_seconds == 4 * 720
    assert plan.idle_dollars == pytest.approx(4 * 0.2 * 16)
    # Ordered 30 s after the onset: ready at 630 s. Late from 10/3 s, when three a second have queued for 10 s, until
    # (4 · 630 - 5 · 10) / (5 - 4) = 2470 s.
    assert plan.late_requests_without == pytest.approx(4 * (2_470 - 10 / 3))
    assert (plan.late_requests_with, plan.delay_seconds) == (0.0, 0.0)


def test_an_event_that_is_known_too_late_saves_what_it_can() -> None:
    (plan,) = preload([LAUNCH], ONSET - 200, margin_seconds=120)
    assert (plan.begin_at, plan.ready_at, plan.delay_seconds) == (ONSET - 200, ONSET + 400, 400)
    assert plan.idle_replica_seconds == 4 * 200
    assert plan.late_requests_with == pytest.approx(4 * (4 * 400 - 50 - 10 / 3))
    assert plan.late_requests_with < plan.late_requests_without


def test_nothing_is_loaded_for_what_is_carried_anyway() -> None:
    (plan,) = preload([replace(LAUNCH, running=6)], ONSET - 900)
    assert plan.loads == ()
    assert (plan.begin_at, plan.ready_at, plan.idle_dollars, plan.late_requests_without) == (None, None, 0.0, 0.0)


def test_a_warm_place_skips_what_it_has_behind_it_and_goes_to_its_own_model_first() -> None:
    places = [WarmPlace("a"), WarmPlace("b", "llama"), WarmPlace("c", "qwen")]
    early = replace(LAUNCH, name="early", model="qwen", starts_at=ONSET - 9_000, ends_at=ONSET - 8_000, needed=2)
    later = replace(LAUNCH, name="later", starts_at=ONSET + 7_200, ends_at=ONSET + 9_000, needed=3)
    first, second, third = preload([later, LAUNCH, early], 0.0, margin_seconds=40, places=places)
    assert [(load.place, load.stage, load.begin_at) for load in first.loads] == [
        ("c", Stage.LOADED, ONSET - 9_000 - 100)
    ]
    assert [(load.place, load.stage, load.replicas, load.begin_at) for load in second.loads] == [
        ("b", Stage.LOADED, 1, ONSET - 100),
        ("a", Stage.PROVISIONED, 1, ONSET - 340),
        ("c", Stage.PROVISIONED, 1, ONSET - 340),
        (None, Stage.COLD, 1, ONSET - 640),
    ]
    assert second.idle_replica_seconds == 640  # warm places are paid for anyway
    # What an earlier spike has loaded is there for the next one.
    assert [(load.place, load.stage) for load in third.loads] == [("a", Stage.LOADED), ("b", Stage.LOADED)]


def test_a_place_serves_one_spike_at_a_time_and_the_one_with_more_at_stake_first() -> None:
    other = replace(LAUNCH, name="a small one", model="qwen", needed=2, requests_per_second=1.5)
    plans = preload([other, LAUNCH], 0.0, places=[WarmPlace("only")])
    assert [plan.spike.name for plan in plans] == ["launch", "a small one"]
    assert [[load.place for load in plan.loads] for plan in plans] == [["only", None], [None]]


def test_parts_that_are_not_known_say_nothing_of_warm_places() -> None:
    whole = replace(LAUNCH, start_up=StartUp(600.0))
    assert preload([whole], 0.0)[0].begin_at == ONSET - 600
    with pytest.raises(InvalidInput, match="in parts"):
        preload([whole], 0.0, places=[WarmPlace("a")])


def test_late_requests_by_hand() -> None:
    told = {"patience_seconds": 10.0, "duration_seconds": 1_000.0}
    assert late_requests(2.0, [(0.0, 2.0)], **told) == 0.0
    # Nothing serves until second 100: all of 0 to 90 are late, and those until what has queued is served within 10 s:
    # 200 - 6 · (t - 90) ... D·t = K(t + 10) = 8 · (t - 90): t = 120.
    assert late_requests(2.0, [(0.0, 0.0), (100.0, 8.0)], **told) == pytest.approx(2 * 120)
    # Too little for good: all from 10/1 on, to the end.
    assert late_requests(2.0, [(0.0, 1.0)], **told) == pytest.approx(2 * 990)
    # Two steps: 3·t > K(t + 10) from t = 5; at 90 behind by 3·90 - 100 = 170, made up by 5 - 3 a second from 190 on.
    steps = [(0.0, 1.0), (100.0, 3.0), (200.0, 5.0)]
    assert late_requests(3.0, steps, **told) == pytest.approx(3 * (190 + 170 / 2 - 5))
    assert late_requests(3.0, steps, patience_seconds=70.0, duration_seconds=1_000.0) == 0.0


@pytest.mark.parametrize(
    "capacity",
    [[], [(1.0, 1.0)], [(0.0, 2.0), (5.0, 1.0)], [(0.0, 1.0), (9.0, 2.0), (5.0, 3.0)], [(0.0, math.nan)]],
)
def test_capacity_that_cannot_be_is_refused(capacity: list[tuple[float, float]]) -> None:
    with pytest.raises(InvalidInput):
        late_requests(1.0, capacity, patience_seconds=1.0, duration_seconds=10.0)


@pytest.mark.parametrize(
    "wrong",
    [{"ends_at": ONSET}, {"needed": -1}, {"patience_seconds": math.nan}, {"dollars_per_replica_hour": math.inf}],
)
def test_spikes_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        replace(LAUNCH, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        preload([LAUNCH], 0.0, margin_seconds=-1.0)
    with pytest.raises(InvalidInput):
        preload([LAUNCH], math.nan)


@pytest.mark.parametrize("parts", [(-1.0,), (10.0, 5.0), (10.0, 6.0, 5.0), (math.inf,)])
def test_start_ups_that_cannot_be_are_refused(parts: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput):
        StartUp(*parts)
