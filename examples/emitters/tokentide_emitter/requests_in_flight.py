"""What the front end knows of requests that the engine is still working on, shared by plugin and middleware."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["REQUESTS", "RequestInFlight", "RequestsInFlight"]


@dataclass
class RequestInFlight:
    """One HTTP request. ``engine_finished`` is set when the engine reported (one of) its sequences."""

    key: str
    arrived_at: float
    operation: str | None = None
    model: str | None = None
    stream: bool | None = None
    tenant: str | None = None
    engine_finished: bool = False


class RequestsInFlight:
    """Requests by X-Request-Id, which need not be unique; ``models`` are the names that the server serves."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        self._requests: dict[str, list[RequestInFlight]] = {}
        self._lock = threading.Lock()

    def begin(self, request: RequestInFlight) -> None:
        """Remember a request until ``end``."""
        with self._lock:
            self._requests.setdefault(request.key, []).append(request)

    def end(self, request: RequestInFlight) -> None:
        """Forget a request."""
        with self._lock:
            waiting = [other for other in self._requests.pop(request.key, []) if other is not request]
            if waiting:
                self._requests[request.key] = waiting

    def engine_finished(self, keys: Sequence[str]) -> RequestInFlight | None:
        """Mark and return the request of one of ``keys``, the oldest that the engine has not reported yet."""
        with self._lock:
            found = next((self._requests[key] for key in keys if key in self._requests), None)
            if not found:
                return None
            request = next((request for request in found if not request.engine_finished), found[0])
            request.engine_finished = True
            return request

    def __len__(self) -> int:
        return sum(map(len, self._requests.values()))


#: The requests of this process.
REQUESTS = RequestsInFlight()
