"""What the fleet reported about one pool, as it was known when a window closed."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NEWEST_SECONDS", "CountedRequests", "FleetReport", "ReplicaCount"]

#: The newest count of requests is taken over so many seconds at least.
NEWEST_SECONDS = 15.0


class ReplicaCount(NamedTuple):
    """At ``at`` (epoch seconds) there were ``current`` replicas, ``ready`` of them serving (None: not told)."""

    at: float
    current: int
    ready: int | None


class CountedRequests(NamedTuple):
    """Requests that came by the fleet's own count, which needs no event; None: not known, or the count began anew.

    ``around`` came between the last report not after the window's start and the first one not before its end.
    ``inside`` came between its first and its last report within, ``inside_seconds`` apart; ``idle`` says that nothing
    was in flight at the last of these, or less than at the first. ``after`` came between the first report not before
    its end and the newest one, ``newest`` between that and the one before it that is ``NEWEST_SECONDS`` older or more.
    """

    around: int | None
    inside: int | None
    inside_seconds: float
    idle: bool
    newest: int | None = None
    newest_seconds: float = 0.0
    after: int | None = None
    after_seconds: float = 0.0


class FleetReport(NamedTuple):
    """The reports about a pool that belong to a closed window.

    ``reported_at`` (epoch seconds) is when the newest one was observed: its age says whether it still holds.
    ``queued_requests`` and ``running_requests`` are all requests that waited for a replica and that were being served
    then (None: not told). ``counts`` are the reports since the window before in which the replicas had changed, in
    order of time; the last one is the newest report. ``counted`` is None where the fleet does not count its requests.
    """

    reported_at: float
    queued_requests: int | None
    running_requests: int | None
    counts: tuple[ReplicaCount, ...]
    counted: CountedRequests | None = None
