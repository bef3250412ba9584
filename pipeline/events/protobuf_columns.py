"""Protobuf messages in columns: the fields of many messages of one type, found together without an object for each.

Only what every encoder writes is read: tags and lengths as varints of few bytes. A message that is anything else is
named as broken, for the ordinary parser to judge; so are messages of very many fields of a few bytes, since each field
takes memory in several columns. Encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import Buffer, Words

__all__ = ["MOST_VARINT_BYTES", "Parts", "parts_of", "varint", "varints"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Bytes of the longest varint that is read: lengths and counts below 2²⁸.
MOST_VARINT_BYTES = 4
_SHIFTS = range(0, 7 * MOST_VARINT_BYTES, 7)
#: Messages that still have fields, below which each is read by itself: that costs less, and one may have thousands.
_FEW = 64
#: Fields that are found in any case; more of them have to have so many bytes each, on average.
_ALWAYS_FOUND = 4_096
_LEAST_BYTES = 16
_ONE = np.uint64(1)
_CONTINUES = np.uint64(0x80808080)


class Parts(NamedTuple):
    """Length-delimited fields, in the order of their messages and within each as they came.

    ``owner`` is the message's place, ``tag`` the tag's byte, ``start`` and ``end`` the content's positions. ``broken``
    (one for each message) marks those whose fields are not all of this kind, or too many; they have no, or not all of
    their parts.
    """

    owner: Ints
    tag: Ints
    start: Ints
    end: Ints
    broken: Bools


def varints(word: Words) -> tuple[Ints, Ints]:
    """Return the varint that each word (little-endian) begins with, and its bytes; more than 4 bytes: it is none."""
    stop = ~word & _CONTINUES
    below = (stop - _ONE) & ~stop  # all bits under the one that says that the varint ends
    size = (np.bitwise_count(below).astype(np.int64) + 1) >> 3
    word = word & below
    value = word & np.uint64(0x7F)
    if (size > 1).any():
        value |= (word >> _ONE) & np.uint64(0x3F80)
        value |= (word >> np.uint64(2)) & np.uint64(0x1FC000)
        value |= (word >> np.uint64(3)) & np.uint64(0xFE00000)
    return value.view(np.int64), size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position and the position after it; a position of −1: there is none that is read.

    >>> varint(bytes([0x2a, 0x96, 0x01]), 0), varint(bytes([0x2a, 0x96, 0x01]), 1), varint(bytes([0x96]), 0)
    ((42, 1), (150, 3), (0, -1))
    """
    number = 0
    try:
        for shift in _SHIFTS:
            byte = data[at]
            number |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return number, at
    except IndexError:
        pass
    return 0, -1


def parts_of(buffer: Buffer, starts: Ints, ends: Ints, tags: bytes) -> Parts:
    """Return the fields of the messages that lie from ``starts`` to ``ends``; each has to have one of the ``tags``."""
    known = np.zeros(256, np.bool_)
    known[list(tags)] = True
    broken = np.zeros(len(starts), np.bool_)
    found: list[tuple[Ints, Ints, Ints, Ints]] = []
    rows = np.flatnonzero(starts < ends)
    at, end = starts[rows], ends[rows]
    most = _most_fields(int((end - at).sum()))
    while len(rows) >= _FEW:  # one field of each message in each turn
        most -= len(rows)
        if most < 0:
            broken[rows] = True
            rows, at, end = rows[:0], at[:0], end[:0]
            break
        word = buffer.at(at)[0]
        tag = (word & np.uint64(0xFF)).view(np.int64)
        length, size = varints(word >> np.uint64(8))
        start = at + 1 + size
        stop = start + length
        good = known[tag] & (size <= MOST_VARINT_BYTES) & (stop <= end)
        if not good.all():
            broken[rows[~good]] = True
            rows, tag, start, stop, end = (column[good] for column in (rows, tag, start, stop, end))
        found.append((rows, tag, start, stop))
        more = stop < end
        rows, at, end = (rows, stop, end) if more.all() else (rows[more], stop[more], end[more])
    for row, first, last in zip(rows.tolist(), at.tolist(), end.tolist(), strict=True):
        fields = _fields(buffer.data, first, last, tags)
        if fields is None:
            broken[row] = True
        elif fields:
            columns = np.array(fields, np.int64).T
            found.append((np.full(len(fields), row), columns[0], columns[1], columns[2]))
    if not found:
        none = np.zeros(0, np.int64)
        return Parts(none, none, none, none, broken)
    owner, tag, start, stop = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(owner, kind="stable")
    return Parts(owner[order], tag[order], start[order], stop[order], broken)


def _fields(data: bytes, at: int, end: int, tags: bytes) -> list[tuple[int, int, int]] | None:
    """Tag, start and end of each field of one message; None: it has something else, or too many."""
    fields: list[tuple[int, int, int]] = []
    for _ in range(_most_fields(end - at)):
        if at >= end:
            return fields
        tag, length, start = data[at], data[at + 1], at + 2
        if length > 0x7F:  # of two bytes, as most are, or more
            after = data[start]
            length, start = (length & 0x7F | after << 7, start + 1) if after < 0x80 else varint(data, at + 1)
        at = start + length
        if tag not in tags or start < 0 or at > end:
            return None
        fields.append((tag, start, at))
    return fields if at >= end else None


def _most_fields(size: int) -> int:
    """How many fields are found in messages of so many bytes together."""
    return _ALWAYS_FOUND + size // _LEAST_BYTES
