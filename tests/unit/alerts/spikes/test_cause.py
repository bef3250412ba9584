"""What kind of spike: each kind is made and told apart, with its evidence."""

import dataclasses
import pickle

import numpy as np
import pytest

from pipeline.alerts.spikes.cause import CauseKind, SpikeWatch
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.rates import signal_rates
from pipeline.windows.types import ClosedWindow

START = 1_790_000_000 // 60 * 60


def window(minute, rate=20.0, *, tokens_in=800, tokens_out=200, refused=0.0, cached=0.1, gap=False):
    count = int(np.random.default_rng([5, minute]).poisson(60.0 * rate))
    return ClosedWindow(
        start=START + 60 * minute,
        grain_seconds=60,
        model="m",
        pool="p",
        requests=count,
        ok=count - round(count * refused),
        rejected=round(count * refused),
        input_tokens=count * tokens_in,
        cached_input_tokens=round(count * tokens_in * cached),
        output_tokens=count * tokens_out,
        input_tokens_squared=0,
        output_tokens_squared=0,
        input_output_product=0,
        kv_token_milliseconds=0,
        inflight_milliseconds=0,
        preemptions=0,
        gap=gap,
    )


def watch(change, minutes=10, before=200, events=()):
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(before):
        quiet = window(minute)
        assert watcher.observe(quiet, signal_rates(quiet), {}, events) is None
    found = []
    for minute in range(before, before + minutes):
        made = window(minute, **change)
        found.append(watcher.observe(made, signal_rates(made), {}, events))
    return found


@pytest.mark.parametrize(
    ("change", "kind", "evidence"),
    [
        ({"rate": 60.0}, CauseKind.REQUESTS, "requests x3.0"),
        ({"tokens_in": 3_200}, CauseKind.INPUT_TOKENS, "input tokens per request x4.00 (3,200)"),
        ({"tokens_out": 700}, CauseKind.OUTPUT_TOKENS, "output tokens per request x3.50 (700)"),
        ({"rate": 60.0, "refused": 0.3, "cached": 0.6}, CauseKind.RETRIES, "30% of the requests were refused"),
    ],
)
def test_each_kind_is_told_in_its_first_window(change, kind, evidence):
    found = watch(change)
    assert all(spike is not None for spike in found)
    assert {spike.cause.kind for spike in found} == {kind}
    assert evidence in found[0].cause.evidence


def test_refusals_at_an_unchanged_demand_are_no_spike():
    assert watch({"refused": 0.4}) == [None] * 10


def test_an_announced_event_near_is_named_and_a_far_one_is_not():
    at = START + 60 * 205
    near = CalendarRecord("launch-7", "launch", at, at + 3600.0)
    far = CalendarRecord("launch-8", "launch", at + 86_400.0, at + 90_000.0)
    found = watch({"rate": 60.0}, events=(far, near))
    assert found[0].cause.kind is CauseKind.CALENDAR_EVENT
    assert "launch-7" in found[0].cause.evidence
    assert watch({"rate": 60.0}, events=(far,))[0].cause.kind is CauseKind.REQUESTS


def test_the_usual_is_what_was_before_the_episode():
    found = watch({"rate": 60.0}, minutes=40)
    assert "requests x3" in found[-1].cause.evidence


@pytest.mark.parametrize("silent_minutes", [1, 10, 60, 300])
def test_neither_a_gap_nor_the_return_after_it_is_a_spike(silent_minutes):
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(1_000):
        silent = 500 <= minute < 500 + silent_minutes
        made = window(minute, 0.0 if silent else 20.0 + 8.0 * np.sin(minute / 200.0))
        made = dataclasses.replace(made, gap=silent)
        assert watcher.observe(made, signal_rates(made), {}) is None


def test_it_pickles_and_goes_on_identically():
    whole = watch({"rate": 60.0}, minutes=20)
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(205):
        made = window(minute, 60.0 if minute >= 200 else 20.0)
        watcher.observe(made, signal_rates(made), {})
    watcher = pickle.loads(pickle.dumps(watcher))
    rest = []
    for minute in range(205, 220):
        made = window(minute, 60.0)
        rest.append(watcher.observe(made, signal_rates(made), {}))
    assert rest == whole[5:]


def test_requests_that_come_back_after_hours_of_idleness_are_told_as_requests():
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(900):
        made = window(minute, 5.0 if minute < 420 else 0.0)
        watcher.observe(made, signal_rates(made), {})
    found = []
    for minute in range(900, 910):
        made = window(minute, 5.0, tokens_in=808, tokens_out=202)
        seen = watcher.observe(made, signal_rates(made), {})
        found += [] if seen is None else [seen.cause]
    assert found
    assert {cause.kind for cause in found} == {CauseKind.REQUESTS}
    assert all("input tokens per request x1.01" in cause.evidence for cause in found)


def drop_of(change, events=()):
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(200):
        quiet = window(minute)
        watcher.observe(quiet, signal_rates(quiet), {}, events)
        assert watcher.drop is None
    made = window(200, **change)
    assert watcher.observe(made, signal_rates(made), {}, events) is None
    return watcher


def test_a_drop_of_requests_says_what_is_left_and_what_is_refused():
    drop = drop_of({"rate": 5.0, "refused": 0.4}).drop
    assert drop.state.falls
    assert drop.state.ratio == pytest.approx(0.25, abs=0.05)
    assert "40% of the requests were refused or failed (before: 0%)" in drop.evidence
    assert "requests x0.2" in drop.evidence


def test_a_drop_near_an_announced_event_names_it():
    event = CalendarRecord("e7", "launch", START + 6_000.0, START + 12_000.0)
    assert drop_of({"rate": 5.0}, (event,)).drop.evidence.startswith("near the announced event 'launch' (e7)")


def test_fewer_tokens_alone_are_no_drop():
    assert drop_of({"tokens_in": 200, "tokens_out": 50}).drop is None


def test_a_drop_goes_on_over_a_gap_and_what_was_usual_is_not_forgotten():
    watcher = drop_of({"rate": 5.0})
    gap = window(201, rate=0.0, gap=True)
    watcher.observe(gap, dict.fromkeys(signal_rates(gap)), {})
    assert "requests x0.2" in watcher.drop.evidence
    for minute in range(202, 230):
        made = window(minute, rate=5.0)
        watcher.observe(made, signal_rates(made), {})
        assert "(20.0" in watcher.drop.evidence


def test_a_copy_goes_on_alike_in_a_drop():
    watcher = drop_of({"rate": 5.0})
    copy = pickle.loads(pickle.dumps(watcher))
    for minute in range(201, 240):
        made = window(minute, rate=5.0 if minute < 220 else 20.0)
        for one in (watcher, copy):
            assert one.observe(made, signal_rates(made), {}) is None
        assert copy.drop == watcher.drop
    assert watcher.drop is None
