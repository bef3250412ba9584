"""The hot path: one fetched batch of records to columns, bad records to rejections.

Every record is decoded on its own (joining payloads into one array would let two broken halves become one valid event).
A vectorised filter passes the rows that are surely fine; each other row goes through ``check.check_relations``, so the
rules and their reasons exist once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import count, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.check import EventLimits, check_relations, parse_time, reference_seconds
from pipeline.events.codecs import native
from pipeline.events.model import MAX_LATENCY_SECONDS, STATUSES, RejectReason, RequestEvent

__all__ = ["EventColumns", "EventKey", "Rejection", "decode_batch", "dimension_text", "from_events"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_STATUS_CODES = {name: code for code, name in enumerate(STATUSES)}


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
    ``STATUSES``, ``key`` indexes ``keys``, ``index`` is the record's position in the batch that was decoded. ``tpot``
    is derived as (e2e − ttft) / (output − 1) where the emitter left it out and the request was served to the end.
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
    ids: list[str]
    keys: list[EventKey]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, mask: NDArray[np.bool_]) -> EventColumns:
        """Return the rows where ``mask`` is true; ``keys`` stays as it is."""
        if mask.all():
            return self
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                values[name] = value[mask]
        values["ids"] = [self.ids[i] for i in np.flatnonzero(mask).tolist()]
        return EventColumns(**values)


def decode_batch(
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int],
    now: float,
    limits: EventLimits,
    dimensions: Sequence[str] = (),
) -> tuple[EventColumns, list[Rejection]]:
    """Decode and check one batch of native records.

    Args:
        values: the records' values, as fetched (None: a record without a value).
        timestamps_ms: the records' own timestamps, epoch milliseconds (negative: none).
        now: epoch seconds; only judges records without a timestamp or with one in the future.
        limits: what is believed.
        dimensions: names of event fields to keep apart in the key.

    Returns:
        The accepted events in record order, and one rejection per other record, in record order.
    """
    too_large = {i for i, value in enumerate(values) if value is not None and len(value) > limits.max_bytes}
    small = [None if i in too_large else value for i, value in enumerate(values)] if too_large else values
    events, refused = native.decode_many(small, all_fields=bool(dimensions))
    rejections = [
        Rejection(i, RejectReason.TOO_LARGE, f"{len(values[i] or b'')} bytes, more than {limits.max_bytes}")
        if i in too_large
        else Rejection(i, error.reason, error.detail)
        for i, error in refused
    ]
    columns = from_events(events, dimensions)
    if refused:
        columns.index = np.delete(np.arange(len(values)), [i for i, _ in refused])
    stamps = np.asarray(timestamps_ms, np.float64)[columns.index]
    reference = np.where(stamps >= 0, np.minimum(stamps / 1000.0, now), now)
    doubtful = np.flatnonzero(~_surely_fine(columns, reference, limits)).tolist()
    if doubtful:
        keep = np.ones(len(columns), np.bool_)
        for row in doubtful:
            i = int(columns.index[row])
            try:
                check_relations(events[row], reference_seconds(timestamps_ms[i], now), limits)
            except EventRejected as error:
                rejections.append(Rejection(i, error.reason, error.detail))
                keep[row] = False
        columns = columns.take(keep)
        rejections.sort()
    return columns, rejections


def from_events(events: Sequence[RequestEvent], dimensions: Sequence[str] = ()) -> EventColumns:
    """Return decoded events as columns, unchecked; ``index`` counts from 0.

    A time that cannot be read becomes infinite, an unknown status −1: neither passes a check.
    """
    n = len(events)
    arrived = _times([e.arrived_at for e in events])
    completed = _times([e.completed_at for e in events])
    e2e = _floats([e.e2e_seconds for e in events])
    with np.errstate(invalid="ignore"):  # inf - inf of two unreadable times
        arrived = np.where(np.isnan(arrived), completed - e2e, arrived)
        completed = np.where(np.isnan(completed), arrived + e2e, completed)
        e2e = np.where(np.isnan(e2e), completed - arrived, e2e)
    ttft = _floats([e.ttft_seconds for e in events])
    tpot = _floats([e.tpot_seconds for e in events])
    output = np.array([e.output_tokens for e in events], np.int64)
    statuses = [e.status for e in events]
    if statuses.count("ok") == n:
        status = np.zeros(n, np.int64)
    else:
        status = np.array([_STATUS_CODES.get(name, -1) for name in statuses], np.int64)
    derivable = np.isnan(tpot) & (status == 0) & (output >= 2) & (e2e >= ttft)
    tpot[derivable] = (e2e[derivable] - ttft[derivable]) / (output[derivable] - 1)
    codes: defaultdict[tuple[str, str, str], int] = defaultdict(count().__next__)  # a new key takes the next code
    dims = [dimension_text(e, dimensions) for e in events] if dimensions else repeat("")
    named = zip([e.model for e in events], [e.pool for e in events], dims, strict=False)
    return EventColumns(
        arrived_at=arrived,
        completed_at=completed,
        e2e=e2e,
        queue=_floats([e.queue_seconds for e in events]),
        ttft=ttft,
        tpot=tpot,
        input_tokens=np.array([e.input_tokens for e in events], np.int64),
        cached_input_tokens=_optional_ints([e.cached_input_tokens for e in events]),
        output_tokens=output,
        reasoning_output_tokens=_optional_ints([e.reasoning_output_tokens for e in events]),
        preemptions=_optional_ints([e.preemptions for e in events]),
        status=status,
        key=np.array(list(map(codes.__getitem__, named)), np.int64),
        index=np.arange(n, dtype=np.int64),
        ids=[e.event_id for e in events],
        keys=[EventKey(*key) for key in codes],
    )


def dimension_text(event: RequestEvent, dimensions: Sequence[str]) -> str:
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
    if not "".join(columns.ids).isprintable():
        fine &= np.fromiter(map(str.isprintable, columns.ids), np.bool_, len(columns))
    return fine
