"""Tables and texts of the sizing commands; what reads a user's file is in ``pipeline.config.user_files``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.user_files import read_text
from pipeline.errors import InputError

__all__ = ["read_csv_rows", "write_csv_rows", "write_text"]


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by its header; empty cells stay empty strings.

    Raises:
        InputError: it cannot be read, has no header, or a row has more cells than the header.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        rows = []
        for row in reader:
            if None in row:
                raise InputError(f"{path}, line {reader.line_num}: more cells than the header has columns")
            rows.append({key.strip(): value or "" for key, value in row.items()})
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from error
    if not reader.fieldnames:
        raise InputError(f"{path} is empty")
    return rows


def write_csv_rows(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, through a temporary file beside it, so that nobody reads half of it.

    Raises:
        InputError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file, through a temporary file beside it.

    Raises:
        InputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
