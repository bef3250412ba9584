"""The hot path: one fetched batch of records to columns, bad records to rejections.

Every record is decoded on its own (joining payloads into one array would let two broken halves become one valid event):
those of one shape together (``shapes``), the others one by one (``codecs.native``). A vectorised filter passes the rows
that are surely fine; each other row goes through ``check.check_relations``, so the rules and their reasons exist once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import count, repeat
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.check import EventLimits, check_relations, parse_time, reference_seconds
from pipeline.events.codecs import native
from pipeline.events.model import DEFAULT_POOL, MAX_LATENCY_SECONDS, STATUSES, RejectReason, RequestEvent
from pipeline.events.shapes import Found, learn, plain_rows, read
from pipeline.events.texts import Buffer, Text, hash_texts, hashes_of

__all__ = ["EventColumns", "EventKey", "Rejection", "decode_batch", "dimension_text", "from_events"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_STATUS_CODES = {name: code for code, name in enumerate(STATUSES)}

#: Records of one shape that are worth reading together, and shapes that are looked for in a batch.
MIN_OF_A_SHAPE = 256
MAX_SHAPES = 4
_READ = frozenset(native.COUNTED_FIELDS) - {"status", "schema"}
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio


class EventKey(NamedTuple):
    """What an event is counted under: model, pool, and the configured dimensions as ``name=value`` joined by ``|``."""

    model: str
    pool: str
    dims: str


class Rejection(NamedTuple):
    """One record that is no event: its ``position`` in the batch, the ``RejectReason``, and what was wrong."""

    position: int
    reason: str
    detail: str


@dataclass(slots=True)
class EventColumns:
    """Accepted events as columns of equal length.

    Times are epoch seconds, latencies seconds (NaN: unknown), tokens whole numbers (−1: unknown). ``status`` indexes
    ``STATUSES``, ``key`` indexes ``keys``, ``index`` is the record's position in the batch that was decoded. ``ids`` are
    hashes of the event ids, shape (n, 2) (``texts.hash_texts``). ``tpot`` is derived as (e2e − ttft) / (output − 1) where the emitter left it out and the request was served to the end.
    """

    arrived_at: Floats
    completed_at: Floats
    e2e: Floats
    queue: Floats
    ttft: Floats
    tpot: Floats
    input_tokens: Ints
    cached_input_tokens: Ints
    output_tokens: Ints
    reasoning_output_tokens: Ints
    preemptions: Ints
    status: Ints
    key: Ints
    index: Ints
    ids: NDArray[np.uint64]
    keys: list[EventKey]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, mask: NDArray[np.bool_]) -> EventColumns:
        """Return the rows where ``mask`` is true; ``keys`` stays as it is."""
        if mask.all():
            return self
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                values[name] = value[mask]
        return EventColumns(**values)


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
    texts = [value or b"" for value in values] if None in values else values
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
    columns = parts[0] if len(parts) == 1 else _merged(parts)
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
    while len(rows) >= MIN_OF_A_SHAPE and len(parts) < MAX_SHAPES:
        sample = texts[rows[0]]
        try:
            status = native.decode(sample).status
        except EventRejected:
            break
        shape = learn(sample)
        if shape is None or status not in _STATUS_CODES:
            break
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
        return numbers[name] if name in numbers else np.full(n, np.nan)

    def ints(name: str) -> Ints:
        return numbers[name] if name in numbers else np.full(n, -1, np.int64)

    columns = _complete(
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
            status=np.full(n, _STATUS_CODES[status], np.int64),
            key=key,
            index=found.rows,
            ids=hash_texts(found.texts["event_id"]),
            keys=keys,
        )
    )
    return columns.take(same)


def _merged(parts: Sequence[EventColumns]) -> EventColumns:
    """Return several columns as one, in record order."""
    codes: defaultdict[EventKey, int] = defaultdict(count().__next__)
    key = [np.array([codes[name] for name in part.keys], np.int64)[part.key] for part in parts if len(part)]
    order = np.argsort(np.concatenate([part.index for part in parts]))
    values: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])[order]
        for f in fields(EventColumns)
        if f.name not in ("key", "keys")
    }
    return EventColumns(**values, key=np.concatenate(key)[order], keys=list(codes))


def from_events(events: Sequence[RequestEvent], dimensions: Sequence[str] = ()) -> EventColumns:
    """Return decoded events as columns, unchecked; ``index`` counts from 0.

    A time that cannot be read becomes infinite, an unknown status −1: neither passes a check.
    """
    n = len(events)
    statuses = [e.status for e in events]
    if statuses.count("ok") == n:
        status = np.zeros(n, np.int64)
    else:
        status = np.array([_STATUS_CODES.get(name, -1) for name in statuses], np.int64)
    codes: defaultdict[tuple[str, str, str], int] = defaultdict(count().__next__)  # a new key takes the next code
    dims: Iterable[str] = repeat("")
    if dimensions:
        dims = [dimension_text(e, dimensions) for e in events]
    named = zip([e.model for e in events], [e.pool for e in events], dims, strict=False)
    return _complete(
        EventColumns(
            arrived_at=_times([e.arrived_at for e in events]),
            completed_at=_times([e.completed_at for e in events]),
            e2e=_floats([e.e2e_seconds for e in events]),
            queue=_floats([e.queue_seconds for e in events]),
            ttft=_floats([e.ttft_seconds for e in events]),
            tpot=_floats([e.tpot_seconds for e in events]),
            input_tokens=np.array([e.input_tokens for e in events], np.int64),
            cached_input_tokens=_optional_ints([e.cached_input_tokens for e in events]),
            output_tokens=np.array([e.output_tokens for e in events], np.int64),
            reasoning_output_tokens=_optional_ints([e.reasoning_output_tokens for e in events]),
            preemptions=_optional_ints([e.preemptions for e in events]),
            status=status,
            key=np.array(list(map(codes.__getitem__, named)), np.int64),
            index=np.arange(n, dtype=np.int64),
            ids=hashes_of([e.event_id for e in events]),
            keys=[EventKey(*key) for key in codes],
        )
    )


def _complete(columns: EventColumns) -> EventColumns:
    """Fill in what follows from other columns: the third of arrival, completion and latency, and ``tpot``."""
    arrived, completed, e2e = columns.arrived_at, columns.completed_at, columns.e2e
    with np.errstate(invalid="ignore"):  # inf - inf of two unreadable times
        columns.arrived_at = arrived = np.where(np.isnan(arrived), completed - e2e, arrived)
        columns.completed_at = completed = np.where(np.isnan(completed), arrived + e2e, completed)
        columns.e2e = e2e = np.where(np.isnan(e2e), completed - arrived, e2e)
    ttft, tpot, output = columns.ttft, columns.tpot, columns.output_tokens
    derivable = np.isnan(tpot) & (columns.status == 0) & (output >= 2) & (e2e >= ttft)
    tpot[derivable] = (e2e[derivable] - ttft[derivable]) / (output[derivable] - 1)
    return columns


def dimension_text(event: RequestEvent | SimpleNamespace, dimensions: Sequence[str]) -> str:
    """Return the event's extra dimensions as ``name=value`` joined by ``|``; unknown ones are left out.

    Characters of the notation itself and unprintable ones are written as ``%`` and their code point in hex, so that
    distinct values stay distinct and the text is safe to show.
    """
    parts = []
    for name in dimensions:
        value = getattr(event, name)
        if value is not None:
            if not value.isprintable() or "|" in value or "=" in value or "%" in value:
                value = "".join(c if c.isprintable() and c not in "|=%" else f"%{ord(c):x};" for c in value)
            parts.append(f"{name}={value}")
    return "|".join(parts)


def _times(values: list[Any]) -> Floats:
    if str in set(map(type, values)):
        values = [_seconds(value) if type(value) is str else value for value in values]
    return _floats(values)


def _seconds(value: float | str | None) -> float | None:
    try:
        return parse_time(value)
    except (ValueError, OverflowError):
        return np.inf


def _floats(values: list[float | None]) -> Floats:
    """Return a column with NaN for None. (NumPy converts None itself, at ten times the cost.)"""
    return _column(values, np.float64, np.nan)


def _optional_ints(values: list[int | None]) -> Ints:
    """Return a column with −1 for None."""
    return _column(values, np.int64, -1)


def _column(values: list[Any], kind: Any, unknown: Any) -> NDArray[Any]:
    with suppress(TypeError):  # at the first None
        return np.fromiter(values, kind, len(values))
    if values.count(None) == len(values):
        return np.full(len(values), unknown, kind)
    return np.array([unknown if value is None else value for value in values], kind)


def _surely_fine(columns: EventColumns, reference: Floats, limits: EventLimits) -> NDArray[np.bool_]:
    """Rows that ``check_relations`` would accept; a sound filter: in doubt, false."""
    arrived, completed = columns.arrived_at, columns.completed_at
    with np.errstate(invalid="ignore"):
        fine = (
            np.isfinite(arrived)
            & np.isfinite(completed)
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
