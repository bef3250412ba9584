"""What is wrong with a text file that is no table: another format by its first bytes, a line that is uneven, a cell."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path

from pipeline.replay.formats import CsvFormat, DateOrder, Decimal
from pipeline.replay.head import separator_line

__all__ = ["format_hint", "other_content", "uneven_line"]

#: First bytes of files that are no text, by what to say of them. A file's name decides over gzip and Parquet.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "is an Excel workbook or a zip archive: save the sheet as CSV, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook: save the sheet as CSV"),
    (b"BZh", "is compressed with bzip2: unpack it, or compress it with gzip (.csv.gz)"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it, or compress it with gzip (.csv.gz)"),
    (b"\xff\xfe\x00\x00", "is UTF-32 text: convert it to UTF-8, such as with iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32 text: convert it to UTF-8, such as with iconv -f UTF-32 -t UTF-8"),
    (b"\xfe\xff", "is UTF-16 text of the big-endian kind: convert it, such as with iconv -f UTF-16 -t UTF-8"),
    (b"SQLite format 3", "is an SQLite database: export the table as CSV"),
)
_NAMED = (
    (b"\x1f\x8b", ".gz", "is compressed with gzip: let its name end in .csv.gz"),
    (b"\x28\xb5\x2f\xfd", ".zst", "is compressed with zstd: let its name end in .csv.zst"),
    (b"PAR1", ".parquet", "is Parquet: let its name end in .parquet"),
)
#: What programs write where there is no value.
_NO_VALUE = ("null", "none", "n/a", "na", "undefined", "-", "--")
#: Lines that are looked at for one that is uneven, and the longest field that is read.
_MOST_LINES = 20_000_000
_UNIT = re.compile(r"\s*[+-]?\d[\d.,\s]*\s*(?:%|[a-zµ][\w./%]*(?:\s+\S+)*)\s*", re.IGNORECASE)


def other_content(path: Path) -> str | None:
    """Return what a file is by its first bytes, and what to do with it, where it is no text; None where it may be."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:  # whoever reads the file says why
        return None
    for magic, suffix, text in _NAMED:
        if head.startswith(magic):
            return None if path.suffix.lower() == suffix else text
    if head and path.suffix.lower() in {suffix for _, suffix, _ in _NAMED}:
        return f"is no {path.suffix.lower()} file though its name says so: let its name end in what it is, such as .csv"
    return next((text for magic, text in _MAGIC if head.startswith(magic)), None)


def uneven_line(path: Path) -> str | None:
    """Return which line of a CSV has more or fewer fields than its header; None where none has, or it cannot be read.

    The separator is the one of the first line that has most of its kind.
    """
    compressed = path.suffix.lower() == ".gz"
    if path.suffix.lower() not in (".csv", ".tsv", ".txt", ".gz"):
        return None
    skipped = separator_line(path) is not None
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if compressed else path.open(encoding="utf-8-sig") as file:
            if skipped:
                next(file)
            first = next(file, "")
            separator = max(",;\t|", key=first.count)
            wanted = len(next(csv.reader([first], delimiter=separator), []))
            reader = csv.reader(file, delimiter=separator)
            for row in reader:
                if row and len(row) != wanted:
                    line = reader.line_num + 1 + skipped
                    return f"line {line} has more or fewer fields than the header: {len(row)}, not {wanted}"
                if reader.line_num > _MOST_LINES:
                    return None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, StopIteration):
        return None
    return None


def format_hint(text: str, written: CsvFormat, *, is_time: bool) -> str:
    """Return, after a semicolon, what reads a cell like ``text`` or how to write it; "" where that is not known."""
    if written.dates is DateOrder.ISO and re.match(r"\s*\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b", text):
        return "; --dates day-first or --dates month-first says how dates are written"
    if is_time:
        return "; times are written as ISO 8601, such as 2026-02-01T13:00:00Z" if text else ""
    if re.fullmatch(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d+)?\s*", text):
        return "; if its commas stand between thousands, write numbers without them (--decimal comma reads fractions)"
    if re.fullmatch(r"\s*[+-]?\d{1,3}([\s'’\u00a0\u202f]\d{3})+([.,]\d+)?\s*", text):
        return "; write numbers without marks between thousands"
    if written.decimal is Decimal.POINT and re.fullmatch(r"\s*[+-]?[\d.]*,\d+\s*", text):
        return "; --decimal comma reads decimal commas"
    if text.strip().lower() in _NO_VALUE:
        return "; leave a cell without a value empty"
    if _UNIT.fullmatch(text):
        return "; write plain numbers without units (Grafana: Inspect, Data, without 'Formatted data')"
    return ""
