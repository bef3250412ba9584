"""Stretches of a shape whose bytes lie at fixed places: compared together, a block of records at a time.

A *run* is what lies between two values of varying length: pieces of text, and texts whose length is the same in every
record. A block of records is copied out of the buffer once, small enough to stay in the cache, and there the pieces
are compared, the texts checked and the wanted ones taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import PAD, Buffer, Text, Words, odd_bytes

__all__ = ["FixedText", "Run", "read_run", "runs_of"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: A run of more bytes is cut in two; each must end before the spare bytes of a buffer do.
_MOST_BYTES = 1_024
_BLOCK_BYTES = 262_144
_LEAST_BLOCK_ROWS = 64
_FILLING = ord("a")


class FixedText(NamedTuple):
    """The text of one scalar of a shape (its index): where it begins in its run, and its bytes."""

    scalar: int
    start: int
    length: int


class Run(NamedTuple):
    """``length`` bytes with ``texts`` among them; ``scalar``: which one of varying length follows (None: none does).

    ``template`` and ``mask`` are words: the bytes between texts, and which they are. ``columns`` are the words that
    texts lie in, ``text_mask`` which of their bytes are of texts, ``filling`` what stands in place of the others.
    """

    length: int
    scalar: int | None
    texts: tuple[FixedText, ...]
    template: Words
    mask: Words
    columns: Ints
    text_mask: Words
    filling: Words


@lru_cache(maxsize=256)
def runs_of(pieces: tuple[bytes, ...], lengths: tuple[int | None, ...]) -> tuple[Run, ...]:
    """Return the runs of a shape: its pieces, and of each value between two of them the bytes (None: they vary)."""
    runs: list[Run] = []
    held, texts = bytearray(), list[FixedText]()
    for i, piece in enumerate(pieces):
        length = lengths[i] if i < len(lengths) else 0
        if held and len(held) + len(piece) + (length or 0) > _MOST_BYTES:
            runs.append(_run(held, texts, None))
            held, texts = bytearray(), []
        held += piece
        if i == len(lengths):
            break
        if length is None:
            runs.append(_run(held, texts, i))
            held, texts = bytearray(), []
        else:
            texts.append(FixedText(i, len(held), length))
            held += bytes(length)
    return (*runs, _run(held, texts, None))


def _run(held: bytearray, texts: Sequence[FixedText], scalar: int | None) -> Run:
    size = 8 * (-(-len(held) // 8) + 1)  # a text that ends where the run does can be read in whole words
    of_texts = bytearray(size)
    for text in texts:
        of_texts[text.start : text.start + text.length] = b"\xff" * text.length
    of_run = np.zeros(size, np.uint8)
    of_run[: len(held)] = 0xFF
    inside = np.frombuffer(bytes(of_texts), np.uint8)
    words = inside.view("<u8")
    columns = np.flatnonzero(words)
    template = np.frombuffer(bytes(held.ljust(size, b"\0")), "<u8")
    filling = (~inside & _FILLING).view("<u8")
    mask = (of_run & ~inside).view("<u8")
    return Run(len(held), scalar, tuple(texts), template, mask, columns, words[columns], filling[columns])


def read_run(buffer: Buffer, at: Ints, run: Run, wanted: Collection[int]) -> tuple[Bools, dict[int, Text]]:
    """Return which records do not have the run at ``at``, and its texts by the index of their scalar, as ``wanted``.

    Texts are printable ASCII without a quote or a backslash in all other records.
    """
    count, words = len(at), len(run.template)
    bad = np.zeros(count, np.bool_)
    taken = {
        text.scalar: (text, np.empty((max(1, -(-text.length // 8)), count), np.uint64))
        for text in run.texts
        if text.scalar in wanted
    }
    rows = max(_LEAST_BLOCK_ROWS, _BLOCK_BYTES // (8 * words))
    for first in range(0, count, rows):
        part = slice(first, first + rows)
        block = buffer.block(at[part], words)
        differing = block ^ run.template
        differing &= run.mask
        if differing.any():
            bad[part] |= differing.any(axis=1)
        if len(run.columns):
            texts = block.take(run.columns, axis=1)
            texts &= run.text_mask
            texts |= run.filling
            if not _all_usual(texts):
                bad[part] |= odd_bytes(texts, quotes=True).any(axis=1)
        for text, column in taken.values():
            codes = block.view(np.uint8)[:, text.start : text.start + 8 * len(column)]
            column[:, part] = np.ascontiguousarray(codes).view("<u8").T
    found = {}
    for index, (text, column) in taken.items():
        if text.length % 8 or not text.length:
            column[-1] &= np.uint64((1 << 8 * (text.length % 8)) - 1)
        found[index] = Text(np.full(count, text.length), list(column))
    return bad, found


def _all_usual(texts: Words) -> bool:
    codes = texts.view(np.uint8)
    usual = codes.min() >= 0x20 and codes.max() <= 0x7E
    return bool(usual and not (codes == ord('"')).any() and not (codes == ord("\\")).any())


assert _MOST_BYTES <= PAD // 2
