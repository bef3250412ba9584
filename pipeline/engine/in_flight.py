"""What requests in flight say about demand: events come when requests end, and under overload they come too late.

The fleet reports how many requests it serves and how many wait. Together with the events of a window these bound how
many of its requests are still to be told, and their growth shows demand that no window holds yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.windows.fleet import CountedRequests
from pipeline.windows.types import ClosedWindow

__all__ = ["InFlight", "LiveDemand"]

#: Growth counts from so many standard deviations of a Poisson count on.
_SIGNIFICANT = 3.0
_LEAST_COMPLETENESS = 0.01
#: The fleet's own count is compared with windows of so many requests that are so complete, and has to have seen this
#: share of a window.
_LEAST_REQUESTS, _COMPLETE, _LEAST_SEEN_SHARE = 20, 0.9, 0.5


class LiveDemand(NamedTuple):
    """``window`` with the completeness that agrees with the requests in flight.

    ``in_flight`` are the requests that run and wait by the newest report, ``before`` by the one of the step before
    (None: not known). ``growth_per_second`` is by how much they grow, zero where that may be chance.
    ``newest_per_second`` are the requests that came in the seconds before the newest report, by the fleet's own count
    (None: not known).
    """

    window: ClosedWindow
    in_flight: int | None
    before: int | None
    growth_per_second: float
    newest_per_second: float | None = None
    after_per_second: float | None = None


@dataclass(slots=True)
class InFlight:
    """Follows the requests in flight of one pool. Pickles, and continues identically afterwards."""

    reported_at: float | None = None
    count: int | None = None
    counts: bool = False  # the fleet counts the requests that events tell of, and no others

    def learn(self, window: ClosedWindow) -> LiveDemand:
        """Take the newest report that belongs to a window; one that is not newer than the last says no growth."""
        fleet, counted = window.fleet, self._counted(window)
        newest = after = None
        if counted is not None and counted.after is not None and counted.after_seconds >= _LEAST_SEEN_SHARE * window.grain_seconds:
            after = counted.after / counted.after_seconds
        if counted is not None and counted.newest is not None:
            newest = counted.newest / counted.newest_seconds
        if fleet is None or fleet.running_requests is None or window.current_replicas is None:
            self.reported_at = self.count = None
            return LiveDemand(_as_counted(window, counted) or window, None, None, 0.0, newest, after)
        before, at, count = self.count, self.reported_at, fleet.running_requests + (fleet.queued_requests or 0)
        self.reported_at, self.count = fleet.reported_at, count
        growth = 0.0
        if before is not None and at is not None and fleet.reported_at > at:
            more = count - before
            if more > _SIGNIFICANT * math.sqrt(max(count, before)):
                growth = more / (fleet.reported_at - at)
        told = _as_counted(window, counted) or _with_completeness(window, count)
        return LiveDemand(told, count, before, growth, newest, after)

    def _counted(self, window: ClosedWindow) -> CountedRequests | None:
        """The fleet's own count; None: not told, or in the newest window that is complete it was not that of events."""
        counted = None if window.fleet is None or window.current_replicas is None else window.fleet.counted
        if counted is None:
            self.counts = False
            return None
        if not window.gap and window.requests >= _LEAST_REQUESTS and window.completeness >= _COMPLETE:
            by_count = _counted_requests(window, counted)
            if by_count is not None:
                told = window.requests / window.completeness
                chance = _SIGNIFICANT * math.sqrt(told + by_count)
                self.counts = abs(by_count - told) <= chance + (1.0 - _COMPLETE) * told
        return counted if self.counts else None


def _counted_requests(window: ClosedWindow, counted: CountedRequests) -> float | None:
    """The requests of a window by the fleet's count; None: it saw too little of it."""
    if counted.inside is None or counted.inside_seconds < _LEAST_SEEN_SHARE * window.grain_seconds:
        return None
    return counted.inside * window.grain_seconds / counted.inside_seconds


def _as_counted(window: ClosedWindow, counted: CountedRequests | None) -> ClosedWindow | None:
    """Return the window with the share of the counted requests that events have told of; None: not known."""
    by_count = None if counted is None else _counted_requests(window, counted)
    if by_count is None or window.gap or window.requests <= 0:
        return None
    share = window.requests / max(by_count, float(window.requests))
    return replace(window, completeness=min(1.0, max(share, _LEAST_COMPLETENESS)))


def _with_completeness(window: ClosedWindow, in_flight: int) -> ClosedWindow:
    """Return the window with the completeness that ``in_flight`` requests, reported after its end, leave possible.

    With n requests told of a window of g seconds that closes a seconds after its end, and f in flight then:

    - At least (n + f) / (g + a) requests come per second, as long as none of them is older than the window: whatever
      has come is told or in flight. Under overload latencies grow faster than their histogram learns.
    - By Little's law the mean latency is f / rate. Where latencies are spread no more than an exponential distribution,
      as those of requests served are, the share e^(-t / mean) is in flight after t seconds. After an overload the
      histogram of latencies still says that more is missing.
    """
    fleet, told, seconds = window.fleet, window.requests, float(window.grain_seconds)
    if window.gap or fleet is None or told <= 0 or fleet.reported_at < window.end or not 0 < window.completeness <= 1:
        return window
    age = max(fleet.reported_at - window.end, window.closed_after_seconds or 0.0)
    share = window.completeness
    if in_flight > 0:
        mean = in_flight * seconds / told
        share = max(share, 1.0 - mean / seconds * (math.exp(-age / mean) - math.exp(-(age + seconds) / mean)))
    else:
        share = 1.0
    share = min(share, told / seconds * (seconds + age) / (told + in_flight))
    return replace(window, completeness=min(1.0, max(share, _LEAST_COMPLETENESS)))
