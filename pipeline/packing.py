"""Objects as compressed bytes, for state that waits or is written far more often than it is read.

Zstandard at its lowest level takes a fifth of what zlib takes for the same size: of the state of a pool after an hour,
222 kB, 0.28 in place of 1.43 ms to compress, 0.19 in place of 0.52 ms to expand, and 69.4 in place of 67.6 kB (measured
on 2026-12-01 on one of 2 busy cores; cramjam 2.14.0).
"""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import cramjam

__all__ = ["pack", "unpack"]

#: Arrays of protocol 5 are restored as views of buffers of their own, whose objects take as much memory as small arrays
#: themselves.
_PROTOCOL = 4
_LEVEL = 1
_CHECK_BYTES = 4


def pack(state: Any) -> bytes:
    """Return the state as bytes; ``unpack`` restores it."""
    body = bytes(cramjam.zstd.compress(pickle.dumps(state, protocol=_PROTOCOL), level=_LEVEL))
    return zlib.crc32(body).to_bytes(_CHECK_BYTES, "big") + body


def unpack(packed: bytes) -> Any:
    """Restore what was packed; only ever of bytes that this program has packed itself, as pickles can run code.

    Raises:
        ValueError: the bytes are damaged.
        Exception: what was packed is of another version of the program, and cannot be restored.
    """
    check, body = packed[:_CHECK_BYTES], packed[_CHECK_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECK_BYTES, "big") != check:
        raise ValueError("the checksum of packed state is wrong")
    return pickle.loads(bytes(cramjam.zstd.decompress(body)))
