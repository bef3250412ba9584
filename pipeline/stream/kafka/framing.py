"""Where the records of uncompressed wire batches lie, in columns, without an object for each record.

What is read here is format 2 (https://kafka.apache.org/40/documentation.html#recordbatch, 2026-12-01): each record is
its length, attributes, difference of its timestamp and offset to the batch's first, key, value and headers; numbers are
zigzag varints. Only what producers usually write is read: consecutive offsets, a value in each record, no headers.
Anything else, and whatever does not fit together to the byte, is left to aiokafka's own parser, which also says what is
wrong with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bounds", "Frames", "bounds_of", "frames_of"]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_ONE = np.uint64(1)
_THREE = np.uint64(3)
_HIGH = np.uint64(0x8080808080808080)
_MOST_VARINT_BYTES = 4
#: A shift by so many bits is no shift of a word: it marks a number of more than four bytes.
_TOO_MANY = np.uint64(128)

#: A step beyond any buffer.
_BEYOND = 1 << 62
#: What a length of two bytes adds to the position of a record: its own bytes and the length, by the first byte and by
#: the second. The lowest bit says that a length is below zero.
_FIRST = tuple(2 + (byte >> 1 & 0x3F) if byte >= 0x80 and not byte & 1 else _BEYOND for byte in range(256))
_SECOND = tuple(byte << 6 if byte < 0x80 else _BEYOND for byte in range(256))


class Bounds(NamedTuple):
    """Positions of records in the buffer: from behind their own length to their end."""

    begins: Ints
    ends: Ints


class Frames(NamedTuple):
    """Positions in the buffer of each record's key (it has none: the end lies before the start) and value, and the
    difference of its timestamp to the batch's first, milliseconds."""

    key_starts: Ints
    key_ends: Ints
    starts: Ints
    ends: Ints
    timestamp_deltas: Ints


def bounds_of(data: bytes, start: int, end: int, count: int) -> Bounds | None:
    """Return where the ``count`` records in ``data[start:end]`` lie; None: they do not fill it."""
    ends: list[int] = []
    finish = ends.append
    first, second = _FIRST, _SECOND
    at = start
    try:
        for _ in range(count):
            at += first[data[at]] + second[data[at + 1]]
            finish(at)
    except IndexError:
        at = _BEYOND
    if at != end or not ends:  # a length of one byte or three, or something that is wrong
        return _bounds_of_any(data, start, end, count)
    after = np.array(ends, np.int64)
    begins = np.empty_like(after)
    begins[0] = start
    begins[1:] = after[:-1]
    begins += 2
    return Bounds(begins, after)


def _bounds_of_any(data: bytes, start: int, end: int, count: int) -> Bounds | None:
    """The same where lengths take up to three bytes."""
    begins: list[int] = []
    ends: list[int] = []
    at = start
    try:
        for _ in range(count):
            length = data[at]
            at += 1
            if length >= 0x80:
                second = data[at]
                at += 1
                length += (second - 1) << 7
                if second >= 0x80:
                    third = data[at]
                    at += 1
                    length += (third - 1) << 14
                    if third >= 0x80:
                        return None
            begins.append(at)
            at += length >> 1
            ends.append(at)
            if length & 1:  # below zero
                return None
    except IndexError:
        return None
    return Bounds(np.array(begins, np.int64), np.array(ends, np.int64)) if at == end and begins else None


def frames_of(data: bytes, bounds: Bounds, offset_deltas: Ints) -> Frames | None:
    """Return what lies where in records of these bounds; None: they are not all of the usual kind.

    ``offset_deltas`` are the differences of offsets that they must have.
    """
    begins, ends = bounds
    last = len(data) - 8
    at = begins + 1  # behind the attributes, which have no meaning yet
    if last < 0 or at.max() > last:
        return None
    codes = np.frombuffer(data, np.uint8)
    if codes[begins].any():
        return None
    words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    word = words[at]  # holds the two differences and the length of the key, but for batches that span many hours
    deltas, bits = _varint(word)
    offsets, more = _varint(word >> bits)
    bits += more
    key_length, more = _varint(word >> bits)
    bits += more
    if bits.max() > 64 or not np.array_equal(offsets, offset_deltas) or key_length.min() < -1:
        return None
    key_starts = at + (bits >> _THREE).view(np.int64)
    key_ends = key_starts + key_length
    at = np.maximum(key_ends, key_starts)
    if (at >= ends).any() or at.max() > last:
        return None
    value_length, bits = _varint(words[at])
    starts = at + (bits >> _THREE).view(np.int64)
    value_ends = starts + value_length
    # One byte is left, which says that there are no headers.
    fit = bits.max() <= 64 and value_length.min() >= 0 and np.array_equal(value_ends + 1, ends)
    if not fit or codes[value_ends].any():
        return None
    return Frames(key_starts, key_ends, starts, value_ends, deltas)


def _varint(word: Words) -> tuple[Ints, Words]:
    """The numbers that the first bytes of words write, and how many bits each takes."""
    stop = ~word & _HIGH
    bits = np.bitwise_count(stop ^ (stop - _ONE)).astype(np.uint64)  # up to the top bit of the last byte
    longest = int(bits.max()) // 8
    raw = word & np.uint64(0x7F)
    for i in range(1, min(_MOST_VARINT_BYTES, longest)):
        seven = (word >> np.uint64(i)) & np.uint64(0x7F << 7 * i)
        raw |= seven if bits.min() > 8 * i else seven * (bits > 8 * i)
    if longest > _MOST_VARINT_BYTES:
        bits[bits > 8 * _MOST_VARINT_BYTES] = _TOO_MANY
    return (raw >> _ONE).view(np.int64) ^ -(raw & _ONE).view(np.int64), bits
