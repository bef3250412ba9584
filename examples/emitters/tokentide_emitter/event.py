"""Builds request events (``schemas/request.v1.schema.json``): absent means unknown, and nothing exceeds its bounds."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from itertools import count
from typing import Any

__all__ = ["EventIds", "finished_event", "http_outcome", "is_time"]

#: Longest text of an event. Identifiers of some gateways are longer; nothing is keyed by these texts.
_MAX_TEXT = 256
_MAX_SECONDS = 86_400.0


class EventIds:
    """Ids that are unique over processes and restarts: a random prefix of the process, then a counter."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex[:12]
        self._numbers = count(1)

    def __call__(self, scope: str | int = 0) -> str:
        """Return the next id; ``scope`` (an engine index, say) becomes part of it."""
        return f"{self._prefix}-{scope}-{next(self._numbers)}"


def is_time(value: object) -> bool:
    """Whether ``value`` is a duration in seconds that an event may carry."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MAX_SECONDS


def http_outcome(status: int) -> str | None:
    """Return the event status of an HTTP status; None for a request that never was load (a client's own mistake).

    408 and 504 are timeouts, 429 and 503 refusals, 499 a client that left, other 5xx errors.
    """
    if status < 400:
        return "ok"
    if status in (429, 503):
        return "rejected"
    if status in (408, 504):
        return "timeout"
    if status == 499:
        return "cancelled"
    return "error" if status >= 500 else None


def finished_event(fields: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return an event of ``fields`` and ``labels`` without what is unknown or out of bounds.

    Texts are cut at 256 characters, durations beyond a day and numbers that are not finite are left out.
    """
    event: dict[str, Any] = {}
    for name, value in {**labels, **fields}.items():
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        if name.endswith("_seconds") and not is_time(value):
            continue
        event[name] = value[:_MAX_TEXT] if isinstance(value, str) else value
    return event
