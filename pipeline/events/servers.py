"""Which servers sent the newest events of a batch: what clocks are judged by, at a cost that does not grow with it.

Windows need only hashes of ``server_id``; names are read of a sample: ``SAMPLED_EVENTS`` of the newest
``NEWEST_EVENTS``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.events.columns import EventColumns
from pipeline.events.request_event import MAX_TEXT_LENGTH, RequestEvent

__all__ = ["NEWEST_EVENTS", "SAMPLED_EVENTS", "name_events", "name_sampled", "sampled_rows"]

#: The sample: so many events at most, spread over the newest ones of a batch. Producers send runs of events of one
#: server, so neighbours alone would not do; nor would even steps, since balancers send to each server in turn.
SAMPLED_EVENTS = 64
NEWEST_EVENTS = 512
_GOLDEN = 0.6180339887498949  # its multiples are spread evenly, and in step with nothing


class _Named(msgspec.Struct, gc=False):
    server_id: str | int | None = None


_DECODER = msgspec.json.Decoder(_Named)


def sampled_rows(events: int) -> NDArray[np.int64]:
    """Return the rows of the sample of a batch, ascending; the newest event is one of them.

    >>> sampled_rows(3), sampled_rows(10_000)[[0, 1, -1]]
    (array([0, 1, 2]), array([9488, 9501, 9999]))
    """
    looked_at = min(events, NEWEST_EVENTS)
    step = max(1, -(-looked_at // SAMPLED_EVENTS))
    back = np.arange(0, looked_at, step)
    if step > 1:
        back += (np.arange(len(back)) * _GOLDEN % 1.0 * step).astype(np.int64)  # one of each ``step`` events
    return events - 1 - back[back < looked_at][::-1]


def name_events(columns: EventColumns, events: Sequence[Any], names: dict[str, int], rows: Sequence[int]) -> None:
    """Fill in ``columns.server_name`` of some ``rows`` of decoded events, as far as they told it.

    The sample of the whole batch lies within the newest accepted events of each of its parts, in record order.
    ``names`` are the names of a batch so far with their codes; new ones are added.
    """
    for row in rows:
        event = events[row]
        if isinstance(event, RequestEvent) and event.server_id:  # others were read with their counted fields only
            columns.server_name[row] = names.setdefault(event.server_id, len(names))


def name_sampled(
    columns: EventColumns, values: Sequence[bytes | None], foreign: Collection[int], names: dict[str, int]
) -> None:
    """Fill in ``server_name`` of the sample of a whole batch where it is not known yet, and ``servers``.

    Native records were read without the name of their server; ``foreign`` are the positions of others in ``values``.
    """
    rows = sampled_rows(len(columns))
    for row in rows[columns.server_name[rows] < 0].tolist():
        position = int(columns.index[row])
        server = None if position in foreign else _server_of(values[position])
        if server:
            columns.server_name[row] = names.setdefault(server, len(names))
    columns.servers = list(names)


def _server_of(value: bytes | None) -> str | None:
    try:
        server = _DECODER.decode(value or b"").server_id
    except (ValueError, RecursionError):  # in an envelope, or something else than a name
        return None
    return None if server is None else str(server)[:MAX_TEXT_LENGTH]
