"""Whole numbers and plain decimals in one buffer, read as a column, eight bytes at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import Buffer, Words, head_mask, index_in

__all__ = ["Numbers", "read_numbers"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64] | NDArray[np.float64]

_DECIMAL = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NUMBER_WORDS = 3
_ZEROS = np.uint64(0x3030303030303030)
_TOO_HIGH = np.uint64(0x7676767676767676)  # added to a digit it stays below 0x80; to anything above 9 it does not
_HIGH = np.uint64(0x8080808080808080)
_POWERS = 10 ** np.arange(10, dtype=np.int64)


def read_numbers(buffer: Buffer, at: Ints, after: int, *, whole: bool, bad: Bools) -> tuple[Numbers, Ints]:
    """Read the numbers at ``at`` that end before the byte ``after``; marks in ``bad`` what is not read.

    Values are those that a correctly rounding decoder gives: up to 15 digits are an exact integer divided by an exact
    power of ten, which IEEE division rounds once. More digits are read one by one.
    """
    # Whole numbers have up to 7 digits here, and are so never above MAX_TOKENS.
    length, words = buffer.until(at, after, 1 if whole else _NUMBER_WORDS)
    bad |= (length == 0) | (length >= 8 * len(words))
    first = words[0] & np.uint64(0xFF)
    if whole:
        bad |= (first == ord("0")) & (length > 1)
        return _digits(words[0], length, bad), length
    if len(words) == 1:
        return _short_decimals(words[0], length, bad), length
    point = np.minimum(_first(words, ord(".")), length)
    decimals = np.maximum(length - point - 1, 0)
    broken = (point == 0) | (length - point == 1) | ((first == ord("0")) & (point > 1))
    hard = (point + decimals > 15) | (decimals > 8)
    wrong = np.zeros(len(at), np.bool_)
    value = _digits(words[0], np.minimum(point, 8), wrong)
    if (point > 8).any():
        more = np.minimum(np.maximum(point - 8, 0), 8)
        value = value * _POWERS[more] + _digits(words[1], more, wrong)
    decimals = np.minimum(decimals, 8)
    scale = _POWERS[decimals]
    value = value * scale + _digits(buffer.at(at + point + 1)[0], decimals, wrong)
    found = value / scale
    bad |= broken | (wrong & ~hard)
    for i in np.flatnonzero(hard & ~bad).tolist():
        text = buffer.data[at[i] : at[i] + length[i]]
        if _DECIMAL.fullmatch(text):
            found[i] = float(text)
        else:
            bad[i] = True
    return found, length


def _short_decimals(word: Words, length: Ints, bad: Bools) -> NDArray[np.float64]:
    """The plain decimals that the first ``length`` (0 to 7) bytes of each word write; others are marked in ``bad``."""
    point = np.minimum(index_in(word, ord(".")), length)
    decimals = np.maximum(length - point - 1, 0)
    whole = head_mask(point)
    leading_zero = ((word & np.uint64(0xFF)) == ord("0")) & (point > 1)
    bad |= (point == 0) | (length - point == 1) | leading_zero
    digits = (word & whole) | ((word >> np.uint64(8)) & ~whole)  # what follows the point moves into its place
    found: NDArray[np.float64] = _digits(digits, point + decimals, bad) / _POWERS[decimals]
    return found


def _first(words: Sequence[Words], byte: int) -> Ints:
    """How far the first ``byte`` lies in consecutive words; all their bytes where there is none."""
    found = index_in(words[0], byte).astype(np.int64)
    for i, word in enumerate(words[1:], 1):
        found += np.where(found == 8 * i, index_in(word, byte), 0)
    return found


def _digits(word: Words, count: Ints, bad: Bools) -> Ints:
    """The whole numbers that the first ``count`` (0 to 8) bytes of each word write; others are marked in ``bad``."""
    x = (word ^ _ZEROS) << (64 - (count << 3)).view(np.uint64)  # the last digit in the highest byte, zeros below
    bad |= (((x + _TOO_HIGH) | x) & _HIGH) != 0
    x = (x * np.uint64(10) + (x >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    x = (x * np.uint64(100) + (x >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    x = (x * np.uint64(10_000) + (x >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return x.view(np.int64)
