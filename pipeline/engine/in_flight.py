"""What requests in flight say about demand: events come when requests end, and under overload they come too late.

Where the fleet counts its requests, its count says what is missing of a window. Where it does not, it reports how many
requests it serves and how many wait. Together with the events of a window these bound how many of its requests are
still to be told, and their growth shows demand that no window holds yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipeline.engine.fleet_count import CountedDemand, FleetCount
from pipeline.windows.types import ClosedWindow

__all__ = ["InFlight", "LiveDemand"]

#: Growth counts from so many standard deviations of a Poisson count on.
_SIGNIFICANT = 3.0
_LEAST_COMPLETENESS = 0.01


class LiveDemand(NamedTuple):
    """``window`` with the completeness that agrees with the requests in flight.

    ``in_flight`` are the requests that run and wait by the newest report, ``before`` by the one of the step before
    (None: not known). ``growth_per_second`` is by how much they grow, zero where that may be chance.
    ``counted`` is what the fleet's own count of requests says.
    """

    window: ClosedWindow
    in_flight: int | None
    before: int | None
    growth_per_second: float
    counted: CountedDemand = CountedDemand()

    @property
    def known_after_seconds(self) -> float:
        """For how long after the end of the window the fleet's own count, where it is believed, says what came."""
        fleet = self.window.fleet
        if self.counted.after_per_second is None or fleet is None or fleet.counted is None:
            return 0.0
        return max(fleet.counted.after_seconds, 0.0)


@dataclass(slots=True)
class InFlight:
    """Follows the requests in flight of one pool. Pickles, and continues identically afterwards."""

    reported_at: float | None = None
    count: int | None = None
    counting: FleetCount = field(default_factory=FleetCount)

    def learn(self, window: ClosedWindow) -> LiveDemand:
        """Take the newest report that belongs to a window; one that is not newer than the last says no growth."""
        fleet, counted = window.fleet, self.counting.learn(window)
        as_counted = _as_counted(window, counted.in_window)
        if fleet is None or fleet.running_requests is None or window.current_replicas is None:
            self.reported_at = self.count = None
            return LiveDemand(as_counted or window, None, None, 0.0, counted)
        before, at, count = self.count, self.reported_at, fleet.running_requests + (fleet.queued_requests or 0)
        self.reported_at, self.count = fleet.reported_at, count
        growth = 0.0
        if before is not None and at is not None and fleet.reported_at > at:
            more = count - before
            if more > _SIGNIFICANT * math.sqrt(max(count, before)):
                growth = more / (fleet.reported_at - at)
        return LiveDemand(as_counted or _with_completeness(window, count), count, before, growth, counted)


def _as_counted(window: ClosedWindow, requests: float | None) -> ClosedWindow | None:
    """Return the window with the share that events have told of so many ``requests``; None: that is not known."""
    if requests is None or window.gap or window.requests <= 0:
        return None
    share = window.requests / max(requests, float(window.requests))
    return replace(window, completeness=max(share, _LEAST_COMPLETENESS))


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
