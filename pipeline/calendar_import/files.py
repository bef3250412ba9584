"""Calendar records from files: CSV, JSON, JSON lines and iCalendar (``.ics``, RFC 5545).

Everything in a file is either a record or named in ``skipped``; a file that is no table or calendar is an error.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.calendar_import.times import parse_moment
from pipeline.errors import InputError
from pipeline.forecast.calendar.effects import CalendarRecord, parse_record

__all__ = ["MAX_RECORDS", "Defaults", "Found", "TooManyRecords", "identity", "read_records"]

MAX_RECORDS = 10_000
MAX_BYTES = 16 * 1024 * 1024

_TIMES = ("starts_at", "ends_at", "announced_at")
_NUMBERS = ("expected_size", "confidence")
_TEXTS = ("id", "kind", "source", "note")
_SCOPE = ("model", "pool")


class TooManyRecords(InputError):
    """A file holds more records than can be used."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a file does not say it; ``kind`` given by a user wins over the file's."""

    kind: str | None = None
    expected_size: float | None = None
    confidence: float | None = None
    model: str | None = None
    pool: str | None = None
    announced_at: float | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    def fields(self) -> dict[str, Any]:
        """Those that are known, as fields of a record."""
        scope = {name: value for name, value in (("model", self.model), ("pool", self.pool)) if value is not None}
        known = {
            "expected_size": self.expected_size,
            "confidence": self.confidence,
            "announced_at": self.announced_at,
            "scope": scope or None,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(slots=True)
class Found:
    """What a file holds: records, and why the rest are none."""

    records: list[CalendarRecord] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, raw: Mapping[str, Any], where: str) -> None:
        """Take a decoded record, or note why it is none."""
        try:
            self.records.append(parse_record(raw))
        except ValueError as error:
            self.skipped.append(f"{where}: {error}")
        if len(self.records) > MAX_RECORDS:
            raise TooManyRecords(f"more than {MAX_RECORDS} records; import less at a time")


def read_records(path: Path, defaults: Defaults, until: float) -> Found:
    """The records of a ``.csv``, ``.json``, ``.jsonl`` or ``.ics`` file.

    Args:
        path: the file.
        defaults: what holds where the file does not say it.
        until: recurring events of a calendar are followed up to this time (epoch seconds).

    Raises:
        InputError: the file cannot be read, is too large, or is not what its name says.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.name} has more than {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    suffix = path.suffix.lower()
    if suffix == ".ics":
        from pipeline.calendar_import.ics import read_ics

        found = read_ics(text, path.name, defaults, until)
    elif suffix == ".csv":
        found = _read_csv(text, path.name, defaults)
    elif suffix == ".json":
        found = _read_json(text, path.name, defaults)
    elif suffix == ".jsonl":
        found = _read_json_lines(text, path.name, defaults)
    else:
        raise InputError(f"{path.name}: expected a .csv, .json, .jsonl or .ics file")
    if defaults.kind is not None:
        found.records = [replace(record, kind=defaults.kind) for record in found.records]
    return found


def identity(*parts: object) -> str:
    """An id that is the same for the same parts: a second import replaces the first."""
    return hashlib.sha256("|".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:24]


def _read_csv(text: str, name: str, defaults: Defaults) -> Found:
    try:
        table = csv.DictReader(io.StringIO(text), strict=True)
        columns = [column or "" for column in table.fieldnames or ()]
        unknown = sorted(set(columns) - {*_TIMES, *_NUMBERS, *_TEXTS, *_SCOPE})
        if unknown or not {"starts_at", "ends_at"} <= set(columns):
            raise InputError(
                f"{name}: the columns must be starts_at, ends_at and any of "
                f"{', '.join((*_TEXTS, *_NUMBERS, *_SCOPE, 'announced_at'))}, not {', '.join(unknown or columns)[:200]}"
            )
        found = Found()
        for row in table:
            where = f"{name} line {table.line_num}"
            if None in row:
                found.skipped.append(f"{where}: more cells than columns")
                continue
            _add_row(found, {key: cell for key, cell in row.items() if cell}, where, defaults)
    except csv.Error as error:
        raise InputError(f"{name} is not CSV: {error}") from error
    return found


def _add_row(found: Found, row: Mapping[str, str], where: str, defaults: Defaults) -> None:
    try:
        raw: dict[str, Any] = {key: row[key] for key in _TEXTS if key in row}
        raw |= {key: parse_moment(row[key], defaults.zone) for key in _TIMES if key in row}
        raw |= {key: float(row[key]) for key in _NUMBERS if key in row}
    except (InputError, ValueError) as error:
        found.skipped.append(f"{where}: {error}")
        return
    scope = {key: row[key] for key in _SCOPE if key in row}
    _complete(found, raw | ({"scope": scope} if scope else {}), where, defaults)


def _read_json(text: str, name: str, defaults: Defaults) -> Found:
    found = Found()
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {str(error)[:200]}") from error
    for number, item in enumerate(items if isinstance(items, list) else [items], 1):
        _add_object(found, item, f"{name} record {number}", defaults)
    return found


def _read_json_lines(text: str, name: str, defaults: Defaults) -> Found:
    found = Found()
    # Not splitlines: it cuts at characters that JSON allows inside a string, too.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            found.skipped.append(f"{where}: no JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:
            found.skipped.append(f"{where}: no JSON: {str(error)[:200]}")
        else:
            _add_object(found, item, where, defaults)
    return found


def _add_object(found: Found, item: object, where: str, defaults: Defaults) -> None:
    if not isinstance(item, dict):
        found.skipped.append(f"{where}: not an object")
        return
    try:
        times = {k: parse_moment(item[k], defaults.zone) for k in _TIMES if isinstance(item.get(k), str)}
    except InputError as error:
        found.skipped.append(f"{where}: {error}")
        return
    _complete(found, {**item, **times}, where, defaults)


def _complete(found: Found, raw: dict[str, Any], where: str, defaults: Defaults) -> None:
    """Fill in what the file leaves open, and take the record."""
    raw = {**defaults.fields(), **raw}
    raw.setdefault("kind", defaults.kind or "")
    raw.setdefault("id", identity(raw.get("kind"), raw.get("starts_at"), raw.get("ends_at"), raw.get("scope")))
    found.add(raw, where)
