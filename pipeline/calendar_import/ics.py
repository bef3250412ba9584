"""Calendar records from iCalendar text (RFC 5545); needs the extra ``calendar``.

Recurring events become one record per occurrence (RRULE, RDATE, EXDATE, and RECURRENCE-ID for those that were moved).
Cancelled and transparent events are skipped, as are those without a length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from pipeline.calendar_import.files import Defaults, Found, TooManyRecords, identity
from pipeline.calendar_import.times import epoch
from pipeline.errors import InputError

__all__ = ["read_ics"]

#: Of one event the newest so many occurrences are taken.
MAX_OCCURRENCES = 1_000
#: Occurrences that are looked at: a rule may count from long ago.
_MAX_STEPS = 100_000
_MAX_TEXT = 4096


def read_ics(text: str, name: str, defaults: Defaults, until: float) -> Found:
    """The events of a calendar up to ``until`` (epoch seconds).

    Raises:
        InputError: it is no calendar, or the extra is not installed.
    """
    try:
        from icalendar import Calendar
    except ImportError as error:
        raise InputError("reading .ics files needs icalendar: install tokentide[calendar]") from error
    try:
        calendars = Calendar.from_ical(text, multiple=True)
        events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{name} is not an iCalendar file: {str(error)[:200]}") from error
    if not calendars:
        raise InputError(f"{name} is not an iCalendar file: it is empty")
    moved = {(str(e.get("UID", "")), _moment(e, "RECURRENCE-ID", defaults)) for e in events if "RECURRENCE-ID" in e}
    found = Found()
    for number, event in enumerate(events, 1):
        where = f"{name} event {number}"
        try:
            _read_event(found, event, where, defaults, until, moved)
        except TooManyRecords:
            raise
        except InputError as error:
            found.skipped.append(f"{where}: {error}")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            found.skipped.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
    return found


def _read_event(
    found: Found, event: Any, where: str, defaults: Defaults, until: float, moved: set[tuple[str, float | None]]
) -> None:
    status, shown = str(event.get("STATUS", "")).upper(), str(event.get("TRANSP", "")).upper()
    if status == "CANCELLED" or shown == "TRANSPARENT":
        found.skipped.append(f"{where}: {(status or shown).lower()}")
        return
    begins = event.get("DTSTART")
    if begins is None:
        raise InputError("no DTSTART")
    length = _length(event, begins.dt)
    uid = str(event.get("UID") or identity(event.get("SUMMARY"), begins.dt))
    one = "RECURRENCE-ID" in event or not ({"RRULE", "RDATE"} & set(event.keys()))
    for at in [begins.dt] if one else _occurrences(event, begins.dt, until, defaults):
        starts_at = epoch(at, defaults.zone)
        if not one and (uid, starts_at) in moved:
            continue
        # Of a day the local end counts: a day with a change of clocks has 23 or 25 hours.
        ends_at = epoch(at + length, defaults.zone)
        original = _moment(event, "RECURRENCE-ID", defaults)
        name = uid if one and original is None else f"{uid}|{starts_at if original is None else original:.0f}"
        raw = {
            **defaults.fields(),
            "id": f"ics:{name}" if len(name) <= 200 else f"ics:{identity(name)}",
            "kind": defaults.kind or _category(event) or "event",
            "starts_at": starts_at,
            "ends_at": ends_at,
            "source": "icalendar",
            "note": str(event.get("SUMMARY", ""))[:_MAX_TEXT],
        }
        found.add(raw, where)


def _length(event: Any, begins: date | datetime) -> timedelta:
    ends, duration = event.get("DTEND"), event.get("DURATION")
    if ends is not None:
        length = ends.dt - begins
    elif duration is not None:
        length = duration.dt
    else:
        length = timedelta() if isinstance(begins, datetime) else timedelta(days=1)
    if not length > timedelta():
        raise InputError("no length (neither an end after its start nor a duration)")
    return timedelta(seconds=length.total_seconds())


def _moment(event: Any, name: str, defaults: Defaults) -> float | None:
    value = event.get(name)
    try:
        return None if value is None else epoch(value.dt, defaults.zone)
    except (InputError, AttributeError, TypeError):
        return None


def _occurrences(event: Any, begins: date | datetime, until: float, defaults: Defaults) -> Iterator[date | datetime]:
    """Starts of a recurring event up to ``until``, in order, the newest ``MAX_OCCURRENCES`` of them."""
    from dateutil.rrule import rruleset, rrulestr  # type: ignore[import-untyped]

    day = not isinstance(begins, datetime)
    first = datetime(begins.year, begins.month, begins.day) if not isinstance(begins, datetime) else begins
    rules = rruleset(cache=False)
    for rule in _all(event, "RRULE"):
        written = rule.to_ical().decode()
        if first.tzinfo is None:  # dateutil wants both without a zone
            written = ";".join(p.rstrip("Z") if p.upper().startswith("UNTIL=") else p for p in written.split(";"))
        else:
            written = _until_in_utc(written, first)
        rules.rrule(rrulestr(written, dtstart=first))
    rules.rdate(first)
    for name, add in (("RDATE", rules.rdate), ("EXDATE", rules.exdate)):
        for listed in _all(event, name):
            for item in listed.dts:
                at = item.dt[0] if isinstance(item.dt, tuple) else item.dt
                at = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day)
                add(at.replace(tzinfo=first.tzinfo) if at.tzinfo is None or first.tzinfo is None else at)
    due = takewhile(lambda at: epoch(at, defaults.zone) <= until, islice(rules, _MAX_STEPS))
    for at in deque(due, MAX_OCCURRENCES):
        yield at.date() if day else at


def _until_in_utc(rule: str, first: datetime) -> str:
    """A rule for a start with a zone must end in UTC; some programs write a local day instead."""
    parts = []
    for part in rule.split(";"):
        name, _, value = part.partition("=")
        if name.upper() == "UNTIL" and not value.endswith("Z"):
            at = datetime.strptime(value[:15], "%Y%m%dT%H%M%S" if "T" in value else "%Y%m%d")
            at = at if "T" in value else at + timedelta(days=1, seconds=-1)
            parts.append(f"UNTIL={at.replace(tzinfo=first.tzinfo).astimezone(UTC):%Y%m%dT%H%M%SZ}")
        else:
            parts.append(part)
    return ";".join(parts)


def _all(event: Any, name: str) -> list[Any]:
    value = event.get(name)
    return [] if value is None else value if isinstance(value, list) else [value]


def _category(event: Any) -> str:
    value = event.get("CATEGORIES")
    first = value[0] if isinstance(value, list) and value else value
    names = list(getattr(first, "cats", ()) or ())
    return str(names[0]).strip().lower()[:256] if names else ""
