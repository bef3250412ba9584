"""Native records of one shape to columns: which shapes a batch has, and what is read of them (``shapes``)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import PAD, Buffer, hash_texts
from pipeline.events.codecs import native
from pipeline.events.columns import (
    STATUS_CODES,
    EventColumns,
    EventKey,
    complete,
    dimension_text,
    server_hashes,
)
from pipeline.events.json_shapes import Found, Shape, is_plain, learn, narrow, read
from pipeline.events.request_event import DEFAULT_POOL
from pipeline.events.sliced_values import SlicedValues

__all__ = ["read_common_shapes"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Records of one shape that are worth reading together, and shapes that are looked for in a batch.
MIN_OF_A_SHAPE = 256
MAX_SHAPES = 4
#: Records that are tried as samples of a shape in a batch: some are like no other.
MAX_SAMPLES = 8
#: Records of a shape, spread over the batch, that are asked what all of them agree in.
NARROWING_SAMPLES = 8
_READ = frozenset(native.COUNTED_FIELDS) - {"status", "schema"}
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio


def read_common_shapes(
    texts: Sequence[bytes], lengths: Ints, dimensions: Sequence[str]
) -> tuple[list[EventColumns], Ints]:
    """Read native records of common shapes together.

    Args:
        texts: the records' values (empty: none).
        lengths: their bytes.
        dimensions: names of event fields to keep apart in the key.

    Returns:
        Columns by shape, unchecked, and the positions of all other records, ascending.
    """
    remaining = np.arange(len(texts))
    parts: list[EventColumns] = []
    if len(texts) < MIN_OF_A_SHAPE:
        return parts, remaining
    if isinstance(texts, SlicedValues):
        buffer = Buffer.over(texts.data, texts.starts, texts.ends)
        rows = np.flatnonzero((lengths > 0) & (texts.ends <= len(texts.data) - PAD))
    else:
        buffer = Buffer(texts, lengths)
        rows = np.flatnonzero(lengths > 0)
    wanted = {*_READ, *dimensions}
    shapes = 0
    for _ in range(MAX_SAMPLES):
        rows = rows[_first_plain(texts, rows) :]
        if len(rows) < MIN_OF_A_SHAPE or shapes == MAX_SHAPES:
            break
        known = _shape_of(texts[rows[0]])
        if known is None:
            rows = rows[1:]
            continue
        shape, status = known
        shapes += 1
        samples = [texts[row] for row in rows[:: -(-len(rows) // NARROWING_SAMPLES)].tolist()]
        before = len(rows)
        # Most records agree in more than their shape; what differs there is read by the shape itself.
        for variant in (narrow(shape, samples, wanted), shape):
            found = None if variant is None or not len(rows) else read(buffer, rows, variant, wanted)
            if found is None or len(found.rows) < MIN_OF_A_SHAPE // 4:
                continue
            part = _columns_of(buffer, found, status, dimensions)
            parts.append(part)
            left = np.zeros(len(texts), np.bool_)
            left[rows] = True
            left[part.index] = False
            rows = np.flatnonzero(left)
        if len(rows) == before:
            break
    if parts:
        left = np.ones(len(texts), np.bool_)
        for part in parts:
            left[part.index] = False
        remaining = np.flatnonzero(left)
    return parts, remaining


def _first_plain(texts: Sequence[bytes], rows: Ints) -> int:
    """How many of the first rows have no shape because of their characters."""
    return next((i for i, row in enumerate(rows.tolist()) if is_plain(texts[row])), len(rows))


def _shape_of(sample: bytes) -> tuple[Shape, str] | None:
    """Return the shape and the status of a record; None: it is no event as it stands, or has no shape to be read."""
    event = native.strict(sample)
    if event is None or event.status not in STATUS_CODES:
        return None
    shape = learn(sample)
    return None if shape is None else (shape, event.status)


def _columns_of(buffer: Buffer, found: Found, status: str, dimensions: Sequence[str]) -> EventColumns:
    """Return what was read of one shape as columns; rows whose key is not surely told from another are left out."""
    n = len(found.rows)
    named = ["model", *(name for name in ("pool", *dimensions) if name in found.texts)]
    mixed = np.zeros(n, np.uint64)
    for name in named:
        mixed = mixed * _MIXER + hash_texts(found.texts[name])[:, 0]
    distinct = np.unique(mixed)
    key = np.searchsorted(distinct, mixed)
    example = np.empty(len(distinct), np.int64)
    example[key] = np.arange(n)
    like = example[key]
    same = np.ones(n, np.bool_)
    for name in named:
        text = found.texts[name]
        same &= text.length == text.length[like]
        for word in text.words:
            same &= word == word[like]
    keys = []
    for row in example.tolist():
        event = SimpleNamespace(**dict.fromkeys(dimensions), pool=DEFAULT_POOL)
        for name in named:
            start = int(found.positions[name][row])
            end = start + int(found.texts[name].length[row])
            setattr(event, name, buffer.data[start:end].decode("ascii"))
        keys.append(EventKey(event.model, event.pool, dimension_text(event, dimensions)))
    numbers = found.numbers

    def floats(name: str) -> Floats:
        return np.asarray(numbers[name], np.float64) if name in numbers else np.full(n, np.nan)

    def ints(name: str) -> Ints:
        return np.asarray(numbers[name], np.int64) if name in numbers else np.full(n, -1, np.int64)

    columns = complete(
        EventColumns(
            arrived_at=floats("arrived_at"),
            completed_at=floats("completed_at"),
            e2e=floats("e2e_seconds"),
            queue=floats("queue_seconds"),
            ttft=floats("ttft_seconds"),
            tpot=floats("tpot_seconds"),
            input_tokens=ints("input_tokens"),
            cached_input_tokens=ints("cached_input_tokens"),
            output_tokens=ints("output_tokens"),
            reasoning_output_tokens=ints("reasoning_output_tokens"),
            preemptions=ints("preemptions"),
            attempt=ints("attempt"),
            server=server_hashes(hash_texts(found.texts["server_id"]))
            if "server_id" in found.texts
            else np.full(n, -1, np.int64),
            status=np.full(n, STATUS_CODES[status], np.int64),
            key=key,
            index=found.rows,
            ids=hash_texts(found.texts["event_id"]),
            server_name=np.full(n, -1, np.int64),
            keys=keys,
        )
    )
    return columns.take(same)
