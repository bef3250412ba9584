"""Files that users hand to the sizing commands: JSON, catalogues, tables; every one is untrusted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import InputError

__all__ = ["read_csv_rows", "read_json", "read_mapping", "write_csv_rows", "write_text"]

#: Larger files are refused: a GuideLLM report with every request of a long sweep has some 100 MB.
MAX_BYTES = 512 * 2**20


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        if size > MAX_BYTES:
            raise InputError(
                f"{path} has {size / 2**20:,.0f} MiB, more than the {MAX_BYTES / 2**20:,.0f} that are read"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it cannot be read, is too large or is not JSON.
    """
    text = _text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return the content of a YAML or JSON file that holds a mapping.

    Raises:
        InputError: it cannot be read or holds something else.
    """
    if path.suffix == ".json":
        content = read_json(path)
    else:
        try:
            content = yaml.safe_load(_text(path))
        except RecursionError as error:
            raise InputError(f"{path} is nested too deeply") from error
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold a mapping, not {type(content).__name__}")
    return content


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by its header; empty cells stay empty strings.

    Raises:
        InputError: it cannot be read, has no header, or a row has more cells than the header.
    """
    try:
        reader = csv.DictReader(io.StringIO(_text(path)), strict=True)
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
