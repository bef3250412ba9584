"""Which value a rise came from: told where one stands out, silent where the whole rose or nothing is known."""

import dataclasses
import pickle

import pytest

from pipeline.alerts.spikes.attribution import UsualParts
from pipeline.alerts.spikes.cause import CauseKind, SpikeWatch
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import Signal
from pipeline.testing import closed_window
from pipeline.windows.types import REST, Breakdown, Part

START = 1_790_000_000 // 60 * 60
QUIET = {"acme": (720, 800), "bolt": (360, 800), REST: (120, 800)}
KEEP = 0.98


def broken(minute, by_value, dimension="tenant", **fields):
    """A window by value: requests and input tokens per request; an eighth is cached, 200 output tokens each."""
    parts = tuple(
        Part(value, n, n * tokens, n * (tokens // 8), n * 200) for value, (n, tokens) in by_value.items() if n
    )
    sums = [sum(part[i] for part in parts) for i in range(1, 5)]
    return dataclasses.replace(
        closed_window(START + 60 * minute, sums[0], **fields),
        input_tokens=sums[1],
        cached_input_tokens=sums[2],
        output_tokens=sums[3],
        breakdown=(Breakdown(dimension, len(by_value), parts),),
    )


def usual(by_value=QUIET, minutes=30, **options):
    parts = UsualParts(KEEP)
    for minute in range(minutes):
        parts.learn(broken(minute, by_value, **options))
    return parts


def test_the_tenant_that_most_of_the_rise_came_from_is_named_with_its_evidence():
    (rise,) = usual().explain(broken(30, QUIET | {"acme": (5_760, 800), "bolt": (1_400, 800)}), Signal.REQUESTS)
    assert (rise.dimension, rise.value) == ("tenant", "acme")
    assert rise.share == pytest.approx(5_040 / 6_080)
    assert str(rise) == "tenant acme: 12.0 to 96.0 requests/s, 83% of the rise"


def test_by_tokens_when_only_they_rose():
    longer = broken(30, QUIET | {"bolt": (360, 8_000)})
    (rise,) = usual().explain(longer, Signal.PREFILL_TOKENS)
    assert str(rise) == "tenant bolt: 4200 to 42000 uncached input tokens/s, 100% of the rise"
    assert usual().explain(longer, Signal.REQUESTS) == ()


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (QUIET, {name: (3 * n, tokens) for name, (n, tokens) in QUIET.items()}),  # everybody
        (QUIET, QUIET | {"acme": (1_500, 800), "bolt": (1_100, 800)}),  # two of them: 51 %
        (QUIET, QUIET | {REST: (4_000, 800)}),  # many small ones
        ({"acme": (1_200, 800), REST: (20, 800)}, {"acme": (3_600, 800), REST: (20, 800)}),  # it is the pool
        ({"acme": (900, 800), "bolt": (300, 800)}, {"acme": (2_300, 800), "bolt": (660, 800)}),  # 80 %, usually 75 %
        (QUIET, {name: (n // 2, tokens) for name, (n, tokens) in QUIET.items()}),  # a fall
    ],
)
def test_silent_where_none_stands_out(before, now):
    assert usual(before).explain(broken(30, now), Signal.REQUESTS) == ()


def test_a_heavy_one_stands_out_where_the_others_stayed():
    (rise,) = usual({"acme": (900, 800), "bolt": (300, 800)}).explain(
        broken(30, {"acme": (2_300, 800), "bolt": (320, 800)}), Signal.REQUESTS
    )
    assert rise.value == "acme"


def test_one_that_was_never_seen_came_from_nothing():
    (rise,) = usual().explain(broken(30, QUIET | {"new": (3_000, 800)}), Signal.REQUESTS)
    assert str(rise) == "tenant new: 0.0 to 50.0 requests/s, 100% of the rise"


def test_who_has_gone_or_fallen_away_is_named_though_no_window_names_it():
    gone = {name: load for name, load in QUIET.items() if name != "acme"}
    for now, words in ((gone, "12.0 to 0.0"), (QUIET | {"acme": (60, 800)}, "12.0 to 1.0")):
        (fall,) = usual().explain(broken(30, now), Signal.REQUESTS, falls=True)
        assert str(fall) == f"tenant acme: {words} requests/s, 100% of the fall"
    halves = {name: (n // 2, tokens) for name, (n, tokens) in QUIET.items()}
    assert usual().explain(broken(30, halves), Signal.REQUESTS, falls=True) == ()
    assert usual().explain(broken(30, QUIET | {"acme": (5_760, 800)}), Signal.REQUESTS, falls=True) == ()


def test_what_was_never_broken_down_is_unknown_and_not_nothing():
    parts = UsualParts(KEEP)
    for minute in range(30):
        parts.learn(closed_window(START + 60 * minute, 1_200))
    assert parts.explain(broken(30, QUIET | {"acme": (5_760, 800)}), Signal.REQUESTS) == ()
    assert usual(dimension="region").explain(broken(30, QUIET | {"acme": (5_760, 800)}), Signal.REQUESTS) == ()


def test_completeness_is_corrected_for():
    now = dataclasses.replace(
        broken(30, QUIET | {"acme": (2_880, 800), "bolt": (180, 800), REST: (60, 800)}), completeness=0.5
    )
    (rise,) = usual().explain(now, Signal.REQUESTS)
    assert rise.now == pytest.approx(96.0)


def test_a_new_tenant_in_every_request_stays_bounded():
    parts = UsualParts(KEEP)
    for minute in range(400):
        parts.learn(broken(minute, QUIET | {f"{minute}-{i}": (1, 800) for i in range(32)}))
    assert len(pickle.dumps(parts)) < 12_000
    (rise,) = parts.explain(broken(400, QUIET | {"acme": (5_760, 800)}), Signal.REQUESTS)
    assert rise.value == "acme"


def kinds(change, dimension="tenant", events=(), **fields):
    watcher = SpikeWatch(1.0, 60.0)
    found = []
    for minute in range(210):
        loud = minute >= 200
        jitter = {name: (n + (minute * 7) % 5, tokens) for name, (n, tokens) in QUIET.items()}
        made = broken(minute, jitter | (change if loud else {}), dimension, **(fields if loud else {}))
        spike = watcher.observe(made, signal_rates(made), {}, events)
        assert (spike is not None) == loud
        if spike is not None:
            found.append(spike.cause)
    return found


@pytest.mark.parametrize(
    ("dimension", "change", "kind", "evidence"),
    [
        ("tenant", {"acme": (5_760, 800)}, CauseKind.TENANT, "tenant acme: 12.0 to 96.0 requests/s, 100% of the rise"),
        ("region", {"acme": (5_760, 800)}, CauseKind.REGION, "region acme: 12.0 to 96.0 requests/s, 100% of the rise"),
        ("tenant", {"bolt": (360, 8_000)}, CauseKind.TENANT, "uncached input tokens/s, 100% of the rise"),
        ("workload", {"acme": (5_760, 800)}, CauseKind.REQUESTS, "workload acme: 12.0 to 96.0 requests/s"),
        ("tenant", {name: (3 * n, 800) for name, (n, _) in QUIET.items()}, CauseKind.REQUESTS, "requests x2.99"),
    ],
)
def test_the_kind_says_so(dimension, change, kind, evidence):
    found = kinds(change, dimension)
    assert {cause.kind for cause in found} == {kind}
    assert evidence in found[0].evidence


def test_the_narrower_of_two_dimensions_is_the_kind_and_both_are_told():
    watcher = SpikeWatch(1.0, 60.0)
    for minute in range(201):
        now = QUIET | ({"acme": (5_760, 800)} if minute == 200 else {})
        made = broken(minute, now, "region")
        both = dataclasses.replace(made, breakdown=(*made.breakdown, *broken(minute, now).breakdown))
        spike = watcher.observe(both, signal_rates(both), {})
    assert spike.cause.kind is CauseKind.TENANT
    assert spike.cause.evidence.startswith("region acme: ")
    assert "; tenant acme: " in spike.cause.evidence


def test_announced_events_and_retries_keep_their_kinds_and_name_the_tenant():
    at = START + 60 * 205
    (event, *_) = kinds({"acme": (5_760, 800)}, events=(CalendarRecord("l", "launch", at, at + 3600.0),))
    assert event.kind is CauseKind.CALENDAR_EVENT
    assert "tenant acme: 12.0 to 96.0" in event.evidence
    (retries, *_) = kinds({"acme": (5_760, 800)}, ok=4_000)
    assert retries.kind is CauseKind.RETRIES
    assert "tenant acme: 12.0 to 96.0" in retries.evidence
