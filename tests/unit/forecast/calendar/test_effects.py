"""Announced events: what is accepted, what is learned, and that their absence changes nothing."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.forecast.calendar.effects import CalendarRecord, Scope, parse_record
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

SERIES = SeriesKey("llama", "chat", "requests_per_second")
GRAIN, DAY = 300, 288
HORIZONS = (300, 3600)
MEDIAN = LEVELS.index(0.5)
EVENT_SECONDS = 7200


def event(day, hour=12, **changes):
    start = day * 86_400 + hour * 3600.0
    return CalendarRecord(
        f"{day}-{hour}", **{"kind": "launch", "starts_at": start, "ends_at": start + EVENT_SECONDS, **changes}
    )


def demand(days, events, factor=3.0, seed=0):
    middle = (np.arange(round(days * DAY)) + 0.5) * GRAIN
    values = 50.0 * (1.0 + 0.3 * np.sin(2.0 * np.pi * middle / 86_400))
    for record in events:
        values[(middle >= record.starts_at) & (middle < record.ends_at)] *= factor
    return values * np.random.default_rng(seed).normal(1.0, 0.02, values.size)


def run(model, values, calendar=(), start=0):
    rows = [
        [forecast.quantiles for forecast in model.step((at + 1.0) * GRAIN, float(value), calendar)]
        for at, value in enumerate(values, start)
    ]
    return np.array(rows)


def forecaster():
    return SeriesForecaster(SERIES, HORIZONS, GRAIN)


def hour_ahead(rows, values, day, hour=12):
    """Forecasts over actual values, for the second quarter of the event, as issued an hour before."""
    first = day * DAY + hour * 12 + 6
    return rows[first - 12 : first - 6, 1, MEDIAN] / values[first : first + 6]


@pytest.mark.slow
def test_without_events_nothing_changes():
    values = demand(1.2, ())
    plain, elsewhere = forecaster(), forecaster()
    other = event(1, scope=Scope("another model"))
    rows = run(plain, values)
    assert np.array_equal(rows, run(forecaster(), values, ()))
    assert run(elsewhere, values, (other,)) == pytest.approx(rows, rel=1e-12)


@pytest.mark.slow
def test_the_second_event_of_a_kind_is_expected():
    # At other times of day, so that no season helps.
    events = [event(2, 12), event(4, 18)]
    values = demand(5, events)
    blind, told = run(forecaster(), values), run(forecaster(), values, events)
    assert hour_ahead(blind, values, 4, 18).mean() < 0.5
    assert hour_ahead(told, values, 4, 18).mean() > 0.7


@pytest.mark.slow
def test_the_first_event_of_an_announced_size_is_expected():
    events = [event(2, expected_size=3.0)]
    values = demand(2.8, events)
    assert hour_ahead(run(forecaster(), values, events), values, 2) == pytest.approx(np.ones(6), abs=0.15)


@pytest.mark.slow
def test_an_unsure_announcement_moves_less():
    events = [event(2, expected_size=3.0, confidence=0.3)]
    values = demand(2.8, events)
    ratio = hour_ahead(run(forecaster(), values, events), values, 2).mean()
    assert 0.4 < ratio < 0.6


@pytest.mark.slow
def test_a_kind_without_effect_is_learned_to_have_none():
    events = [event(day, kind="newsletter") for day in range(1, 6)]
    values = demand(6, events, factor=1.0)
    told = run(forecaster(), values, events)
    assert hour_ahead(told, values, 5) == pytest.approx(np.ones(6), abs=0.1)


@pytest.mark.slow
def test_a_false_announcement_is_forgotten_when_it_is_over():
    events = [event(2, expected_size=10.0)]
    values = demand(3.5, ())
    rows = run(forecaster(), values, events)
    after = 2 * DAY + 12 * 12 + 24 + 48
    steady = rows[after : after + 24, 0, MEDIAN] / values[after + 1 : after + 25]
    assert steady == pytest.approx(np.ones(24), abs=0.15)


@pytest.mark.slow
def test_a_pickled_copy_goes_on_bit_for_bit():
    events = [event(1), event(2)]
    values = demand(2.8, events)
    straight = forecaster()
    run(straight, values[: 2 * DAY], events)
    copy = pickle.loads(pickle.dumps(straight))
    rest = values[2 * DAY :]
    assert np.array_equal(run(straight, rest, events, 2 * DAY), run(copy, rest, events, 2 * DAY))


@pytest.mark.slow
def test_hostile_calendars_do_no_harm():
    events = [
        event(0, 1, kind=f"kind {at}", starts_at=3600.0 + at, ends_at=3601.0 + 40 * at + at, expected_size=100.0)
        for at in range(60)
    ]
    events = [CalendarRecord(str(at), e.kind, e.starts_at, e.ends_at, e.expected_size) for at, e in enumerate(events)]
    model = forecaster()
    rows = run(model, [*demand(0.5, ()), *[0.0] * 20], events)
    gap = model.step((0.5 * DAY + 21) * GRAIN, None, events)
    assert np.isfinite(rows).all()
    assert (rows >= 0.0).all()
    assert (np.diff(rows, axis=2) >= 0.0).all()
    assert all(math.isfinite(value) for forecast in gap for value in forecast.quantiles)
    assert len(pickle.dumps(model)) < 150_000


@pytest.mark.slow
def test_scores_are_about_demand_not_about_what_is_left_of_it():
    events = [event(1, expected_size=3.0), event(2, expected_size=3.0)]
    values = demand(2.8, events)
    model = forecaster()
    rows = run(model, values, events)
    weight = np.exp(-np.arange(values.size - 12)[::-1] / (2 * DAY))
    error = (weight * np.abs(values[12:] - rows[:-12, 1, MEDIAN])).sum() / (weight * values[12:]).sum()
    assert model.scores()[1].wape == pytest.approx(error, rel=1e-2)


RECORD = {"schema": "tokentide.calendar.record.v1", "id": "a", "kind": "launch", "starts_at": 10, "ends_at": 20}


def test_a_record_is_read():
    full = {**RECORD, "expected_size": 2, "confidence": 0.5, "scope": {"model": "llama"}, "source": "ci", "note": "v2"}
    assert parse_record(full) == CalendarRecord("a", "launch", 10.0, 20.0, 2.0, 0.5, Scope("llama"), "ci", "v2")
    assert parse_record({**RECORD, "expected_size": None, "scope": None}) == CalendarRecord("a", "launch", 10.0, 20.0)
    assert Scope("llama").covers(SERIES)
    assert not Scope(None, "batch").covers(SERIES)


BROKEN = [
    {"id": ""},
    {"kind": 7},
    {"starts_at": 20},
    {"starts_at": -1},
    {"ends_at": 1e13},
    {"ends_at": True},
    {"expected_size": 0},
    {"expected_size": 1e400},
    {"confidence": 0},
    {"confidence": 1.1},
    {"scope": "llama"},
    {"scope": {"tenant": "a"}},
    {"scope": {"model": 1}},
    {"surprise": 1},
    {"note": "x" * 5000},
]


@pytest.mark.parametrize("change", BROKEN)
def test_what_cannot_be_an_event_is_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        parse_record({**RECORD, **change})


@pytest.mark.parametrize("name", ["starts_at", "ends_at", "expected_size", "confidence"])
def test_nan_is_refused(name):
    with pytest.raises(ValueError, match=r"\w"):
        parse_record({**RECORD, name: float("nan")})


def test_the_schema_agrees():
    jsonschema = pytest.importorskip("jsonschema")
    path = Path(__file__).resolve().parents[4] / "schemas" / "calendar.v1.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    assert validator.is_valid(RECORD)
    # JSON Schema cannot compare two fields.
    for change in BROKEN:
        if change != {"starts_at": 20}:
            assert not validator.is_valid({**RECORD, **change}), change
