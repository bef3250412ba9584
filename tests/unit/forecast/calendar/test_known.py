"""What is known when: announcements, replacements, withdrawals, and forgetting."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from pipeline.forecast.calendar.effects import SCHEMA, CalendarRecord, Scope, parse_record, to_fields
from pipeline.forecast.calendar.known import KEEP_SECONDS, CalendarChange, KnownCalendar

LAUNCH = CalendarRecord("a", "launch", 10_000.0, 20_000.0, announced_at=5_000.0)


def known(*records: CalendarRecord, as_of: float = 6_000.0) -> KnownCalendar:
    calendar = KnownCalendar()
    calendar.apply([CalendarChange(record) for record in records], as_of)
    return calendar


def test_nothing_is_known_before_it_is_announced() -> None:
    empty = KnownCalendar()
    assert empty.changes({"a": LAUNCH}, 4_999.0, complete=True) == ()
    assert empty.changes({"a": LAUNCH}, 5_000.0, complete=True) == (CalendarChange(LAUNCH),)
    undated = replace(LAUNCH, announced_at=None)
    assert empty.changes({"a": undated}, 0.0, complete=True) == (CalendarChange(undated),)


def test_only_what_changed_is_told_in_order_of_id() -> None:
    calendar = known(LAUNCH)
    moved, other = replace(LAUNCH, ends_at=30_000.0), replace(LAUNCH, id="0")
    assert calendar.changes({"a": LAUNCH}, 7_000.0, complete=True) == ()
    told = calendar.changes({"a": moved, "0": other}, 7_000.0, complete=True)
    assert told == (CalendarChange(other), CalendarChange(moved))
    calendar.apply(told, 7_000.0)
    assert calendar.records == {"0": other, "a": moved}
    assert len(calendar) == 2


def test_a_record_that_is_gone_was_taken_back_only_if_all_is_known() -> None:
    calendar = known(LAUNCH)
    assert calendar.changes({}, 7_000.0, complete=False) == ()
    gone = calendar.changes({}, 7_000.0, complete=True)
    assert gone == (CalendarChange(LAUNCH, removed=True),)
    calendar.apply(gone, 7_000.0)
    assert len(calendar) == 0
    calendar.apply(gone, 7_060.0)  # twice is as good as once


def test_what_ended_long_ago_is_forgotten_and_no_news() -> None:
    calendar = known(LAUNCH)
    late = LAUNCH.ends_at + KEEP_SECONDS
    calendar.apply((), late - 1.0)
    assert len(calendar) == 1
    calendar.apply((), late)
    assert len(calendar) == 0
    assert calendar.changes({"a": LAUNCH}, late, complete=True) == ()


def test_near_is_what_can_act() -> None:
    calendar = known(LAUNCH, replace(LAUNCH, id="far", starts_at=1e9, ends_at=1e9 + 60.0), replace(LAUNCH, id="0"))
    assert [record.id for record in calendar.near(10_000.0, 3600.0)] == ["0", "a"]
    assert calendar.near(LAUNCH.ends_at + 3600.0 + 4 * 3600.0, 3600.0) == ()
    assert len(calendar.near(LAUNCH.ends_at + 3600.0 + 4 * 3600.0 - 1.0, 3600.0)) == 2


def test_it_pickles() -> None:
    calendar = known(LAUNCH)
    assert pickle.loads(pickle.dumps(calendar)).records == calendar.records


def test_records_survive_json() -> None:
    full = replace(LAUNCH, expected_size=2.5, confidence=0.5, scope=Scope("m", "p"), source="ci", note="n")
    for record in (LAUNCH, full, replace(LAUNCH, announced_at=None)):
        assert parse_record(to_fields(record)) == record
        assert to_fields(record)["schema"] == SCHEMA


@pytest.mark.parametrize(
    "change", [{"announced_at": -1}, {"announced_at": "now"}, {"announced_at": 1e13}, {"schema": "v9"}]
)
def test_wrong_fields_are_named(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        parse_record({**to_fields(LAUNCH), **change})
