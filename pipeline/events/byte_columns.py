"""Many short texts inside one buffer, eight bytes at a time: found, compared and hashed without an object for each.

Everything here works on columns of positions; a buffer carries ``PAD`` spare bytes at both ends, so that a word may
reach beyond the text that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PAD",
    "Buffer",
    "Text",
    "Words",
    "hash_texts",
    "hashes_of",
    "head_mask",
    "index_in",
    "mixed_in",
    "odd_bytes",
]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

#: Spare bytes before and after the texts of a buffer; the longest run of bytes that may be compared at once.
PAD = 2_048
#: Pieces are compared in blocks of rows that hold about so many bytes of them.
_BLOCK_BYTES = 131_072
_LEAST_BLOCK_ROWS = 256

_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
_BACKSLASHES = np.uint64(ord("\\") * 0x0101010101010101)
_QUOTES = np.uint64(ord('"') * 0x0101010101010101)
_SPACES = np.uint64(0x2020202020202020)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
# Well spread bits: the fractional parts of √5, √2, √3 and √7 in 64 bits; the factors are odd.
_SEEDS = (np.uint64(0x3C6EF372FE94F82B), np.uint64(0x6A09E667F3BCC908))
_FACTORS = (np.uint64(0xBB67AE8584CAA73B), np.uint64(0xA54FF53A5F1D36F1))


class Text(NamedTuple):
    """A column of texts: their lengths in bytes, and their bytes as words, zero beyond each text's end."""

    length: Ints
    words: list[Words]


