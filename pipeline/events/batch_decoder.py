"""The hot path: one fetched batch of records to columns, bad records to rejections.

Every record is decoded on its own (joining payloads into one array would let two broken halves become one valid event):
native ones of one shape together (``columnar``), the others one by one (``codecs``). A vectorised filter passes the
rows that are surely fine; each other row goes through ``check.settle``, so the rules and their reasons exist once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events import columnar_json as columnar
from pipeline.events.codecs import native
from pipeline.events.codecs.base import Codec, Headers
from pipeline.events.codecs.reading import Reader
from pipeline.events.columns import EventColumns, from_events, merged
from pipeline.events.request_event import MAX_LATENCY_SECONDS, RejectReason, RequestEvent
from pipeline.events.servers import NEWEST_EVENTS, name_events, name_sampled
from pipeline.events.sliced_values import SlicedValues
from pipeline.events.validation import (
    LATENCY_TOLERANCE,
    LATENCY_TOLERANCE_SECONDS,
    EventLimits,
    reference_seconds,
    reference_times,
    settle,
)

__all__ = ["DecodedBatch", "Notes", "Rejection", "decode_batch"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Rejection(NamedTuple):
    """One record that gives no event: its ``position`` in the batch, the ``RejectReason``, and what was wrong."""

    position: int
    reason: str
    detail: str


class Notes(NamedTuple):
    """What else there is to count, by the record's position in the batch.

    ``ignored``: records of the format that hold no request. ``ignored_parts``: how many parts (spans) of a record are
    no requests. ``refused_parts``: why a part of a record that gave other events was refused. ``unknown``: fields whose
    values were there but unusable (absent token counts are not listed: the columns show them). ``codecs``: the codec
    that read a record, where that was not the native one.
    """

    ignored: list[int]
    ignored_parts: list[tuple[int, int]]
    refused_parts: list[tuple[int, str]]
    unknown: list[tuple[int, str]]
    codecs: list[tuple[int, str]]


class DecodedBatch(NamedTuple):
    """The accepted events in record order, one rejection per record that was refused, in record order, and notes."""

    columns: EventColumns
    rejections: list[Rejection]
    notes: Notes


class _Part(NamedTuple):
    """Columns with an event for each row (of records that were read together one that is like it, and ``event_of``
    gives the row's own); None: native ones that were read in columns."""

    columns: EventColumns
    events: Sequence[Any] | None
    event_of: Callable[[int], RequestEvent] | None


def decode_batch(
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int],
    now: float,
    limits: EventLimits,
    dimensions: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    codec: Codec | None = None,
    headers: Mapping[int, Headers] | None = None,
) -> DecodedBatch:
    """Decode and check one batch of records.

    Args:
        values: the records' values, as fetched (None: a record without a value).
        timestamps_ms: the records' own timestamps, epoch milliseconds (negative: none).
        now: epoch seconds; only judges records without a timestamp or with one in the future.
        limits: what is believed.
        dimensions: names of event fields to keep apart in the key.
        sizes: bytes of each value (0 where there is none) where the caller knows them.
        codec: what reads the records; None: the native one.
        headers: headers of the records that have any, by position.

    Returns:
        Every record is in exactly one of: the columns (by ``index``, once or more), the rejections, ``notes.ignored``.
    """
    texts: Sequence[bytes]
    if isinstance(values, SlicedValues):
        texts = values
    else:
        texts = [value or b"" for value in values] if None in values else values  # type: ignore[assignment]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) if sizes is None else np.asarray(sizes, np.int64)
    reader = Reader(values, codec, headers or {})
    too_large = np.flatnonzero(lengths > limits.max_bytes).tolist()
    for i in too_large:
        reader.refuse(
            i,
            EventRejected(
                RejectReason.TOO_LARGE, f"{lengths[i]} bytes, more than {limits.max_bytes} (stream.max_event_bytes)"
            ),
        )
    parts: list[_Part] = []
    others = np.delete(np.arange(len(values)), too_large)
    if reader.native_first and not too_large:
        shaped, others = columnar.read_common_shapes(texts, lengths, dimensions)
        parts = [_Part(columns, None, None) for columns in shaped]
    if isinstance(values, SlicedValues) and len(others) > len(values) // 8:
        values.as_list()  # most of them are asked for one by one
    together = reader.read_together(others.tolist(), dimensions)
    if together is not None:
        others = others[~together.taken]
        parts.append(_Part(together.columns, together.events, together.event_of))
    reader.read(others.tolist(), all_fields=bool(dimensions))
    if reader.events or not parts:
        parts.append(_Part(_columns_of(reader.events, reader.positions, dimensions), reader.events, None))
    settled: list[RequestEvent] = []
    settled_at: list[int] = []
    accepted = []
    servers: dict[str, int] = {}
    stamps = np.asarray(timestamps_ms, np.int64)
    for columns, events, event_of in parts:
        fine = _surely_fine(columns, reference_times(stamps[columns.index], now), limits)
        if events is not None and event_of is None:
            fine &= np.fromiter((event.event_id.isprintable() for event in events), np.bool_, len(events))
        if events is not None:
            name_events(columns, events, servers, np.flatnonzero(fine)[-NEWEST_EVENTS:].tolist())
        for row in np.flatnonzero(~fine).tolist():
            i = int(columns.index[row])
            event = event_of(row) if event_of is not None else events[row] if events is not None else None
            if not isinstance(event, RequestEvent):  # read in columns, or with its counted fields only
                event = native.decode(values[i], reader.headers.get(i, ())).event
            try:
                event, unknown = settle(event, reference_seconds(timestamps_ms[i], now), limits)
            except EventRejected as error:
                reader.refuse(i, error)
            else:
                settled.append(event)
                settled_at.append(i)
                reader.unknown += [(i, name) for name in unknown]
        accepted.append(columns.take(fine))
    if settled:
        accepted.append(_columns_of(settled, settled_at, dimensions))
        name_events(accepted[-1], settled, servers, range(len(settled)))
    whole = accepted[0] if len(accepted) == 1 else merged(accepted)
    name_sampled(whole, values, {i for i, _ in reader.codecs}, servers)
    return DecodedBatch(whole, *_outcome(whole, reader))


