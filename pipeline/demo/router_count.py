"""What the router in front of the simulated fleet counts: requests that have come, run and wait."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.events.request_event import RequestEvent
from pipeline.windows.types import PoolKey

__all__ = ["RouterCount"]


class RouterCount:
    """Requests by pool at one time, ``at`` (epoch seconds), since the simulated requests began."""

    def __init__(self, at: float) -> None:
        self.at = at
        self._total: dict[PoolKey, int] = {}
        self._running: dict[PoolKey, int] = {}
        self._queued: dict[PoolKey, int] = {}

    def arrived(self, event: RequestEvent) -> None:
        """Count one request that comes before the next ``move``."""
        _add(self._total, event)

    def move(self, at: float, in_flight: Iterable[RequestEvent]) -> None:
        """Go on to ``at``, when exactly the requests ``in_flight`` have come and not ended."""
        self.at = at
        self._running, self._queued = {}, {}
        for event in in_flight:
            arrived = event.arrived_at
            waits = isinstance(arrived, float) and arrived + (event.queue_seconds or 0.0) > at
            _add(self._queued if waits else self._running, event)

    def told(self, key: PoolKey) -> dict[str, int]:
        """Return the members of a replica status that tell of requests."""
        return {
            "requests_total": self._total.get(key, 0),
            "running_requests": self._running.get(key, 0),
            "queued_requests": self._queued.get(key, 0),
        }


def _add(counts: dict[PoolKey, int], event: RequestEvent) -> None:
    key = PoolKey(event.model, event.pool)
    counts[key] = counts.get(key, 0) + 1
