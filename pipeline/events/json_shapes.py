"""Reads the records of a batch that have one shape together: column by column, without an object per record.

Emitters write the same members in the same order again and again. The *shape* of a record is its JSON text with the
values cut out: the pieces of text between them, and of each value whether it is a text or a number. What reads here
has, byte for byte, the pieces of a shape, and between them values of a narrow kind: printable ASCII without escapes,
whole numbers of few digits, plain decimals. Such a record is JSON of the same structure as the one that the shape was
learned from, and that one was decoded and accepted by the ordinary decoder. Every record is compared within its own
bytes, so that two broken ones cannot make up for each other. Whatever is not read here is left to the ordinary decoder;
no record is refused, and none is given another value than that decoder gives (tests/property/test_event_shapes.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import PAD, Buffer, Text, head_mask, odd_bytes
from pipeline.events.json_numbers import Numbers, read_numbers
from pipeline.events.json_runs import read_run, runs_of
from pipeline.events.request_event import MAX_LATENCY_SECONDS, MAX_TEXT_LENGTH, RequestEvent

__all__ = ["Found", "Shape", "is_plain", "learn", "narrow", "read"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Kind = Literal["name", "text", "any text", "count", "seconds", "time", "any number"]

_TOKEN = re.compile(rb'"[^"\\]*"|-?[0-9][-+.0-9Ee]*|true|false|null|[][{}:,]| +')
_MOST_SCALARS = 64
_TEXT_WORDS = MAX_TEXT_LENGTH // 8 + 1
#: A longer record is not worth a shape.
_MOST_BYTES = 65_536
#: Bytes of one piece: what is read behind it, before it is compared, must lie within the spare bytes of a buffer.
_MOST_OF_A_PIECE = PAD - 8 * _TEXT_WORDS
#: These stand in a shape as they are: there are few of them, and each decides what the others mean.
_FIXED = ("schema", "status")
_TEXTS = ("name", "text", "any text")
#: So many records at least have to agree in what ``narrow`` takes for the same everywhere.
_LEAST_SAMPLES = 4
_TIMES = ("arrived_at", "completed_at")
#: Bytes of the beginning that tells shapes apart, and rows that are asked first whether any differs there.
_BEGINNING = 64
_LOOKED_AT = 64
#: Bytes of a piece without texts that is compared as it lies.
_SHORT_PIECE = 64
_FILLING = np.uint64(0x6161616161616161)
_PLAIN = re.compile(rb"[\x20-\x5b\x5d-\x7e]+")


class Shape(NamedTuple):
    """``pieces`` of text around the values, and for each value the name of its event field (or None) and its kind.

    ``lengths``, where given: bytes of each value that has as many in every record (None: they vary).
    """

    pieces: tuple[bytes, ...]
    scalars: tuple[tuple[str | None, Kind], ...]
    lengths: tuple[int | None, ...] = ()


class Found(NamedTuple):
    """What was read: the ``rows`` that have the shape, and of them texts, their positions, and numbers, by field."""

    rows: Ints
    texts: dict[str, Text]
    positions: dict[str, Ints]
    numbers: dict[str, Numbers]


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for field in msgspec.structs.fields(RequestEvent):
        described = str(field.type)
        if field.name in _TIMES:
            kinds[field.name] = "time"
        elif "int" in described:
            kinds[field.name] = "count"
        elif "float" in described:
            kinds[field.name] = "seconds"
        elif "str" in described:
            kinds[field.name] = "name" if "min_length" in described else "text"
    return kinds


_KINDS = _kinds()


def is_plain(text: bytes) -> bool:
    """Whether a text is printable ASCII without a backslash, and not empty."""
    return _PLAIN.fullmatch(text) is not None


def learn(value: bytes) -> Shape | None:
    """Return the shape of a record that the ordinary decoder accepts; None: it has none that could be read here."""
    if len(value) > _MOST_BYTES or not is_plain(value):
        return None
    pieces: list[bytes] = [b""]
    scalars: list[tuple[str | None, Kind]] = []
    tokens = _TOKEN.findall(value)
    depth, name = 0, None
    seen: set[bytes] = set()
    for i, token in enumerate(tokens):
        if len(scalars) > _MOST_SCALARS or len(pieces[-1]) > _MOST_OF_A_PIECE:
            return None
        first = token[:1]
        if first in (b"{", b"["):
            depth += 1
        elif first in (b"}", b"]"):
            depth -= 1
        elif first == b'"' and _is_key(tokens, i):
            if depth == 1:
                if token in seen:
                    return None
                seen.add(token)
                name = token[1:-1].decode("ascii")
        elif first == b'"' and not (depth == 1 and name in _FIXED):
            kind = _KINDS.get(name, "any text") if depth == 1 and name else "any text"
            if kind not in ("name", "text", "any text") or len(token) > MAX_TEXT_LENGTH + 2:
                return None  # a time as text, or a text longer than what is read in columns
            scalars.append((name if kind != "any text" else None, kind))
            pieces[-1] += b'"'
            pieces.append(b'"')
            continue
        elif first in b"-0123456789":
            kind = _KINDS.get(name, "any number") if depth == 1 and name else "any number"
            scalars.append((name if kind != "any number" else None, kind))
            pieces.append(b"")
            continue
        pieces[-1] += token
    whole = sum(map(len, tokens)) == len(value)
    if not whole or not scalars or len(scalars) > _MOST_SCALARS or max(map(len, pieces)) > _MOST_OF_A_PIECE:
        return None
    return Shape(tuple(pieces), tuple(scalars))


def narrow(shape: Shape, samples: Sequence[bytes], wanted: Collection[str]) -> Shape | None:
    """Return the part of a shape in which values are as in all ``samples``; None: too few of them have the shape.

    Values that are not wanted and agree in all samples become part of the pieces, which are compared at once; texts of
    equal length are not searched for their ends. ``samples[0]`` is the record that the shape was learned from: what
    stands in it was accepted by the ordinary decoder.
    """
    columns = [values for sample in samples if (values := _values(shape, sample)) is not None]
    if len(columns) < _LEAST_SAMPLES:
        return None
    pieces, scalars, lengths = [shape.pieces[0]], list[tuple[str | None, Kind]](), list[int | None]()
    for i, (name, kind) in enumerate(shape.scalars):
        value, after = columns[0][i], shape.pieces[i + 1]
        room = _MOST_OF_A_PIECE - len(pieces[-1]) - len(after)
        if name not in wanted and len(value) <= room and all(values[i] == value for values in columns):
            pieces[-1] += value + after
            continue
        even = kind in _TEXTS and len(value) <= MAX_TEXT_LENGTH and len({len(values[i]) for values in columns}) == 1
        scalars.append((name, kind))
        lengths.append(len(value) if even else None)
        pieces.append(after)
    return Shape(tuple(pieces), tuple(scalars), tuple(lengths)) if scalars else None


def _values(shape: Shape, text: bytes) -> list[bytes] | None:
    """The values of a record of the shape; None: it has another one."""
    values = []
    at = 0
    for piece, following in pairwise(shape.pieces):
        if not text.startswith(piece, at):
            return None
        at += len(piece)
        end = text.find(following[:1], at)
        if end < 0:
            return None
        values.append(text[at:end])
        at = end
    return values if text[at:] == shape.pieces[-1] else None


def _is_key(tokens: Sequence[bytes], i: int) -> bool:
    after = [token for token in tokens[i + 1 : i + 3] if not token.startswith(b" ")]  # spaces are one token
    return after[:1] == [b":"]


def read(buffer: Buffer, rows: Ints, shape: Shape, wanted: Collection[str]) -> Found:
    """Read those of ``rows`` (places in ``buffer``) that have the shape."""
    begin = shape.pieces[0][:_BEGINNING]
    sample = rows[:: max(1, len(rows) // _LOOKED_AT)]
    if buffer.differ(buffer.starts[sample], begin).any():
        # Where a batch has many shapes, most rows are told apart by how they begin.
        rows = rows[~buffer.differ(buffer.starts[rows], begin)]
    found, bad = _read(buffer, rows, shape, wanted)
    if not bad.any():
        return found
    good = ~bad
    return Found(
        rows[good],
        {name: Text(t.length[good], [word[good] for word in t.words]) for name, t in found.texts.items()},
        {name: position[good] for name, position in found.positions.items()},
        {name: value[good] for name, value in found.numbers.items()},
    )


def _read(buffer: Buffer, rows: Ints, shape: Shape, wanted: Collection[str]) -> tuple[Found, Bools]:
    """What the shape says of all ``rows``, and which of them do not have it."""
    found = Found(rows, {}, {}, {})
    at, ends = buffer.starts[rows], buffer.ends[rows]
    furthest = len(buffer.data) - PAD
    bad = np.zeros(len(rows), np.bool_)
    asked = {i for i, (name, _) in enumerate(shape.scalars) if name is not None and name in wanted}
    for run in runs_of(shape.pieces, shape.lengths or (None,) * len(shape.scalars)):
        if run.texts or run.length > _SHORT_PIECE:
            differs, texts = read_run(buffer, at, run, asked)
        else:
            differs, texts = buffer.differ(at, shape.pieces[-1 if run.scalar is None else run.scalar]), {}
        bad |= differs
        for text in run.texts:
            name, kind = shape.scalars[text.scalar]
            if kind == "name" and not text.length:
                bad[:] = True
            if text.scalar in texts and name is not None:
                found.texts[name], found.positions[name] = texts[text.scalar], at + text.start
        at = at + run.length
        if run.scalar is not None:
            length = _value(buffer, at, shape, run.scalar, asked, found, bad)
            at = at + length
        at = np.minimum(at, furthest)
    bad |= at != ends
    return found, bad


def _value(buffer: Buffer, at: Ints, shape: Shape, i: int, asked: Collection[int], found: Found, bad: Bools) -> Ints:
    """Read the values of one scalar, which begin at ``at``, into ``found``; returns their bytes."""
    name, kind = shape.scalars[i]
    after = shape.pieces[i + 1][0]
    if kind not in _TEXTS:
        value, length = read_numbers(buffer, at, after, whole=kind == "count", bad=bad)
        if kind == "seconds":
            bad |= value > MAX_LATENCY_SECONDS
        if i in asked and name is not None:
            found.numbers[name] = value
        return length
    length, words = buffer.until(at, after, _TEXT_WORDS)
    if len(words) == _TEXT_WORDS:
        bad |= length > MAX_TEXT_LENGTH
    if kind == "name":
        bad |= length == 0
    masks = [head_mask(length - 8 * i) for i in range(len(words))]
    for word, mask in zip(words, masks, strict=True):
        bad |= odd_bytes((word & mask) | (_FILLING & ~mask))
    if i in asked and name is not None:
        found.texts[name] = Text(length, [word & mask for word, mask in zip(words, masks, strict=True)])
        found.positions[name] = at
    return length