def _columns_of(events: list[Any], positions: Sequence[int] | Ints, dimensions: Sequence[str]) -> EventColumns:
    columns = from_events(events, dimensions)
    columns.index = np.asarray(positions, np.int64)
    return columns


def _outcome(columns: EventColumns, reader: Reader) -> tuple[list[Rejection], Notes]:
    """What became of the records that were refused in whole or in part."""
    rejections: dict[int, Rejection] = {}
    refused_parts = []
    if reader.refused:
        gave_events = set(columns.index[np.isin(columns.index, [i for i, _ in reader.refused])].tolist())
        for i, error in reader.refused:
            if i in gave_events:
                refused_parts.append((i, str(error.reason)))
            else:
                rejections.setdefault(i, Rejection(i, error.reason, error.detail))
    notes = Notes(reader.ignored, reader.ignored_parts, refused_parts, reader.unknown, reader.codecs)
    return [rejections[i] for i in sorted(rejections)], notes


def _surely_fine(columns: EventColumns, reference: Floats, limits: EventLimits) -> NDArray[np.bool_]:
    """Rows that ``check.settle`` would accept as they are; a sound filter: in doubt, false."""
    arrived, completed, e2e = columns.arrived_at, columns.completed_at, columns.e2e
    with np.errstate(invalid="ignore", over="ignore"):
        took = completed - arrived
        fine = (
            np.isfinite(arrived)
            & np.isfinite(completed)
            & (arrived >= 0.0)
            & (took >= 0.0)
            & (completed <= reference + limits.max_ahead_seconds)
            & (arrived >= reference - limits.max_age_seconds)
            & (took <= MAX_LATENCY_SECONDS)
            & (np.abs(took - e2e) <= np.maximum(LATENCY_TOLERANCE_SECONDS, LATENCY_TOLERANCE * e2e))
            & ~((columns.ttft > e2e) | (columns.queue > e2e))
            & ~(columns.tpot * np.maximum(columns.output_tokens - 1, 1) > e2e * (1.0 + LATENCY_TOLERANCE) + 0.01)
            & (columns.status >= 0)
            & (columns.cached_input_tokens <= columns.input_tokens)
            & (columns.reasoning_output_tokens <= columns.output_tokens)
        )
    odd_keys = [i for i, key in enumerate(columns.keys) if not (key.model.isprintable() and key.pool.isprintable())]
    if odd_keys:
        fine &= ~np.isin(columns.key, odd_keys)
    return fine
