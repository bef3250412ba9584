"""What a closed window says about one replica: the bridge from telemetry to the calibration of sizing.

Where a window tells the mean TTFT and time per output token, they are the evidence. Where it tells only the sum of
end-to-end latencies, ``sizing.calibration.measurement.point_of_load`` takes the predicted TTFT out of it and refuses
loads where that is a large share.
"""

from __future__ import annotations

from collections import deque

from pipeline.windows.types import ClosedWindow
from sizing.calibration.measurement import ObservedLoad

__all__ = ["LoadObserver"]

#: Fewer finished requests than this say little about a mean.
_MIN_OK = 20
_MIN_COMPLETENESS = 0.9
_MIN_OK_SHARE = 0.9
#: The batch is inferred from the rate at which requests arrive, which has to be the rate at which they begin, but for a
#: tenth of a window's requests: otherwise a queue was filled or worked off, and the batch belongs to another rate.
_MAX_BEGUN_OTHERWISE = 0.1


class LoadObserver:
    """Turns the windows of one pool into loads of one replica; pickles, and continues identically afterwards."""

    def __init__(self) -> None:
        self._replicas: int | None = None
        # Since when so many have been ready, epoch seconds.
        self._since = 0.0
        # Mean TTFT of the window before, and (time, requests that wait) of the newest reports.
        self._first_seconds: float | None = None
        self._queued: deque[tuple[float, int]] = deque()

    def load(self, window: ClosedWindow) -> ObservedLoad | None:
        """Return what the window says about one replica, or None when it should not be learned from.

        Not learned: gaps, incomplete windows, few requests, more than a tenth not served, preemptions, any window from
        whose start to the newest report the ready replicas are unknown or changed (loads were mixed), and any in which
        a queue grew or shrank.
        """
        if window.gap:
            self._replicas, self._first_seconds = None, None
            self._queued.clear()
            return None
        steady, settled = self._steady(window), self._settled(window)
        if not (steady and settled and window.ready_replicas):
            return None
        if window.completeness < _MIN_COMPLETENESS or window.preemptions:
            return None
        if window.ok < _MIN_OK or window.ok < _MIN_OK_SHARE * window.requests:
            return None
        if not (window.input_tokens and window.output_tokens and window.inflight_milliseconds):
            return None
        return ObservedLoad(
            input_tokens=window.input_tokens / window.requests,
            output_tokens=window.output_tokens / window.requests,
            e2e_seconds=window.inflight_milliseconds / 1e3 / window.requests,
            requests_per_second=window.requests / window.grain_seconds / window.ready_replicas,
            cached_share=min(window.cached_input_tokens / window.input_tokens, 1.0),
            ttft_seconds=window.ttft_seconds or None,
            tpot_seconds=_step_seconds(window),
        )

    def _steady(self, window: ClosedWindow) -> bool:
        """Whether the same replicas were ready from the window's start on, by all that has been reported.

        The newest report is younger than the window, whose requests may still be served when it closes. The first one
        says that nothing changed in the time of a window before it, if it tells of no change.
        """
        fleet, grain = window.fleet, float(window.grain_seconds)
        told = [(float(window.end), window.ready_replicas)]
        if fleet is not None:
            told = [(count.at, count.ready) for count in fleet.counts] or told
            if self._replicas is None and len(told) == 1:
                told = [(fleet.reported_at - grain, told[0][1])]
        for at, ready in (*told, (float(window.end), window.ready_replicas)):
            if ready != self._replicas:
                self._replicas, self._since = ready, at
        return self._replicas is not None and self._since <= window.start

    def _settled(self, window: ClosedWindow) -> bool:
        """Whether about as many requests began as arrived, by the growth of TTFT and of the queue.

        Requests that arrive within g seconds begin within g + (growth of TTFT) seconds. Where TTFT or the queue is not
        told it is taken to be settled.
        """
        before, self._first_seconds = self._first_seconds, window.ttft_seconds or None
        fleet = window.fleet
        if fleet is not None and fleet.queued_requests is not None:
            self._queued.append((fleet.reported_at, fleet.queued_requests))
        while len(self._queued) > 1 and self._queued[1][0] <= window.start:
            self._queued.popleft()
        waiting = [count for _, count in self._queued]
        if waiting and max(waiting) - min(waiting) > _MAX_BEGUN_OTHERWISE * window.requests:
            return False
        if before is None or self._first_seconds is None:
            return True
        return abs(self._first_seconds - before) <= _MAX_BEGUN_OTHERWISE * window.grain_seconds


def _step_seconds(window: ClosedWindow) -> float | None:
    """Return the mean time per output token over the tokens, or over the requests where that is all that is known.

    A step is a token of every sequence in the batch. In the mean over requests short answers count as much as long
    ones, and these see other steps: more of theirs are beside the prompts that came with them.
    """
    tokens = window.output_tokens - window.requests
    if window.ttft_seconds and window.tpot_seconds and window.ok == window.requests and tokens > 0:
        decoding = window.inflight_milliseconds / 1e3 - window.ttft_seconds * window.requests
        if decoding > 0:
            return decoding / tokens
    return window.tpot_seconds or None
