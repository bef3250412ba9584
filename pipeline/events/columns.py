"""Events as columns: what the window fold works on, and how decoded events become it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import count, repeat
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.events.byte_columns import hashes_of
from pipeline.events.request_event import STATUSES, RequestEvent
from pipeline.events.validation import parse_time

__all__ = [
    "STATUS_CODES",
    "EventColumns",
    "EventKey",
    "complete",
    "dimension_text",
    "from_events",
    "merged",
    "server_hashes",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Status to its code in ``EventColumns.status``.
STATUS_CODES = {name: code for code, name in enumerate(STATUSES)}


class EventKey(NamedTuple):
    """What an event is counted under: model, pool, and the configured dimensions as ``name=value`` joined by ``|``."""

    model: str
    pool: str
    dims: str


@dataclass(slots=True)
class EventColumns:
    """Accepted events as columns of equal length.

    Times are epoch seconds, latencies seconds (NaN: unknown), tokens whole numbers (−1: unknown). ``status`` indexes
    ``STATUSES``, ``key`` indexes ``keys``, ``index`` is the record's position in the batch that was decoded: ascending,
    and more than once where a record holds several events. ``ids`` are hashes of the event ids, shape (n, 2)
    (``texts.hash_texts``). ``attempt`` is the router's count of tries, ``server`` a hash of the server's id, 63 bits
    (−1: unknown). ``tpot`` is derived as (e2e − ttft) / (output − 1) where the emitter left it out and the request was
    served to the end. ``server_name`` indexes ``servers``; −1: not told, or not looked at
    (``pipeline.events.servers``).
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
    attempt: Ints
    server: Ints
    status: Ints
    key: Ints
    index: Ints
    ids: NDArray[np.uint64]
    server_name: Ints
    keys: list[EventKey]
    servers: list[str] = field(default_factory=list)

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


def from_events(events: Sequence[RequestEvent], dimensions: Sequence[str] = ()) -> EventColumns:
    """Return decoded events as columns, unchecked; ``index`` counts from 0.

    A time that cannot be read becomes infinite, an unknown status −1: neither passes a check.
    """
    n = len(events)
    statuses = [e.status for e in events]
    if statuses.count("ok") == n:
        status = np.zeros(n, np.int64)
    else:
        status = np.array([STATUS_CODES.get(name, -1) for name in statuses], np.int64)
    codes: defaultdict[tuple[str, str, str], int] = defaultdict(count().__next__)  # a new key takes the next code
    dims: Iterable[str] = repeat("")
    if dimensions:
        dims = [dimension_text(e, dimensions) for e in events]
    named = zip([e.model for e in events], [e.pool for e in events], dims, strict=False)
    return complete(
        EventColumns(
            arrived_at=_times([e.arrived_at for e in events]),
            completed_at=_times([e.completed_at for e in events]),
            e2e=_floats([e.e2e_seconds for e in events]),
            queue=_floats([e.queue_seconds for e in events]),
            ttft=_floats([e.ttft_seconds for e in events]),
            tpot=_floats([e.tpot_seconds for e in events]),
            input_tokens=_optional_ints([e.input_tokens for e in events]),
            cached_input_tokens=_optional_ints([e.cached_input_tokens for e in events]),
            output_tokens=_optional_ints([e.output_tokens for e in events]),
            reasoning_output_tokens=_optional_ints([e.reasoning_output_tokens for e in events]),
            preemptions=_optional_ints([e.preemptions for e in events]),
            attempt=_optional_ints([e.attempt for e in events]),
            server=_servers([e.server_id for e in events]),
            status=status,
            key=np.array(list(map(codes.__getitem__, named)), np.int64),
            index=np.arange(n, dtype=np.int64),
            ids=hashes_of([e.event_id for e in events]),
            server_name=np.full(n, -1, np.int64),
            keys=[EventKey(*key) for key in codes],
        )
    )


def complete(columns: EventColumns) -> EventColumns:
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


def merged(parts: Sequence[EventColumns]) -> EventColumns:
    """Return several columns as one, in record order."""
    codes: defaultdict[EventKey, int] = defaultdict(count().__next__)
    key = [np.array([codes[name] for name in part.keys], np.int64)[part.key] for part in parts if len(part)]
    order = np.argsort(np.concatenate([part.index for part in parts]), kind="stable")
    values: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])[order]
        for f in fields(EventColumns)
        if f.name not in ("key", "keys", "servers")
    }
    whole_key = np.concatenate(key)[order] if key else np.zeros(0, np.int64)
    return EventColumns(**values, key=whole_key, keys=list(codes))


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


def server_hashes(hashes: NDArray[np.uint64]) -> Ints:
    """Return the column of servers from hashes of their ids, shape (n, 2)."""
    return (hashes[:, 0] >> np.uint64(1)).astype(np.int64)


def _servers(ids: list[str | None]) -> Ints:
    known = [name for name in dict.fromkeys(ids) if name is not None]
    if not known:
        return np.full(len(ids), -1, np.int64)
    codes: dict[str | None, int] = dict(zip(known, server_hashes(hashes_of(known)).tolist(), strict=True))
    return np.array([codes.get(name, -1) for name in ids], np.int64)


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