class Buffer:
    """Texts laid end to end; ``starts`` and ``ends`` are their positions in ``data``."""

    def __init__(self, texts: Iterable[bytes], lengths: Ints) -> None:
        self.data = b"".join(chain((bytes(PAD),), texts, (bytes(PAD),)))
        self.ends = np.cumsum(lengths) + PAD
        self.starts = self.ends - lengths
        self._views: dict[int, NDArray[np.void]] = {}

    @classmethod
    def over(cls, data: bytes, starts: Ints, ends: Ints) -> Buffer:
        """Texts that lie in ``data`` already. Those that end less than ``PAD`` bytes before its end cannot be read."""
        buffer = cls.__new__(cls)
        buffer.data, buffer.starts, buffer.ends, buffer._views = data, starts, ends, {}
        return buffer

    def at(self, position: Ints, words: int = 1) -> Words:
        """Return the ``words`` times 8 bytes at each position as little-endian numbers, shape (words, positions)."""
        return self.block(position, words).T

    def block(self, position: Ints, words: int) -> Words:
        """Return the same, shape (positions, words)."""
        view = self._views.get(words)
        if view is None:
            size = 8 * words
            view = np.ndarray((len(self.data) - size + 1,), f"V{size}", self.data, strides=(1,))
            self._views[words] = view
        found: Words = view[position].view("<u8").reshape(-1, words)
        return found

    def all_hold(self, position: Ints, piece: bytes) -> bool:
        """Return whether ``piece`` lies at every position."""
        size = len(piece)
        view = self._views.get(-size)
        if view is None:
            view = self._views[-size] = np.ndarray((len(self.data) - size + 1,), f"V{size}", self.data, strides=(1,))
        return view[position].tobytes() == piece * len(position)

    def differ(self, position: Ints, piece: bytes) -> NDArray[np.bool_]:
        """Return at which positions something else than ``piece`` lies."""
        differ = np.zeros(len(position), np.bool_)
        size = max(_LEAST_BLOCK_ROWS, _BLOCK_BYTES // max(1, len(piece)))
        for start in range(0, len(position), size):  # what is compared must not leave the cache meanwhile
            block = slice(start, start + size)
            if not self.all_hold(position[block], piece):
                differ[block] = self._differ_in(position[block], _words_of(piece))
        return differ

    def _differ_in(self, position: Ints, expected: Sequence[tuple[np.uint64, np.uint64]]) -> NDArray[np.bool_]:
        differ: Words = np.zeros(len(position), np.uint64)
        for word, (wanted, mask) in zip(self.at(position, len(expected)), expected, strict=True):
            x = word ^ wanted
            differ |= x if mask == _ALL else x & mask
        return np.not_equal(differ, 0)

    def until(self, position: Ints, byte: int, most_words: int) -> tuple[Ints, list[Words]]:
        """Return how far from each position ``byte`` lies (8 · ``most_words``: not within that), and the words read."""
        length = np.zeros(len(position), np.int64)
        read: list[Words] = []
        for i in range(most_words):
            word = self.at(position + 8 * i if i else position)[0]
            read.append(word)
            step = index_in(word, byte)
            if i:
                step *= length == 8 * i  # else it was found before
            length += step
            if length.max(initial=0) < 8 * (i + 1):
                break
        return length, read


@lru_cache(maxsize=1_024)
def _words_of(piece: bytes) -> tuple[tuple[np.uint64, np.uint64], ...]:
    """The words of a piece of text, each with the mask of its bytes."""
    count = -(-len(piece) // 8)
    words = np.frombuffer(piece.ljust(8 * count, b"\0"), "<u8")
    masks = np.frombuffer((b"\xff" * len(piece)).ljust(8 * count, b"\0"), "<u8")
    return tuple(zip(words, masks, strict=True))


def odd_bytes(words: Words, *, quotes: bool = False) -> NDArray[np.bool_]:
    """Return which words hold a byte that is not printable ASCII, or a backslash, or (``quotes``) a quote.

    Bit tricks as in S. Anderson, "Bit Twiddling Hacks" (graphics.stanford.edu/~seander/bithacks.html, 2026-12-01): a
    borrow or a carry may mark a byte wrongly, but only beside one that is marked rightly.
    """
    x = words ^ _BACKSLASHES
    hits = (x - _ONES) & ~x
    hits |= (words - _SPACES) & ~words
    hits |= words | (words + _ONES)
    if quotes:
        x = words ^ _QUOTES
        hits |= (x - _ONES) & ~x
    found: NDArray[np.bool_] = np.not_equal(hits & _HIGH, 0)
    return found


def index_in(word: Words, byte: int) -> NDArray[np.uint8]:
    """Return the index of the first byte of each word that is ``byte``; 8 where there is none."""
    x = word ^ np.uint64(byte * 0x0101010101010101)
    hit = (x - _ONES) & ~x & _HIGH  # its lowest bit marks the first such byte
    return np.bitwise_count((hit - _ONE) & ~hit) >> np.uint8(3)


def head_mask(length: Ints) -> Words:
    """Return masks of the first ``length`` bytes of a word: none below 1, all from 8 on."""
    bits = np.minimum(np.maximum(length, 0), 8) << 3
    return ~(_ALL << bits.view(np.uint64))


def hash_texts(text: Text) -> Words:
    """Return 127 bits for each text, shape (texts, 2); equal texts have equal hashes, and the last bit is always set.

    Each half takes the words in turn (xor, then twice: multiply, fold the high bits down) and the length at the end.
    Once is not enough: what differs in the last bytes of a word would reach few bits, and numbers written into an id
    can cancel it. Were the hash random, two different texts would agree with a chance of 2⁻¹²⁷; that is not proven, but
    tests look for ids of many patterns that agree in either half. Not cryptographic: who knows it can make texts that
    agree.
    """
    halves = []
    length = text.length.astype(np.uint64)
    for seed, factor in zip(_SEEDS, _FACTORS, strict=True):
        state = np.full(len(length), seed, np.uint64)
        for i, word in enumerate(text.words):
            mixed = _mix(_mix(state ^ word, factor), factor)
            state = mixed if i == 0 else np.where(text.length > 8 * i, mixed, state)
        halves.append(_mix(_mix(state ^ length, factor), factor))
    halves[1] |= _ONE
    return np.stack(halves, axis=1)


def mixed_in(hashes: Words, word: Words) -> Words:
    """Return hashes, shape (n, 2), that depend on one more word each; as ``hash_texts``, the last bit is always set."""
    mixed = np.stack([_mix(hashes[:, half] ^ word, factor) for half, factor in enumerate(_FACTORS)], axis=1)
    mixed[:, 1] |= _ONE
    return mixed


def hashes_of(texts: Sequence[str]) -> Words:
    """Return ``hash_texts`` of Python strings (their UTF-8 bytes)."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    length = np.fromiter(map(len, encoded), np.int64, len(encoded))
    if not encoded:
        return np.zeros((0, 2), np.uint64)
    buffer = Buffer(encoded, length)
    words = max(1, -(-int(length.max()) // 8))
    last = len(buffer.data) - 8  # a text of 256 characters can be longer than PAD: what ends earlier is not read beyond
    read = [buffer.at(np.minimum(buffer.starts + 8 * i, last))[0] & head_mask(length - 8 * i) for i in range(words)]
    return hash_texts(Text(length, read))


def _mix(state: Words, factor: np.uint64) -> Words:
    state = state * factor
    return state ^ (state >> np.uint64(32))
