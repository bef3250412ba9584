"""What the first bytes of a text file tell about it: its encoding, and the separator that a spreadsheet names."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

__all__ = ["is_utf16", "separator_line"]

_HEAD_BYTES = 256
_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Every second byte of Latin text in UTF-16 is zero; of other texts none is.
_ZERO_SHARE = 0.25


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, decompressed; nothing where it cannot be read."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return bytes(file.read(_HEAD_BYTES))
    except (OSError, EOFError, zlib.error):  # whoever reads the file whole says why
        return b""


def is_utf16(path: Path, *, marked: bool = True) -> bool:
    """Return whether a file is UTF-16 text with a byte order mark; not ``marked``: without one."""
    head = _head(path)
    if marked:
        return head.startswith(_MARKS)
    return not head.startswith(_MARKS) and head.count(0) > _ZERO_SHARE * max(len(head), 4)


def separator_line(path: Path) -> str | None:
    """Return the separator that a first line of its own names ("sep=;", as Excel reads); None without such a line."""
    head = _head(path)
    text = head.decode("utf-16" if head.startswith(_MARKS) else "utf-8-sig", "replace")
    found = re.match(r"\"?sep=([,;|\t])\"?\r?\n", text)
    return None if found is None else found[1]
