"""The partition aggregator: ranges, counters, dead letters, refilling."""

import pytest

from pipeline.events.codecs import native
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits
from pipeline.windows import delta as codec
from pipeline.windows.partition_folder import PartitionAggregator

NOW = 1_767_225_600.0
MS = int(NOW * 1000)


def value(event_id, **changes):
    values = {"model": "m", "input_tokens": 10, "output_tokens": 5, "status": "ok", "completed_at": NOW}
    return native.encode(RequestEvent(event_id=event_id, **{"e2e_seconds": 2.0, **values, **changes}))


def aggregator(horizon=100):
    return PartitionAggregator("requests", 3, "p1", EventLimits(max_bytes=100_000), horizon)


def fold(agg, values, first, **options):
    offsets = range(first, first + len(values))
    return agg.fold(values, offsets, [MS] * len(values), first, first + len(values), NOW, **options)


HOSTILE = {
    "malformed": b"{nope",
    "too_large": b'{"event_id":"' + b"x" * 5_000_000 + b'"}',
    "negative": value("n").replace(b'"input_tokens":10', b'"input_tokens":-10'),
    "not_finite": value("n").replace(b'"e2e_seconds":2.0', b'"e2e_seconds":1e999'),
    "too_old": value("n", completed_at=0.0),
    "from_future": value("n", completed_at="2090-01-01T00:00:00Z"),
    "empty": None,
    "unknown_status": value("n", status="odd"),
}


def test_every_hostile_record_is_a_dead_letter_and_the_rest_is_unharmed():
    values = [value("a"), *HOSTILE.values(), value("b"), value("a")]
    delta, dead = fold(aggregator(), values, 100)
    assert [d.reason for d in dead] == list(HOSTILE)
    assert [d.offset for d in dead] == list(range(101, 101 + len(HOSTILE)))
    assert [d.value for d in dead] == list(HOSTILE.values())
    assert (delta.records, delta.events, delta.duplicates, len(delta.dead_letters)) == (11, 2, 1, 8)
    assert (delta.from_offset, delta.through_offset, delta.base_delta_offset) == (100, 110, -1)
    assert delta.max_event_at == NOW
    assert sum(delta.rows.measures[0]) == 2
    assert codec.decode(codec.encode(delta)) == delta


def test_a_refused_record_does_not_make_a_later_good_one_a_duplicate():
    delta, _ = fold(aggregator(), [value("a", status="odd"), value("a")], 0)
    assert (delta.events, delta.duplicates) == (1, 0)


def test_refilling_emits_nothing_but_is_remembered():
    agg = aggregator()
    assert fold(agg, [value("a"), b"{"], 10, emit_from=50) == (None, [])
    delta, dead = fold(agg, [value("a"), value("b")], 12, emit_from=50 - 38)
    assert dead == []
    assert (delta.from_offset, delta.events, delta.duplicates) == (12, 1, 1)


def test_a_batch_across_emit_from_is_cut_there():
    delta, dead = fold(aggregator(), [value("a"), b"{", value("b"), value("a"), b"{"], 10, emit_from=12)
    assert (delta.from_offset, delta.through_offset) == (12, 14)
    assert (delta.records, delta.events, delta.duplicates) == (3, 1, 1)
    assert [d.offset for d in dead] == [14]


def test_a_restart_folds_what_an_unbroken_run_folds():
    log = [value(f"id{i % 7}") for i in range(40)]
    whole = aggregator(horizon=5)
    deltas = [fold(whole, log[i : i + 10], i)[0] for i in range(0, 40, 10)]
    restarted = aggregator(horizon=5)
    again = [fold(restarted, log[i : i + 5], i, emit_from=30)[0] for i in (25, 30, 35)]
    assert again[0] is None
    assert sum(d.events for d in again[1:]) == deltas[3].events


def test_holes_and_empty_ranges_move_the_position():
    delta, _ = aggregator().fold([value("a")], [5], [MS], 2, 9, NOW)
    assert (delta.from_offset, delta.through_offset, delta.records) == (2, 8, 1)
    delta, _ = aggregator().fold([], [], [], 2, 9, NOW)
    assert (delta.from_offset, delta.through_offset, delta.records, delta.max_event_at) == (2, 8, 0, None)
    assert codec.decode(codec.encode(delta)) == delta


def test_lost_offsets_are_part_of_the_range():
    delta, _ = fold(aggregator(), [value("a")], 50, emit_from=50, lost=20)
    assert (delta.from_offset, delta.through_offset, delta.lost) == (30, 50, 20)
    assert codec.decode(codec.encode(delta)) == delta


def test_heartbeat():
    delta = aggregator().heartbeat(7)
    assert (delta.from_offset, delta.through_offset, delta.idle, delta.max_event_at) == (7, 6, True, None)
    assert codec.decode(codec.encode(delta)) == delta


@pytest.mark.parametrize("stamp", [-1, MS + 10**9, 0])
def test_odd_record_timestamps(stamp):
    delta, dead = aggregator().fold([value("a")], [0], [stamp], 0, 1, NOW)
    assert delta.events + len(dead) == 1
