"""Records from CSV, JSON, iCalendar and the holidays package: what is taken, what is named as skipped."""

from __future__ import annotations

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.calendar_import.files import MAX_RECORDS, Defaults, Found, read_records
from pipeline.calendar_import.public_holidays import HOLIDAY, public_holidays
from pipeline.calendar_import.times import parse_moment, zone
from pipeline.errors import InputError
from pipeline.forecast.calendar.effects import Scope

UNTIL = 1_800_000_000.0
BERLIN = ZoneInfo("Europe/Berlin")


def read(tmp_path: Path, name: str, text: str, defaults: Defaults | None = None) -> Found:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_records(path, defaults or Defaults(), UNTIL)


def test_csv(tmp_path: Path) -> None:
    text = (
        "kind,starts_at,ends_at,expected_size,confidence,model,pool,note\n"
        "launch,2026-12-01T09:00,2026-12-01T11:00,3,0.5,llama,chat,new model\n"
        "launch,1796115600,1796122800,,,,,\n"
        "launch,yesterday,2026-12-01T11:00,,,,,\n"
        "launch,2026-12-01T11:00,2026-12-01T09:00,,,,,\n"
        "launch,2026-12-01,2026-12-02,big,,,,\n"
        "launch,2026-12-01,2026-12-02,,,,,,,,,\n"
    )
    found = read(tmp_path, "events.csv", text, Defaults(confidence=0.8, announced_at=5.0, zone=BERLIN))
    first, second = found.records
    assert (first.starts_at, first.expected_size, first.confidence) == (1_796_112_000.0, 3.0, 0.5)
    assert (first.scope, first.note, first.announced_at) == (Scope("llama", "chat"), "new model", 5.0)
    assert (second.starts_at, second.confidence, second.scope) == (1_796_115_600.0, 0.8, Scope())
    assert [reason.split(":")[0] for reason in found.skipped] == [f"events.csv line {n}" for n in (4, 5, 6, 7)]
    again = read(tmp_path, "events.csv", text, Defaults(confidence=0.8, announced_at=6.0, zone=BERLIN))
    assert [record.id for record in again.records] == [record.id for record in found.records]
    assert first.id != second.id


def test_json_and_lines(tmp_path: Path) -> None:
    good = {"id": "a", "kind": "launch", "starts_at": "2026-12-01", "ends_at": 1_796_122_800}
    items = [good, {"id": "b"}, 7, {**good, "starts_at": "soon"}, {**good, "note": 5}]
    whole = read(tmp_path, "e.json", json.dumps(items), Defaults(model="m", kind="campaign"))
    lines = read(tmp_path, "e.jsonl", "\n".join(map(json.dumps, items)), Defaults(model="m", kind="campaign"))
    for found in (whole, lines):
        assert [(r.id, r.kind, r.starts_at, r.scope.model) for r in found.records] == [
            ("a", "campaign", 1_796_083_200.0, "m")
        ]
        assert len(found.skipped) == 4
    assert len(read(tmp_path, "one.json", json.dumps(good)).records) == 1


