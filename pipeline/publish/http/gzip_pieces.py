"""Bodies in gzip (RFC 1952) put together of pieces that were compressed before: what has not changed is not compressed
again for what has.

A piece is blocks of DEFLATE (RFC 1951) that end at a whole byte and refer to nothing before them. The checksum at the
end of the body is made of those of the pieces: a checksum is a polynomial over GF(2) modulo that of CRC-32 (RFC 1952,
section 8), and to append n bytes is to multiply it by x to the 8n.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

__all__ = ["LEVEL", "Piece", "as_it_is", "gzipped", "piece"]

#: Of zlib; higher levels take several times as long for a tenth less.
LEVEL = 1

#: Magic number, DEFLATE, no flags, no time, the fastest algorithm, an unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
#: A last block that holds nothing.
_LAST = b"\x03\x00"
_MOST_STORED = 65_535

#: The polynomial of CRC-32 with its lowest power in the highest bit, less x to the 32.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


class Piece(NamedTuple):
    """A piece of a body: compressed, its CRC-32, and how many bytes it stands for."""

    deflated: bytes
    checksum: int
    size: int


def piece(body: bytes) -> Piece:
    """Compress a piece."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Piece(packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH), zlib.crc32(body), len(body))


def as_it_is(body: bytes) -> Piece:
    """Return a piece of at most 65,535 bytes as a block that is not compressed: for a few bytes that change each time.

    Raises:
        ValueError: it is longer.
    """
    if len(body) > _MOST_STORED:
        raise ValueError(f"{len(body)} bytes do not fit into a stored block")
    size = struct.pack("<BHH", 0, len(body), len(body) ^ _MOST_STORED)
    return Piece(size + body, zlib.crc32(body), len(body))


def gzipped(pieces: Iterable[Piece]) -> bytes:
    """Return a body in gzip, of pieces in their order."""
    checksum = size = 0
    parts = [_HEADER]
    for each in pieces:
        parts.append(each.deflated)
        checksum = _product(checksum, _bytes_on(each.size)) ^ each.checksum
        size += each.size
    return b"".join((*parts, _LAST, struct.pack("<II", checksum, size & 0xFFFFFFFF)))


@lru_cache(maxsize=4096)
def _bytes_on(count: int) -> int:
    """x to the power of 8 ``count``: what a checksum is multiplied by when so many bytes follow."""
    power, square = _ONE, _ONE >> 8
    while count:
        if count & 1:
            power = _product(power, square)
        square = _product(square, square)
        count >>= 1
    return power


def _product(one: int, other: int) -> int:
    """The product of two polynomials modulo that of CRC-32."""
    result = 0
    while one:
        if one & _ONE:
            result ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return result
