"""What the first bytes of a text file tell about it: its encoding, and the separator that a spreadsheet names."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

__all__ = ["LINE_BYTES", "endless_line", "is_utf16", "separator_line"]

_HEAD_BYTES = 256
#: Longest first line of a CSV: DuckDB's own limit for a line (``max_line_size``, DuckDB 2.0.0).
LINE_BYTES = 2_000_000
_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Every second byte of Latin text in UTF-16 is zero; of other texts none is.
_ZERO_SHARE = 0.25


def _head(path: Path, size: int = _HEAD_BYTES) -> bytes:
    """Return the first ``size`` bytes of a file, decompressed; nothing where it cannot be read."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return bytes(file.read(size))
    except (OSError, EOFError, zlib.error):  # whoever reads the file whole says why
        return b""


def is_utf16(path: Path, *, marked: bool = True) -> bool:
    """Return whether a file is UTF-16 text with a byte order mark; not ``marked``: without one."""
    head = _head(path)
    if marked:
        return head.startswith(_MARKS)
    return not head.startswith(_MARKS) and head.count(0) > _ZERO_SHARE * max(len(head), 4)


def endless_line(path: Path) -> bool:
    """Return whether the first line of a file has more than ``LINE_BYTES`` bytes.

    DuckDB tries every separator and quote on such a line: 100 MB of one line took it more than 25 s.
    """
    head = _head(path, LINE_BYTES + 1)
    return len(head) > LINE_BYTES and b"\n" not in head and b"\r" not in head


def separator_line(path: Path) -> str | None:
    """Return the separator that a first line of its own names ("sep=;", as Excel reads); None without such a line."""
    head = _head(path)
    text = head.decode("utf-16" if head.startswith(_MARKS) else "utf-8-sig", "replace")
    found = re.match(r"\"?sep=([,;|\t])\"?\r?\n", text)
    return None if found is None else found[1]
