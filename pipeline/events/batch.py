"""The hot path: one fetched batch of records to columns, bad records to rejections.

Every record is decoded on its own (joining payloads into one array would let two broken halves become one valid event):
those of one shape together (``shapes``), the others one by one (``codecs.native``). A vectorised filter passes the rows
that are surely fine; each other row goes through ``check.check_relations``, so the rules and their reasons exist once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.check import EventLimits, check_relations, reference_seconds
from pipeline.events.codecs import native
from pipeline.events.columns import STATUS_CODES, EventColumns, EventKey, complete, dimension_text, from_events, merged
from pipeline.events.model import DEFAULT_POOL, MAX_LATENCY_SECONDS, RejectReason
from pipeline.events.shapes import Found, Shape, learn, plain_rows, read
from pipeline.events.texts import Buffer, hash_texts

__all__ = ["Rejection", "decode_batch"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Records of one shape that are worth reading together, and shapes that are looked for in a batch.
MIN_OF_A_SHAPE = 256
MAX_SHAPES = 4
#: Records that are tried as samples of a shape in a batch: some are like no other.
MAX_SAMPLES = 8
_READ = frozenset(native.COUNTED_FIELDS) - {"status", "schema"}
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio


class Rejection(NamedTuple):
    """One record that is no event: its ``position`` in the batch, the ``RejectReason``, and what was wrong."""

    position: int
    reason: str
    detail: str


def decode_batch(
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int],
    now: float,
    limits: EventLimits,
    dimensions: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
) -> tuple[EventColumns, list[Rejection]]:
    """Decode and check one batch of native records.

    Args:
        values: the records' values, as fetched (None: a record without a value).
        timestamps_ms: the records' own timestamps, epoch milliseconds (negative: none).
        now: epoch seconds; only judges records without a timestamp or with one in the future.
        limits: what is believed.
        dimensions: names of event fields to keep apart in the key.
        sizes: bytes of each value (0 where there is none) where the caller knows them.

    Returns:
        The accepted events in record order, and one rejection per other record, in record order.
    """
    texts: Sequence[bytes] = [value or b"" for value in values] if None in values else values  # type: ignore[assignment]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) if sizes is None else np.asarray(sizes, np.int64)
    too_large = set(np.flatnonzero(lengths > limits.max_bytes).tolist())
    small = [None if i in too_large else value for i, value in enumerate(values)] if too_large else values
    parts, others = ([], np.arange(len(values))) if too_large else _of_known_shapes(texts, lengths, dimensions)
    rest = small if len(others) == len(small) else [small[i] for i in others.tolist()]
    events, refused = native.decode_many(rest, all_fields=bool(dimensions))
    at = others.tolist()
    rejections = [
        Rejection(at[i], RejectReason.TOO_LARGE, f"{lengths[at[i]]} bytes, more than {limits.max_bytes}")
        if at[i] in too_large
        else Rejection(at[i], error.reason, error.detail)
        for i, error in refused
    ]
    doubtful = np.zeros(len(values), np.bool_)
    if events or not parts:
        decoded = from_events(events, dimensions)
        decoded.index = np.delete(others, [i for i, _ in refused]) if refused else others
        doubtful[decoded.index] = [not event.event_id.isprintable() for event in events]
        parts.append(decoded)
    columns = parts[0] if len(parts) == 1 else merged(parts)
    stamps = np.asarray(timestamps_ms, np.int64)[columns.index]
    reference = np.where(stamps >= 0, np.minimum(stamps / 1000.0, now), now)
    suspects = np.flatnonzero(doubtful[columns.index] | ~_surely_fine(columns, reference, limits)).tolist()
    if suspects:
        keep = np.ones(len(columns), np.bool_)
        for row in suspects:
            i = int(columns.index[row])
            try:
                check_relations(native.decode(values[i]), reference_seconds(timestamps_ms[i], now), limits)
            except EventRejected as error:
                rejections.append(Rejection(i, error.reason, error.detail))
                keep[row] = False
        columns = columns.take(keep)
        rejections.sort()
    return columns, rejections


def _of_known_shapes(
    texts: Sequence[bytes], lengths: Ints, dimensions: Sequence[str]
) -> tuple[list[EventColumns], Ints]:
    """Read records of common shapes; returns their columns by shape, and the positions of all other records."""
    remaining = np.arange(len(texts))
    parts: list[EventColumns] = []
    if len(texts) < MIN_OF_A_SHAPE:
        return parts, remaining
    buffer = Buffer(texts, lengths)
    plain = plain_rows(buffer, lengths)
    rows = np.flatnonzero(plain)
    for _ in range(MAX_SAMPLES):
        if len(rows) < MIN_OF_A_SHAPE or len(parts) == MAX_SHAPES:
            break
        known = _shape_of(texts[rows[0]])
        if known is None:
            rows = rows[1:]
            continue
        shape, status = known
        found = read(buffer, rows, shape, {*_READ, *dimensions})
        if len(found.rows) < MIN_OF_A_SHAPE // 4:
            break
        part = _columns_of(buffer, found, status, dimensions)
        parts.append(part)
        left = np.zeros(len(texts), np.bool_)
        left[rows] = True
        left[part.index] = False
        rows = np.flatnonzero(left)
    if parts:
        left = np.ones(len(texts), np.bool_)
        for part in parts:
            left[part.index] = False
        remaining = np.flatnonzero(left)
    return parts, remaining


def _shape_of(sample: bytes) -> tuple[Shape, str] | None:
    """Return the shape and the status of a record; None: it is no event, or has no shape that could be read."""
    try:
        status = native.decode(sample).status
    except EventRejected:
        return None
    shape = learn(sample)
    return None if shape is None or status not in STATUS_CODES else (shape, status)


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
            status=np.full(n, STATUS_CODES[status], np.int64),
            key=key,
            index=found.rows,
            ids=hash_texts(found.texts["event_id"]),
            keys=keys,
        )
    )
    return columns.take(same)


def _surely_fine(columns: EventColumns, reference: Floats, limits: EventLimits) -> NDArray[np.bool_]:
    """Rows that ``check_relations`` would accept; a sound filter: in doubt, false."""
    arrived, completed = columns.arrived_at, columns.completed_at
    with np.errstate(invalid="ignore"):
        fine = (
            np.isfinite(arrived)
            & np.isfinite(completed)
            & (arrived >= 0.0)
            & (completed >= arrived)
            & (completed <= reference + limits.max_ahead_seconds)
            & (arrived >= reference - limits.max_age_seconds)
            & (completed - arrived <= MAX_LATENCY_SECONDS)
            & (columns.status >= 0)
            & (columns.cached_input_tokens <= columns.input_tokens)
        )
    odd_keys = [i for i, key in enumerate(columns.keys) if not (key.model.isprintable() and key.pool.isprintable())]
    if odd_keys:
        fine &= ~np.isin(columns.key, odd_keys)
    return fine
