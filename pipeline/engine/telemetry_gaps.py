"""Tells silence from missing telemetry: a gap is not a zero."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.windows.types import ClosedWindow

__all__ = ["GapGuard"]

#: Of the requests that events tell of, the share that the fleet must have counted for its count to be believed.
_LEAST_COUNTED_SHARE = 0.8
#: The share of a window, at least, between the reports in it by whose count no request came.
_LEAST_SEEN_SHARE = 0.5


@dataclass(slots=True)
class GapGuard:
    """Decides whether an empty window of one pool is idleness or missing telemetry.

    A pool that was expected to send ``min_expected_requests`` or more in the window and sent none has lost its
    telemetry: for Poisson arrivals the chance of silence at 20 expected requests is e⁻²⁰ = 2·10⁻⁹. Arrivals in bursts
    are no Poisson process: where the fleet's own count of requests stood still, and had counted what events told of
    when the pool was last busy, it was silent. Silence that lasts ``accept_seconds`` is believed, since pools do get
    switched off.
    """

    min_expected_requests: float
    accept_seconds: float
    expected_requests: float | None = None
    silent_since: int | None = None
    counts: bool = False  # the fleet counts the requests that events tell of
    silent: bool = False  # by its count the newest window, which has no events, had no requests

    def is_gap(self, window: ClosedWindow) -> bool:
        """Judge one window and learn from it; a window marked as a gap is one, and judges the same when seen again."""
        return self._is_silent_gap(window) or window.gap

    def would_be_gap(self, window: ClosedWindow) -> bool:
        """Judge one window as ``is_gap`` will, without learning from it."""
        return window.gap or (window.requests == 0 and replace(self).is_gap(window))

    def _is_silent_gap(self, window: ClosedWindow) -> bool:
        self.silent = self._counted_none(window)
        if self.silent:
            self.silent_since = None
            return False
        if window.requests > 0:
            if window.gap:
                return False
            self._learn_count(window)
            self.silent_since = None
            before = window.requests if self.expected_requests is None else self.expected_requests
            self.expected_requests = 0.8 * before + 0.2 * window.requests
            return False
        if self.expected_requests is None or self.expected_requests < self.min_expected_requests:
            return False
        if self.silent_since is None:
            self.silent_since = window.start
        if window.end - self.silent_since <= self.accept_seconds:
            return True
        self.expected_requests = 0.0
        return False

    def _learn_count(self, window: ClosedWindow) -> None:
        counted = None if window.fleet is None else window.fleet.counted
        if counted is None or window.requests < self.min_expected_requests:
            return
        if counted.around is not None:
            self.counts = counted.around >= _LEAST_COUNTED_SHARE * window.requests
        elif counted.inside is not None:  # the fleet has just begun to report
            seen = counted.inside_seconds / window.grain_seconds
            self.counts = counted.inside >= _LEAST_COUNTED_SHARE * window.requests * seen > 0

    def _counted_none(self, window: ClosedWindow) -> bool:
        """Whether the fleet counted no request in a window without events.

        A count that was frozen with the events, as by a collector that repeats what it saw last, shows in requests in
        flight that do not change either.
        """
        if window.requests or window.gap or not self.counts or window.fleet is None or window.current_replicas is None:
            return False
        counted = window.fleet.counted
        if counted is None or counted.inside_seconds < _LEAST_SEEN_SHARE * window.grain_seconds:
            return False
        return counted.inside == 0 and counted.idle
