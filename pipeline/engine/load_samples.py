"""What a closed window says about one replica: the bridge from telemetry to the calibration of sizing.

Where a window tells the mean TTFT and time per output token, they are the evidence. Where it tells only the sum of
end-to-end latencies, ``sizing.calibration.measurement.point_of_load`` takes the predicted TTFT out of it and refuses
loads where that is a large share.
"""

from __future__ import annotations

from pipeline.windows.types import ClosedWindow
from sizing.calibration.measurement import ObservedLoad

__all__ = ["LoadObserver"]

#: Fewer finished requests than this say little about a mean.
_MIN_OK = 20
_MIN_COMPLETENESS = 0.9
_MIN_OK_SHARE = 0.9


class LoadObserver:
    """Turns the windows of one pool into loads of one replica; pickles, and continues identically afterwards."""

    def __init__(self) -> None:
        self._replicas: int | None = None

    def load(self, window: ClosedWindow) -> ObservedLoad | None:
        """Return what the window says about one replica, or None when it should not be learned from.

        Not learned: gaps, incomplete windows, few requests, more than a tenth not served, preemptions, and any window
        in which the number of ready replicas is unknown or not that of the window before (loads were mixed).
        """
        before, self._replicas = self._replicas, None if window.gap else window.ready_replicas
        if window.gap or not window.ready_replicas or window.ready_replicas != before:
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
            tpot_seconds=window.tpot_seconds or None,
        )
