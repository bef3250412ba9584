"""A launch that is announced, with and without loading before it, on requests that come evenly."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from pipeline.config import resources
from pipeline.evaluate.evaluation import Evaluation, Question, evaluate
from pipeline.evaluate.policies.registry import POLICIES
from pipeline.evaluate.run import make_setup
from pipeline.evaluate.trace import RequestTrace
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from sizing.catalog import Catalog
from sizing.simulate import Requests, World
from sizing.start_up import StartUp
from tests.unit.evaluate.pools import POOL, SETTINGS

pytestmark = pytest.mark.slow

ONSET, END, BEFORE, TIMES = 900.0, 1_800.0, 4.0, 8.0
SPLIT = StartUp.of_parts(120.0, 90.0, 30.0)
EPOCH = 1_767_571_200
LAUNCH = CalendarRecord("launch", "launch", EPOCH + ONSET, EPOCH + END, expected_size=TIMES, announced_at=EPOCH + 60.0)


def launch_trace() -> RequestTrace:
    arrival = np.concatenate(
        [np.arange(0.0, ONSET, 1 / BEFORE), np.arange(ONSET, END, 1 / (BEFORE * TIMES))],
    )
    return RequestTrace("launch.csv", Requests.of(arrival, 2_000, 300), END)


def launched(*names: str, calendar: tuple[CalendarRecord, ...] = (LAUNCH,), world: World | None = None) -> Evaluation:
    question = Question(launch_trace(), SETTINGS, POOL, Catalog(), SPLIT, world=world, calendar=calendar)
    return evaluate(question, [POLICIES[name] for name in names])


def test_the_announced_launch_loses_nothing_with_preloading_and_something_without() -> None:
    found = launched("reactive", "preload")
    plain, loaded = found.results
    assert loaded.slo_attainment == 1.0
    assert plain.slo_attainment is not None
    assert plain.slo_attainment < 0.9

    (plan,) = found.preloads
    capacity = found.setup.load_test.requests_per_second
    needed = min(int(np.ceil(1.25 * BEFORE * TIMES / capacity)), POOL.max_replicas)
    assert (plan.spike.running, plan.spike.needed, plan.replicas) == (1, needed, needed - 1)
    # Onset less a start-up of 240 s and a margin of 60 s; decisions are every 15 s.
    assert plan.begin_at == EPOCH + ONSET - 300
    assert plan.idle_replica_seconds == (needed - 1) * 300
    ordered = [at for at, _ in found.runs["preload"].scaled]
    assert ordered[0] == ONSET - 300
    price = found.setup.resolved.gpu.price
    assert price is not None
    assert plan.idle_dollars == pytest.approx((needed - 1) * 300 / 3_600 * price.dollars_per_gpu_hour)

    (first,) = found.saved
    count = len(found.setup.requests)
    assert (first.policy, first.beside) == ("preload", "reactive")
    assert first.late_requests_saved == count - round(plain.slo_attainment * count)
    assert first.replica_hours_more == pytest.approx(loaded.replica_hours - plain.replica_hours)
    told = found.to_dict()
    jsonschema.validate(told, json.loads(resources.find("schemas/evaluation.v1.schema.json").read_text()))
    assert told["preloading"]["events"][0]["begin_at"] == EPOCH + ONSET - 300
    assert [row["policy"] for row in told["preloading"]["policies"]] == ["preload"]


def test_warm_replicas_take_over_after_their_warm_up_and_are_paid_for_meanwhile() -> None:
    question = Question(launch_trace(), SETTINGS, POOL, Catalog(), SPLIT)
    warm = replace(POLICIES["warm-pool"], knob=replace(POLICIES["warm-pool"].knob, default=3.0))
    found = evaluate(question, [POLICIES["reactive"], warm])
    plain, held = found.results
    assert (plain.slo_attainment or 0.0) < (held.slo_attainment or 0.0) < 1.0
    ordered = found.runs["warm-pool"].scaled[0][0]
    ready = sorted(life.ready_seconds for life in found.runs["warm-pool"].replicas)
    assert ready[1] == ordered + 30.0  # the warm-up; a new one takes 240 s
    (saved,) = found.saved
    # Three held for 915 s, and then, less what had to start anyway, until the end.
    assert saved.idle_replica_hours_more > 3 * 900 / 3_600
    assert saved.replica_hours_more == pytest.approx(held.replica_hours - plain.replica_hours)


def test_too_few_warm_replicas_spread_the_overload() -> None:
    plain, one = launched("reactive", "warm-pool").results
    assert (f"{plain.slo_attainment:.0%}", f"{one.slo_attainment:.0%}") == ("68%", "61%")  # as docs/evaluate.md says


def test_an_event_that_does_not_come_is_held_for_ten_minutes_and_no_longer() -> None:
    early = replace(LAUNCH, starts_at=EPOCH + 400.0, ends_at=EPOCH + 5_000.0, announced_at=None)
    found = launched("preload", calendar=(early,))
    scaled = found.runs["preload"].scaled
    assert scaled[0][0] == 105.0  # 400 - 300, at the next decision
    assert scaled[0][1] == found.preloads[0].spike.needed
    assert found.saved == ()  # the same rule without it was not evaluated


@pytest.mark.parametrize(
    "other",
    [
        replace(LAUNCH, expected_size=None),
        replace(LAUNCH, announced_at=EPOCH + ONSET + 1.0),
        replace(LAUNCH, scope=Scope("another model", None)),
        replace(LAUNCH, expected_size=0.5),
    ],
)
def test_what_says_nothing_of_more_demand_here_is_not_loaded_for(other: CalendarRecord) -> None:
    found = launched("reactive", "preload", calendar=(other,))
    assert found.preloads == ()
    assert found.runs["preload"].scaled == found.runs["reactive"].scaled


def test_warm_replicas_stay_within_the_limit_of_the_pool() -> None:
    pool = POOL.model_copy(update={"max_replicas": 2})
    settings = SETTINGS.model_copy(update={"pools": (pool,)})
    question = Question(launch_trace(), settings, pool, Catalog(), SPLIT)
    found = evaluate(question, [POLICIES["warm-pool"]])
    assert found.results[0].max_replicas == 2
    made = make_setup(launch_trace(), settings, pool, Catalog(), start_up=SPLIT, world=None, seed=0)
    assert made.start_up_seconds == 240.0


def test_a_world_with_interruptions_says_what_may_be_on_spot() -> None:
    found = launched("static-peak", world=World(spot_interrupt=20.0, spot_notice=0.0))
    assert found.results[0].unserved_requests > 0
    spot = found.spot
    assert spot is not None
    assert spot.held >= spot.needed >= 1
    assert spot.together.replicas == spot.held - spot.needed
    assert spot.together.missing_share == pytest.approx(20 * 240 / (3_600 + 20 * 240))
    jsonschema.validate(found.to_dict(), json.loads(resources.find("schemas/evaluation.v1.schema.json").read_text()))
