"""Tells silence from missing telemetry: a gap is not a zero."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.windows.types import ClosedWindow

__all__ = ["GapGuard"]


@dataclass(slots=True)
class GapGuard:
    """Decides whether an empty window of one pool is idleness or missing telemetry.

    A pool that was expected to send ``min_expected_requests`` or more in the window and sent none has lost its
    telemetry: for Poisson arrivals the chance of silence at 20 expected requests is e⁻²⁰ = 2·10⁻⁹. Silence that lasts
    ``accept_seconds`` is believed, since pools do get switched off.
    """

    min_expected_requests: float
    accept_seconds: float
    expected_requests: float | None = None
    silent_since: int | None = None

    def is_gap(self, window: ClosedWindow) -> bool:
        """Judge one window and learn from it; a window marked as a gap is one, and judges the same when seen again."""
        return self._is_silent_gap(window) or window.gap

    def would_be_gap(self, window: ClosedWindow) -> bool:
        """Judge one window as ``is_gap`` will, without learning from it."""
        return window.gap or (window.requests == 0 and replace(self).is_gap(window))

    def _is_silent_gap(self, window: ClosedWindow) -> bool:
        if window.requests > 0:
            if window.gap:
                return False
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