def test_a_bad_line_is_named_and_the_others_stay(tmp_path: Path) -> None:
    good = {"id": "a", "kind": "launch", "starts_at": 1, "ends_at": 2, "note": "one\u2028two"}
    deep, long = "[" * 100_000, '{"id": ' + "9" * 5_000 + "}"
    text = "\n".join([json.dumps(good, ensure_ascii=False), "", '{"id": "b",}', "7", deep, long, '{"id": "c"}'])
    found = read(tmp_path, "e.jsonl", f"{text}\n{json.dumps({**good, 'id': 'd'})}\n")
    assert [record.id for record in found.records] == ["a", "d"]
    assert found.records[0].note == "one\u2028two"
    assert [reason.split(":")[0] for reason in found.skipped] == [f"e.jsonl line {n}" for n in (3, 4, 5, 6, 7)]
    assert "column 12" in found.skipped[0]


ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:weekly
SUMMARY:Standup webinar
CATEGORIES:Webinar,Team
DTSTART;TZID=Europe/Berlin:20261020T100000
DTEND;TZID=Europe/Berlin:20261020T113000
RRULE:FREQ=WEEKLY;COUNT=4
EXDATE;TZID=Europe/Berlin:20261103T100000
END:VEVENT
BEGIN:VEVENT
UID:weekly
SUMMARY:Moved
RECURRENCE-ID;TZID=Europe/Berlin:20261027T100000
DTSTART;TZID=Europe/Berlin:20261028T150000
DURATION:PT1H
END:VEVENT
BEGIN:VEVENT
UID:day
DTSTART;VALUE=DATE:20261024
DTEND;VALUE=DATE:20261026
END:VEVENT
BEGIN:VEVENT
UID:off
STATUS:CANCELLED
DTSTART:20261020T100000Z
DTEND:20261020T110000Z
END:VEVENT
BEGIN:VEVENT
UID:none
DTSTART:20261020T100000Z
END:VEVENT
BEGIN:VEVENT
UID:never
END:VEVENT
END:VCALENDAR
"""


def test_icalendar(tmp_path: Path) -> None:
    pytest.importorskip("icalendar")
    found = read(tmp_path, "team.ics", ICS, Defaults(zone=BERLIN))
    starts = {record.id: (record.starts_at, record.ends_at - record.starts_at) for record in found.records}
    first = parse_moment("2026-10-20T10:00", BERLIN)
    assert starts == {
        f"ics:weekly|{first:.0f}": (first, 5400.0),
        # A week after the change of clocks: the same time of day.
        f"ics:weekly|{first + 21 * 86_400 + 3600:.0f}": (parse_moment("2026-11-10T10:00", BERLIN), 5400.0),
        f"ics:weekly|{first + 7 * 86_400 + 3600:.0f}": (parse_moment("2026-10-28T15:00", BERLIN), 3600.0),
        # Two days, one of them with 25 hours.
        "ics:day": (parse_moment("2026-10-24", BERLIN), 2 * 86_400.0 + 3600.0),
    }
    assert {record.kind for record in found.records} == {"webinar", "event"}
    assert [reason.split(": ")[1] for reason in found.skipped] == [
        "cancelled",
        "no length (neither an end after its start nor a duration)",
        "no DTSTART",
    ]


def test_endless_rules_end(tmp_path: Path) -> None:
    pytest.importorskip("icalendar")
    rule = (
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:a\nDTSTART:{start}\nDURATION:PT10M\nRRULE:{rule}\nEND:VEVENT\nEND:VCALENDAR"
    )
    daily = read(tmp_path, "a.ics", rule.format(start="19700101T000000Z", rule="FREQ=DAILY"))
    assert len(daily.records) == 1000
    assert UNTIL - 86_400 < max(record.starts_at for record in daily.records) <= UNTIL
    local_end = rule.format(start="20260101T000000Z", rule="FREQ=DAILY;UNTIL=20260103")
    assert len(read(tmp_path, "b.ics", local_end).records) == 3
    assert read(tmp_path, "c.ics", rule.format(start="20260101T000000Z", rule="FREQ=OFTEN")).records == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "x"),
        ("a.csv", "when,what\n1,2\n"),
        ("a.csv", ""),
        ("a.csv", 'starts_at,ends_at\n"1,2\n'),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.ics", "hello"),
        ("a.ics", ""),
        ("a.ics", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:x\n"),
    ],
)
def test_what_is_no_such_file_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    if name.endswith("ics"):
        pytest.importorskip("icalendar")
    with pytest.raises(InputError, match=f"{name}|expected"):
        raise_unless_skipped(read(tmp_path, name, text), name)


def raise_unless_skipped(found: Found, name: str) -> None:
    """A damaged calendar may still be read; then it must say what it skipped."""
    if found.skipped and not found.records:
        raise InputError(f"{name}: {found.skipped}")


@pytest.mark.slow
def test_too_many_and_unreadable(tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(n), "kind": "k", "starts_at": n, "ends_at": n + 1}) for n in range(MAX_RECORDS + 1)]
    with pytest.raises(InputError, match="more than"):
        read(tmp_path, "e.jsonl", "\n".join(lines))
    with pytest.raises(InputError, match="cannot read"):
        read_records(tmp_path / "missing.csv", Defaults(), UNTIL)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_records(tmp_path / "b.csv", Defaults(), UNTIL)


def test_public_holidays() -> None:
    pytest.importorskip("holidays")
    found = public_holidays("de", "BY", [2026], Defaults(zone=BERLIN, expected_size=0.5))
    christmas = next(record for record in found.records if record.id == "holiday:DE-BY:2026-12-25")
    assert (christmas.kind, christmas.expected_size) == (HOLIDAY, 0.5)
    assert christmas.starts_at == parse_moment("2026-12-25", BERLIN)
    assert christmas.ends_at - christmas.starts_at == 86_400.0
    whole = {record.id for record in public_holidays("DE", None, [2026], Defaults()).records}
    assert len(found.records) > len(whole) > 5
    for country, subdivision, years in (("XX", None, [2026]), ("DE", "ZZ", [2026]), ("DE", None, [99])):
        with pytest.raises(InputError):
            public_holidays(country, subdivision, years, Defaults())


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "2026-13-01"])
def test_no_moments(text: str) -> None:
    with pytest.raises(InputError):
        parse_moment(text, BERLIN)


def test_no_zone() -> None:
    for name in ("Mars/Base", "../etc", ""):
        with pytest.raises(InputError):
            zone(name)
