"""What the events of one partition say of time, and of their servers' clocks."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events.codecs.registry import codec_named
from pipeline.events.columns import from_events
from pipeline.events.request_event import RequestEvent
from pipeline.events.servers import SAMPLED_EVENTS
from pipeline.events.validation import EventLimits
from pipeline.testing import request_event
from pipeline.windows.partition_clock import CLOCK_TOLERANCE_SECONDS, MAX_NAMED_SERVERS, PartitionClock
from pipeline.windows.partition_folder import PartitionAggregator

NOW = 1_767_225_600.0
MS = int(NOW * 1000)
LONG_AFTER = NOW + 1e6


def columns(completed, servers):
    events = [
        RequestEvent(event_id=f"e{i}", model="m", status="ok", completed_at=float(at), e2e_seconds=0.0)
        for i, at in enumerate(completed)
    ]
    found = from_events(events)
    found.servers = sorted({name for name in servers if name is not None})
    found.server_name = np.array([found.servers.index(name) if name is not None else -1 for name in servers], np.int64)
    return found


def clock_of(completed, servers, references=None):
    clock = PartitionClock()
    clock.observe(columns(completed, servers), np.array(completed if references is None else references, np.float64))
    return clock


def reached(clock, newest=NOW + 1e9):
    return clock.reached(newest, caught_up=False)


servers_ahead = st.integers(1, 4).flatmap(
    lambda ahead: st.tuples(
        st.just(ahead),
        st.integers(ahead + 1, 12),
        st.lists(st.floats(10.0, 60.0), min_size=ahead, max_size=ahead),
        st.booleans(),
    )
)


@given(servers_ahead, st.randoms(use_true_random=False))
def test_no_small_minority_of_servers_moves_it_beyond_what_the_others_have_reached(case, rng):
    ahead, honest, offsets, told = case
    names = [f"s{i}" for i in range(ahead + honest)]
    offset_of = dict(zip(names, offsets, strict=False))
    senders = [name for name in names for _ in range(20)]
    rng.shuffle(senders)
    completed = [NOW + i * 0.01 + offset_of.get(name, 0.0) for i, name in enumerate(senders)]
    # What lies in the sample decides, and a minority may be half of it by chance: leave a margin.
    if ahead * (2 if told else 3) > honest:
        return
    clock = clock_of(completed, senders if told else [None] * len(senders))
    assert reached(clock) <= NOW + len(senders) * 0.01 + CLOCK_TOLERANCE_SECONDS


def test_a_run_of_one_servers_events_does_not_decide_for_the_others():
    senders = [f"s{i % 9}" for i in range(200)] + ["ahead"] * 50
    completed = [NOW + (55.0 if name == "ahead" else 0.0) for name in senders]
    assert reached(clock_of(completed, senders)) == NOW


def test_ids_that_are_made_up_decide_no_more_than_their_events():
    senders = [f"made-up-{i}" if i % 3 == 0 else f"s{i % 10}" for i in range(600)]
    completed = [NOW + (55.0 if name.startswith("made") else 0.0) for name in senders]
    assert reached(clock_of(completed, senders)) == NOW


def test_it_follows_servers_that_agree_and_is_never_after_the_newest_event():
    senders = [f"s{i % 10}" for i in range(100)]
    completed = [NOW + i * 0.02 for i in range(100)]
    assert reached(clock_of(completed, senders)) == completed[-1]
    assert reached(clock_of(completed, senders), newest=NOW - 7.0) == NOW - 7.0
    assert reached(clock_of([NOW, NOW + 3.0], [None, None])) == NOW + 3.0, "no further apart than clocks may be"


def test_caught_up_the_newest_event_decides():
    clock = clock_of([NOW, NOW, NOW, NOW + 55.0], [None] * 4)
    assert clock.reached(NOW + 55.0, caught_up=True) == NOW + 55.0
    assert clock.reached(NOW + 55.0, caught_up=False) == NOW


def test_memory_is_bounded_whatever_servers_are_called():
    clock = PartitionClock()
    for batch in range(40):
        names = [f"{batch}-{i}" if i % 2 else None for i in range(500)]
        clock.observe(columns([NOW + batch] * 500, names), np.full(500, NOW + batch))
    assert len(clock._names) <= 5 * SAMPLED_EVENTS
    assert len(clock._server) == SAMPLED_EVENTS
    assert reached(clock) == NOW + 39
    clock.observe(columns([NOW + 60.0] * 64, ["far"] * 64), np.full(64, NOW))
    assert clock.offsets() == {"far": 60.0}, "codes still mean the names that they were given for"


# ---- offsets --------------------------------------------------------------------------------------------------------


def offsets(differences, events=5):
    """Each server sends ``events``, completed so many seconds after what their records say."""
    senders = [name for _ in range(events) for name in differences]
    return clock_of([NOW + differences[name] for name in senders], senders, [NOW] * len(senders)).offsets()


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({"a": -1.0, "b": -1.5, "c": -0.5}, {}),
        ({"a": -1.0, "b": -1.0, "c": 54.0}, {"c": 55.0}),
        ({"a": -1.0, "b": -56.0, "c": -1.0}, {"b": -55.0}),
        ({"a": -30.0, "b": -31.0, "c": -29.0}, {}),  # a slow pipeline of logs
        ({"a": -30.0, "b": -31.0, "c": 24.0}, {"c": 54.0}),
        ({"a": -1.0, "b": 54.0}, {"b": 54.0}),
        ({"a": -1.0, "b": -56.0}, {"b": -55.0}),
        ({"alone": 54.0}, {"alone": 54.0}),
        ({"alone": -56.0}, {}),  # or delivered late
        ({"a": 54.0, "b": 55.0}, {"b": 55.0, "a": 54.0}),
        ({"a": -1.0, "b\x1b[31m": 54.0}, {}),
    ],
)
def test_servers_that_are_off_are_named_with_their_offset(differences, expected):
    assert offsets(differences) == expected


def test_a_server_is_not_judged_by_one_event_and_few_are_named():
    assert offsets({"a": -1.0, "b": -1.0, "c": 54.0}, events=2) == {}
    many = offsets({f"s{i:02d}": 10.0 + i for i in range(20)}, events=3)
    assert len(many) == MAX_NAMED_SERVERS
    assert next(iter(many)) == "s19"


def test_servers_that_stamp_records_themselves_are_found_by_those_of_their_neighbours():
    senders = [f"s{i % 5}" for i in range(60)]
    off = {"s3": -55.0}
    stamps = [NOW + i + off.get(name, 0.0) for i, name in enumerate(senders)]
    assert set(clock_of([at - 0.5 for at in stamps], senders, stamps).offsets()) == {"s3"}


# ---- the fold -------------------------------------------------------------------------------------------------------


def fold(aggregator, events, stamps, first=0, now=LONG_AFTER, **options):
    values = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    last = first + len(values)
    return aggregator.fold(values, range(first, last), stamps, first, last, now, **options)[0]


def folder(**options):
    return PartitionAggregator("t", 0, "p", EventLimits(), 1_000, **options)


def skewed(n, start=0, **fields):
    return [
        request_event(f"e{i}", NOW + (55.0 if i % 10 == 0 else 0.0), server_id=f"gpu-{i % 10}", **fields)
        for i in range(start, start + n)
    ]


@pytest.mark.parametrize("events", [40, 600])  # read one by one, and in columns
@pytest.mark.parametrize("dimensions", [(), ("tenant",)])
def test_servers_are_told_apart_however_their_records_are_read(events, dimensions):
    delta = fold(folder(dimensions=dimensions), skewed(events), [MS + 56_000] * events)
    assert delta.max_event_at < NOW + 10
    assert delta.clock_offsets == {"gpu-0": pytest.approx(55.0, abs=1.0)}


def test_spans_name_their_servers_too():
    def spans(i, ahead):
        at = int((NOW + ahead) * 1e9)
        span = {
            "traceId": f"{i:032x}",
            "spanId": f"{i:016x}",
            "name": "chat m",
            "kind": 2,
            "startTimeUnixNano": str(at - 10**9),
            "endTimeUnixNano": str(at),
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
            ],
        }
        named = {"key": "service.instance.id", "value": {"stringValue": f"gpu-{i % 4}"}}
        return {"resource": {"attributes": [named]}, "scopeSpans": [{"spans": [span]}]}

    records = [
        {"resourceSpans": [spans(4 * i + server, 55.0 if server == 0 else 0.0) for server in range(4)]}
        for i in range(1, 9)
    ]
    delta = fold(folder(codec=codec_named("auto")), records, [MS + 1_000] * len(records))
    assert delta.events == 32
    assert delta.clock_offsets == {"gpu-0": pytest.approx(55.0, abs=1.0)}


def test_a_partition_that_is_idle_has_reached_its_newest_event():
    aggregator = folder()
    events = [request_event(f"e{i}", NOW + i, e2e_seconds=0.0) for i in range(100)]
    stamps = [MS + 1_000 * i for i in range(100)]
    assert aggregator.heartbeat(0).max_event_at is None
    assert fold(aggregator, events, stamps).max_event_at < NOW + 99.0, "more may lie behind"
    assert aggregator.heartbeat(100).max_event_at == NOW + 99.0
    assert fold(aggregator, [b"{"], [MS], first=100, caught_up=True).max_event_at is None
    assert aggregator.heartbeat(101).max_event_at == NOW + 99.0


def test_an_event_vouches_for_no_time_after_its_record_or_now():
    event = request_event("e", NOW + 30.0)
    assert fold(folder(), [event], [MS + 1_000], caught_up=True).max_event_at == NOW + 1.0
    assert fold(folder(), [event], [-1], now=NOW + 2.0, caught_up=True).max_event_at == NOW + 2.0
    assert fold(folder(), [event], [MS + 900_000], now=NOW + 2.0, caught_up=True).max_event_at == NOW + 2.0


@pytest.mark.parametrize("stamp", [MS // 1000, MS * 1000, MS * 1_000_000, 0, 1])
def test_record_timestamps_that_cannot_be_milliseconds_are_ignored_and_counted(stamp):
    delta = fold(folder(), [request_event("e", NOW - 5.0)], [stamp], now=NOW)
    assert (delta.events, delta.unknown["record_timestamp"]) == (1, 1)
    assert "record_timestamp" not in fold(folder(), [request_event("e", NOW - 5.0)], [-1], now=NOW).unknown


def test_a_new_life_that_reads_the_horizon_again_goes_on_as_the_old_one():
    events, stamps = skewed(400), [MS + i for i in range(400)]
    old = folder()
    for first in range(0, 400, 50):
        last = fold(old, events[first : first + 50], stamps[first : first + 50], first)
    new = folder()
    for first in range(200, 400, 50):
        again = fold(new, events[first : first + 50], stamps[first : first + 50], first, emit_from=350)
    assert (again.max_event_at, again.clock_offsets) == (last.max_event_at, last.clock_offsets)
