"""What the fleet's own count of requests says of demand: it needs no event, and is a window ahead of them.

Events come when requests end: under overload most of a window's requests are still to be told when it closes. A router
that counts requests when they come knows how many there were, and how many have come since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.windows.types import ClosedWindow

__all__ = ["CountedDemand", "FleetCount"]

#: The count is compared with windows of so many requests that are so complete, and has to have seen this share of one.
_LEAST_REQUESTS, _COMPLETE, _LEAST_SEEN_SHARE = 20, 0.9, 0.5
#: Standard deviations of Poisson counts, and the share beside them, by which both may differ.
_CHANCE, _SHARE = 3.0, 0.1


class CountedDemand(NamedTuple):
    """``in_window`` requests came in the window, by the part of it that was seen; None: not known, as below.

    ``after_per_second`` came since its end, ``newest_per_second`` in the seconds before the newest report.
    """

    in_window: float | None = None
    after_per_second: float | None = None
    newest_per_second: float | None = None


_UNKNOWN = CountedDemand()


@dataclass(slots=True)
class FleetCount:
    """Believes the count of one pool's fleet while it agrees with events. Pickles, and continues identically.

    ``agrees``: in the newest window that was complete by its latencies, both told of as many requests, but for chance
    and a tenth. A router may count other requests than those that events tell of. Once it has agreed, it may count as
    many more as are in flight: under overload latencies of the hour before take a window for complete most of whose
    requests still wait.
    """

    agrees: bool = False

    def learn(self, window: ClosedWindow) -> CountedDemand:
        """Compare the count with a window and return what it says; nothing while it is not believed."""
        counted = None if window.fleet is None or window.current_replicas is None else window.fleet.counted
        if counted is None:
            self.agrees = False
            return _UNKNOWN
        grain = window.grain_seconds
        in_window = _counted_in(counted.inside, counted.inside_seconds, grain, _LEAST_SEEN_SHARE * grain)
        complete = _COMPLETE <= window.completeness <= 1.0
        if in_window is not None and complete and not window.gap and window.requests >= _LEAST_REQUESTS:
            told = window.requests / window.completeness
            by, more = _CHANCE * math.sqrt(told + in_window) + _SHARE * told, in_window - told
            self.agrees = abs(more) <= by or (self.agrees and by < more <= by + _in_flight(window))
        if not self.agrees:
            return _UNKNOWN
        after = _counted_in(counted.after, counted.after_seconds, 1.0, _LEAST_SEEN_SHARE * grain)
        return CountedDemand(in_window, after, _counted_in(counted.newest, counted.newest_seconds, 1.0, 0.0))


def _in_flight(window: ClosedWindow) -> int:
    """The requests that run and wait by the newest report, 0 where it does not tell them."""
    fleet = window.fleet
    return 0 if fleet is None else (fleet.running_requests or 0) + (fleet.queued_requests or 0)


def _counted_in(requests: int | None, seen_seconds: float, seconds: float, least_seconds: float) -> float | None:
    """The requests of so many ``seconds``, by what was seen; None: not known, or less than ``least_seconds`` seen."""
    if requests is None or seen_seconds <= 0 or seen_seconds < least_seconds:
        return None
    return requests * seconds / seen_seconds
