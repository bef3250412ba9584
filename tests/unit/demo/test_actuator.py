from __future__ import annotations

import json

import pytest

from pipeline.demo.actuator import FleetActuator
from pipeline.demo.emit import apply_recommendation
from pipeline.demo.scenario import scenario

LIVE = 1_795_000_020.0
MODEL, POOL = "llama-3.1-8b-instruct", "chat"


@pytest.fixture
def actuator():
    return FleetActuator(scenario("demo", LIVE), lead_seconds=180.0)


def current_and_ready(actuator, now):
    record = actuator.status(now)[0]
    return record["current"], record["ready"]


def test_it_starts_with_what_the_demand_needs(actuator):
    planned = scenario("demo", LIVE).planned_replicas(0, LIVE)
    assert current_and_ready(actuator, LIVE) == (planned, planned)


def test_scaling_up_takes_the_lead_time(actuator):
    _, ready = current_and_ready(actuator, LIVE)
    actuator.apply(MODEL, POOL, ready + 3, LIVE)
    assert current_and_ready(actuator, LIVE + 179) == (ready + 3, ready)
    assert current_and_ready(actuator, LIVE + 180) == (ready + 3, ready + 3)
    assert actuator.ready(0, LIVE + 180) == ready + 3


def test_repeating_the_advice_does_not_start_more(actuator):
    _, ready = current_and_ready(actuator, LIVE)
    for second in range(0, 300, 10):
        actuator.apply(MODEL, POOL, ready + 2, LIVE + second)
    assert current_and_ready(actuator, LIVE + 600) == (ready + 2, ready + 2)


def test_scaling_down_is_immediate_and_gives_up_starting_replicas_first(actuator):
    _, ready = current_and_ready(actuator, LIVE)
    actuator.apply(MODEL, POOL, ready + 4, LIVE)
    actuator.apply(MODEL, POOL, ready + 1, LIVE + 10)
    assert current_and_ready(actuator, LIVE + 10) == (ready + 1, ready)
    assert current_and_ready(actuator, LIVE + 200) == (ready + 1, ready + 1)
    actuator.apply(MODEL, POOL, ready - 1, LIVE + 210)
    assert current_and_ready(actuator, LIVE + 210) == (ready - 1, ready - 1)


def test_limits_hold_and_unknown_pools_are_ignored(actuator):
    before = actuator.status(LIVE)
    actuator.apply("nobody", "none", 9, LIVE)
    assert actuator.status(LIVE) == before
    actuator.apply(MODEL, POOL, 10_000, LIVE)
    assert current_and_ready(actuator, LIVE + 999)[1] == 32
    actuator.apply(MODEL, POOL, 0, LIVE + 1_000)
    assert current_and_ready(actuator, LIVE + 1_000) == (1, 1)


def test_status_records_say_what_the_contract_asks_for(actuator):
    record = actuator.status(LIVE + 1)[2]
    assert record["schema"] == "tokentide.replica.status.v1"
    assert (record["model"], record["pool"], record["at"]) == ("llama-3.3-70b-instruct", "chat", LIVE + 1)


def advice(**changes):
    return json.dumps({"model": MODEL, "pool": POOL, "desired": 9, "expires_at": LIVE + 300, **changes}).encode()


def test_fresh_advice_is_followed(actuator):
    assert apply_recommendation(advice(), actuator, LIVE)
    assert current_and_ready(actuator, LIVE)[0] == 9


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        advice(expires_at=LIVE - 1),
        advice(expires_at=float("nan")),
        advice(desired=-1),
        advice(desired="many"),
        advice(desired=float("inf")),
        b'{"model": "x"}',
    ],
)
def test_expired_or_broken_advice_changes_nothing(actuator, value):
    before = actuator.status(LIVE)
    assert not apply_recommendation(value, actuator, LIVE)
    assert actuator.status(LIVE) == before
