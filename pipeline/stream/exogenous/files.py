"""Files of rows from outside: ``.jsonl`` as on a topic, or ``.csv`` with a column for each field and level."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.config.user_files import read_text
from pipeline.errors import InputError
from pipeline.forecast.exogenous.rows import ExogenousRow, RowRefused, parse_row

__all__ = ["read_rows"]

_MOST_ROWS = 2_000_000
_MOST_NAMED = 5
_TIMES = ("issued_at", "known_at", "target_at", "at")


def read_rows(path: Path) -> list[ExogenousRow]:
    """Return the rows of a file in its order.

    A CSV has the fields of a row as columns and a column for each quantile level, ``q05`` or ``0.05``. Times are epoch
    seconds or ISO 8601 with an offset. A row without ``known_at`` was known when it was issued (a signal's value, from
    the time that it is about).

    Raises:
        InputError: the file cannot be read, or rows of it cannot be used; the text names the first ones.
    """
    suffix = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if suffix not in (".csv", ".jsonl"):
        raise InputError(f"{path} is neither .csv nor .jsonl")
    text = read_text(path)
    rows: list[ExogenousRow] = []
    bad: list[str] = []
    for line, raw in _csv_rows(text) if suffix == ".csv" else _json_rows(text):
        try:
            if isinstance(raw, str):
                raise InputError(raw)
            rows.append(parse_row(_with_epochs(raw)))
        except (RowRefused, InputError) as error:
            bad.append(f"line {line}: {error}")
        if len(rows) > _MOST_ROWS:
            raise InputError(f"{path} has more than {_MOST_ROWS:,} rows")
    if bad:
        more = f"; and {len(bad) - _MOST_NAMED:,} more" if len(bad) > _MOST_NAMED else ""
        raise InputError(f"{path}: {'; '.join(bad[:_MOST_NAMED])}{more}")
    return rows


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw = msgspec.json.decode(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {str(error)[:100]}"
            continue
        yield number, raw if isinstance(raw, dict) else "a row must be a JSON object"


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(reader, [])]
        levels = {name: level for name in header if (level := _level(name)) is not None}
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                yield reader.line_num, f"{len(cells)} cells under {len(header)} columns"
                continue
            given = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
            raw: dict[str, Any] = {name: cell for name, cell in given.items() if name not in levels}
            if levels:
                raw["quantiles"] = {str(levels[name]): _number(given[name]) for name in levels if name in given}
            if "value" in raw:
                raw["value"] = _number(raw["value"])
            yield reader.line_num, raw
    except csv.Error as error:
        raise InputError(f"line {reader.line_num}: {error}") from error


def _level(name: str) -> float | None:
    """The quantile level of a column: ``q05`` is 0.05, ``0.975`` itself."""
    if name.startswith("q") and name[1:].isdecimal() and len(name) > 2:
        return float(f"0.{name[1:]}")
    try:
        return float(name)
    except ValueError:
        return None


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _with_epochs(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times as numbers; those that are none are left for ``parse_row`` to refuse."""
    fields = dict(raw)
    for name in _TIMES:
        text = fields.get(name)
        if not isinstance(text, str):
            continue
        fields[name] = _number(text)
        if isinstance(fields[name], float):
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InputError(f"{name} {text[:40]!r} is neither epoch seconds nor ISO 8601") from error
        if moment.tzinfo is None:
            raise InputError(f"{name} {text[:40]!r} needs an offset, such as {text[:19]}Z")
        fields[name] = moment.timestamp()
    return fields
