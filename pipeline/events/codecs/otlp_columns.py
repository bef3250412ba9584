"""Reads the spans of a batch that have one layout (``otlp_layout``) together: column by column, from their bytes.

What is read here has, step by step, the bytes of the layout, and values of a narrow kind where it leaves room: text of
ASCII, counts and durations within the bounds of an event. Whatever else there is, is left to the ordinary way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import Buffer, Text, Words, head_mask
from pipeline.events.codecs.otlp_layout import BOOL, DOUBLE, INT, STRING, VALUE, Layout, Step
from pipeline.events.codecs.otlp_names import REQUEST_NAME
from pipeline.events.protobuf_columns import MOST_VARINT_BYTES, varints
from pipeline.events.request_event import MAX_LATENCY_SECONDS, MAX_TOKENS

__all__ = ["Matched", "match"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_BYTE = np.uint64(0xFF)
_HIGH = np.uint64(0x8080808080808080)
#: Bytes of the longest text, or value of a class, that is read here.
_MOST_TEXT = 127
#: Bytes of the longest message whose length is written in one byte.
_MOST_SHORT = 127
_MILLISECONDS_PER_SECOND = 1000.0


class Matched(NamedTuple):
    """The ``rows`` that have the layout: ``places`` of the content of its fixed fields, ``numbers`` (whole ones −1 …,
    seconds as floats) and the texts of ``classes`` by the names of their steps; a class in which all rows agree with
    the sample has none."""

    rows: Ints
    places: dict[str, Ints]
    numbers: dict[str, NDArray[np.float64] | Ints]
    classes: dict[str, Text]


class _Walk:
    """Rows on their way through a layout: those that differ are dropped at each step."""

    def __init__(self, buffer: Buffer, rows: Ints, starts: Ints, ends: Ints) -> None:
        self.buffer = buffer
        self.rows, self.at, self.ends = rows, starts, ends
        self.found: dict[tuple[str, str], NDArray[np.float64] | Ints] = {}
        self.texts: dict[str, Text] = {}

    def keep(self, good: Bools, *more: Ints) -> list[Ints]:
        """Drop all other rows, and return further columns without them."""
        if good.all():
            return list(more)
        self.rows, self.at, self.ends = self.rows[good], self.at[good], self.ends[good]
        self.found = {name: column[good] for name, column in self.found.items()}
        self.texts = {name: Text(t.length[good], [w[good] for w in t.words]) for name, t in self.texts.items()}
        return [column[good] for column in more]

    def same(self, piece: bytes) -> None:
        """Keep rows that have these bytes here, and step over them."""
        self.keep(~self.buffer.differ(self.at, piece) & (self.at + len(piece) <= self.ends))
        self.at = self.at + len(piece)

    def enter(self, step: Step) -> tuple[Ints, Ints]:
        """Keep rows whose field here begins and ends as the step's does, and step over it; return start and end of what
        is between."""
        if self.buffer.all_hold(self.at, step.head):
            start = self.at + (len(step.head) - len(step.piece))
            stop = start + step.size
            start, self.at = self.keep(stop <= self.ends, start, stop)
        else:
            word = self.buffer.at(self.at)[0]
            length, size = varints(word >> np.uint64(8))
            start = self.at + 1 + size
            stop = start + length
            good = ((word & _BYTE) == step.head[0]) & (size <= MOST_VARINT_BYTES)
            good &= (length >= len(step.piece) + len(step.tail)) & (stop <= self.ends)
            start, self.at = self.keep(good, start, stop)
            if step.piece:
                (start,) = self.keep(~self.buffer.differ(start, step.piece), start)
        if step.tail:
            (start,) = self.keep(~self.buffer.differ(self.at - len(step.tail), step.tail), start)
        return start + len(step.piece), self.at - len(step.tail)


def match(buffer: Buffer, rows: Ints, starts: Ints, ends: Ints, layout: Layout) -> Matched:
    """Return what the spans of a layout say; ``starts`` and ``ends`` are the positions of ``rows`` in ``buffer``."""
    walk = _Walk(buffer, rows, starts, ends)
    for step in layout.steps:
        if not len(walk.rows):
            break
        _STEPS[step.role](walk, step)
    walk.keep(walk.at == walk.ends)
    kinds: dict[str, dict[str, NDArray[np.float64] | Ints]] = {"place": {}, "number": {}}
    for (kind, name), column in walk.found.items():
        kinds[kind][name] = column
    return Matched(walk.rows, kinds["place"], kinds["number"], walk.texts)  # type: ignore[arg-type]


def _fixed(walk: _Walk, step: Step) -> None:
    walk.same(step.head)
    walk.found["place", step.name] = walk.at
    after = walk.at + step.size
    (walk.at,) = walk.keep(after <= walk.ends, after)


def _same(walk: _Walk, step: Step) -> None:
    walk.same(step.head)


def _any(walk: _Walk, step: Step) -> None:
    walk.enter(step)


def _unread(walk: _Walk, step: Step) -> None:
    start, stop = walk.enter(step)
    if step.tail:  # the value is before the name, and has to end there
        word = walk.buffer.at(start)[0]
        length, size = varints(word >> np.uint64(8))
        walk.keep(((word & _BYTE) == VALUE) & (size <= MOST_VARINT_BYTES) & (start + 1 + size + length == stop))


def _name(walk: _Walk, step: Step) -> None:
    start, stop = walk.enter(step)
    length = stop - start
    good = length <= _MOST_TEXT
    maybe = length == len(REQUEST_NAME)
    if maybe.any():  # such a span is a request by its name
        good &= ~maybe | walk.buffer.differ(start, REQUEST_NAME.encode())
    start, stop = walk.keep(good, start, stop)
    walk.keep(_ascii(walk.buffer, start, stop - start))


def _class(walk: _Walk, step: Step) -> None:
    if walk.buffer.all_hold(walk.at, step.sample):
        after = walk.at + len(step.sample)
        (walk.at,) = walk.keep(after <= walk.ends, after)
        return
    start, stop = walk.enter(step)
    start, stop = walk.keep(stop - start <= _MOST_TEXT, start, stop)
    walk.texts[step.name] = _text(walk.buffer, start, stop - start)


def _number(walk: _Walk, step: Step) -> None:
    start, stop = walk.enter(step)
    word = walk.buffer.at(start)[0]
    rest = (word & _BYTE).view(np.int64)
    kind = (word >> np.uint64(8)) & _BYTE
    value, size = varints(word >> np.uint64(16))
    whole = (kind == INT) & (size <= MOST_VARINT_BYTES) & (rest == 1 + size)
    good = rest == stop - start - 1
    number: NDArray[np.float64] | Ints
    if step.role == "count":
        number = value
        good &= whole & (value <= MAX_TOKENS)
    else:
        decimal = walk.buffer.at(start + 2)[0].view(np.float64)
        number = np.where(whole, value, decimal)
        if step.role == "milliseconds":
            number = number / _MILLISECONDS_PER_SECOND
        good &= whole | ((kind == DOUBLE) & (rest == 9))
        with np.errstate(invalid="ignore"):
            good &= (number >= 0.0) & (number <= MAX_LATENCY_SECONDS)
    walk.found["number", step.name] = number
    walk.keep(good)


def _own_text(walk: _Walk, step: Step) -> None:
    start, stop = walk.enter(step)
    word = walk.buffer.at(start)[0]
    rest, kind, length = (((word >> np.uint64(8 * i)) & _BYTE).view(np.int64) for i in range(3))
    good = (rest == stop - start - 1) & (kind == STRING) & (length == rest - 2) & (rest <= _MOST_SHORT)
    start, length = walk.keep(good, start, length)
    walk.keep(_ascii(walk.buffer, start + 3, length))


def _flag(walk: _Walk, step: Step) -> None:
    start, stop = walk.enter(step)
    word = walk.buffer.at(start)[0]
    rest, kind, value = (((word >> np.uint64(8 * i)) & _BYTE).view(np.int64) for i in range(3))
    walk.keep((stop - start == 3) & (rest == 2) & (kind == BOOL) & (value < 2))


_STEPS = {
    "fixed": _fixed,
    "same": _same,
    "any": _any,
    "unread": _unread,
    "name": _name,
    "class": _class,
    "text": _own_text,
    "flag": _flag,
    "count": _number,
    "seconds": _number,
    "milliseconds": _number,
}


def _text(buffer: Buffer, start: Ints, length: Ints) -> Text:
    words = buffer.at(start, max(1, -(-int(length.max(initial=0)) // 8)))
    return Text(length, [word & head_mask(length - 8 * i) for i, word in enumerate(words)])


def _ascii(buffer: Buffer, start: Ints, length: Ints) -> Bools:
    high: Words = np.zeros(len(start), np.uint64)
    for word in _text(buffer, start, length).words:
        high |= word
    low: Bools = np.equal(high & _HIGH, 0)
    return low
