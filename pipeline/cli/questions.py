"""Questions of sizing as a table: one a row, as spreadsheets write it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pipeline.config.user_files import read_text
from pipeline.errors import InputError

__all__ = ["read_questions"]

#: What spreadsheets and tables write where there is no value.
_NO_VALUE = frozenset(("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"))
#: Columns that measured points have beside those of a question.
_OF_MEASUREMENTS = ("tpot_ms", "ttft_ms", "source")


def read_questions(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows of a CSV of questions by their columns (None: no value), and the columns that mean nothing.

    Separators are commas, semicolons or tabs, whichever the header has most of. Blank lines are left out.

    Raises:
        InputError: it cannot be read, has no rows, lacks a column for the model or the GPU, has one twice, or a row
            has more cells than the header; the text names the line.
    """
    from sizing.calibration.table import INPUT_COLUMNS

    text = read_text(path)
    head = next((line for line in text.splitlines() if line.strip()), "")
    if not head:
        raise InputError(f"{path} is empty")
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    columns = cells[0][1]
    while columns and not columns[-1]:
        columns.pop()
    missing = [name for name in ("model", "gpu") if name not in columns]
    if missing:
        shown = ", ".join(name[:40] for name in columns[:30])
        raise InputError(f"{path} has no column {missing[0]!r} in its first line; it has: {shown}")
    twice = next((name for name in columns if columns.count(name) > 1 and name), None)
    if twice is not None:
        raise InputError(f"{path} has the column {twice!r} twice")
    rows: list[dict[str, Any]] = []
    for line, row in cells[1:]:
        if any(row[len(columns) :]):
            raise InputError(
                f"{path}, line {line}: more cells ({len(row)}) than the header has columns ({len(columns)})"
            )
        found = dict(zip(columns, row, strict=False))
        rows.append({name: None if _nothing(found.get(name)) else found[name] for name in columns if name})
    if not rows:
        raise InputError(f"{path} has no rows")
    known = {*INPUT_COLUMNS, *_OF_MEASUREMENTS}
    return rows, tuple(name for name in columns if name and name not in known)


def _nothing(cell: str | None) -> bool:
    return cell is None or cell.lower() in _NO_VALUE
