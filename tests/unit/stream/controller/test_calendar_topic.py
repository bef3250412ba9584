"""The book of announced events: what it takes, what it refuses, what it tells the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.alerts.feedback import feedback_record
from pipeline.errors import CodecError
from pipeline.forecast.calendar.effects import to_fields
from pipeline.forecast.calendar.known import KnownCalendar
from pipeline.stream.controller.calendar_topic import CalendarBook, decode_record

GOOD: dict[str, Any] = {"id": "a", "kind": "launch", "starts_at": 100, "ends_at": 200}


def value(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_the_newest_record_of_an_id_holds_and_a_withdrawal_ends_it() -> None:
    book = CalendarBook()
    book.take(b"a", value())
    book.take(b"a", value(ends_at=300))
    book.take(None, value(id="b"))
    assert {name: record.ends_at for name, record in book.records().items()} == {"a": 300.0, "b": 200.0}
    book.take(b"a", None)
    book.take(b"unknown", None)
    book.take(b"\xff", None)
    assert list(book.records()) == ["b"]
    assert book.rejected == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"id": "\\ud800"}',
        value(kind=""),
        value(ends_at=50),
        value(starts_at=float("nan")),
        value(confidence=0),
        value(confidence=True),
        value(expected_size=1e9),
        value(scope=[1]),
        value(note="x" * 70_000),
        value(prompt="extra"),
        value(schema="tokentide.calendar.record.v2"),
    ],
    ids=range(17),
)
def test_what_cannot_be_believed_is_refused_and_counted(bad: bytes) -> None:
    with pytest.raises(CodecError):
        decode_record(bad)
    book = CalendarBook()
    with pytest.raises(CodecError):
        book.take(b"a", bad)
    assert book.rejected == 1
    assert book.records() == {}


def test_a_key_that_is_not_the_id_is_refused() -> None:
    with pytest.raises(CodecError, match="key"):
        CalendarBook().take(b"other", value())


def test_memory_is_bounded() -> None:
    book = CalendarBook(max_events=2)
    for name in ("a", "b", "a"):
        book.take(None, value(id=name))
    with pytest.raises(CodecError, match="more than 2"):
        book.take(None, value(id="c"))
    assert sorted(book.records()) == ["a", "b"]


def test_years_of_events_that_are_over_make_room_for_new_ones() -> None:
    now = [0.0]
    book = CalendarBook(max_events=3, now=lambda: now[0])
    for week in range(100):
        now[0] = 1_000_000.0 + 604_800 * week
        book.take(None, value(id=f"e{week}", starts_at=now[0], ends_at=now[0] + 3_600))
        assert len(book.records()) <= 3
        assert f"e{week}" in book.records()
    fresh = book.empty()
    for name in ("a", "b", "c"):
        fresh.take(None, value(id=name, starts_at=now[0], ends_at=now[0] + 3_600))
    with pytest.raises(CodecError, match="more than 3"):
        fresh.take(None, value(id="d", starts_at=now[0], ends_at=now[0] + 3_600))


def test_the_engine_is_told_once() -> None:
    book, known = CalendarBook(), KnownCalendar()
    book.take(b"a", value())
    first = book.changes(known, 60.0)
    known.apply(first, 60.0)
    assert [change.record.id for change in first] == ["a"]
    assert book.changes(known, 120.0) == ()
    book.take(b"a", None)
    assert book.changes(known, 180.0) == (), "the topic was not read to its end: nothing is known to be gone"
    book.complete = True
    assert [change.removed for change in book.changes(known, 180.0)] == [True]


def test_a_book_that_was_read_anew_replaces_the_old_one() -> None:
    book, fresh = CalendarBook(), CalendarBook()
    book.take(b"a", value())
    fresh.take(b"b", value(id="b"))
    fresh.complete = True
    book.replace(fresh)
    assert list(book.records()) == ["b"]
    assert book.complete


RAISED, SIMULATED, WALL = 1_000.0, 1_300.0, 2e9


def mark_of(raised_at: float, marked_at: float) -> tuple[bytes, bytes]:
    record = feedback_record(f"spike_observed|m|p|{raised_at:.0f}", "false", marked_at)
    return record.id.encode(), json.dumps(to_fields(record)).encode()


def test_a_mark_by_a_clock_that_is_ahead_counts_in_the_next_step_once() -> None:
    book, known = CalendarBook(now=lambda: SIMULATED), KnownCalendar()
    book.take(*mark_of(RAISED, WALL))
    book.take(*mark_of(SIMULATED, WALL))  # raised in the step that is under way
    book.take(b"a", value(starts_at=WALL, ends_at=WALL + 60, announced_at=WALL))  # an event is announced in time
    changes = book.changes(known, SIMULATED)
    assert [change.record.id for change in changes] == ["alert_feedback|spike_observed|m|p|1000"]
    known.apply(changes, SIMULATED)
    assert [c.record.id for c in book.changes(known, SIMULATED + 60)] == ["alert_feedback|spike_observed|m|p|1300"]
    known.apply(book.changes(known, SIMULATED + 60), SIMULATED + 60)
    assert not book.changes(known, SIMULATED + 120)


def test_a_mark_by_the_same_clock_counts_from_its_time_on() -> None:
    book, known = CalendarBook(now=lambda: SIMULATED), KnownCalendar()
    book.take(*mark_of(RAISED, SIMULATED - 10.0))
    assert not book.changes(known, SIMULATED - 40.0), "made after that step"
    assert book.changes(known, SIMULATED + 20.0)
