"""How much of a window has been reported: events come at completion, demand happens at arrival.

A request of age a has been reported with probability F(a), F the distribution of the time from arrival to completion.
For arrivals spread evenly over a window, the expected share reported by the watermark w is the mean of F(w − arrival).
Dividing the count by it corrects the reporting delay (Lawless, "Adjustments for reporting delays and the prediction of
occurred but not reported events", Canadian Journal of Statistics 22, 1994).

F has to come from requests that were all given the time to report: take the histogram of windows that ended at least
the longest usual latency before the watermark, or F is truncated on the right and the window looks too complete.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.windows import histogram

__all__ = ["LATENCY_REFRESH_SECONDS", "LATENCY_SPAN_SECONDS", "MIN_COMPLETENESS", "completeness"]

#: Latencies are learned from the hour before a window, anew every ten minutes of event time.
LATENCY_SPAN_SECONDS = 3600
LATENCY_REFRESH_SECONDS = 600

#: Below this the count says too little to be scaled up by its inverse.
MIN_COMPLETENESS = 0.01


def completeness(e2e_counts: Mapping[int, int], start: float, seconds: float, watermark: float) -> float:
    """Return the expected share, in (0, 1], of a window's requests that had been reported.

    Args:
        e2e_counts: merged ``e2e_seconds`` histogram {bucket: n}; empty: no history, taken as complete.
        start: the window's start, epoch seconds.
        seconds: its width.
        watermark: event time of the estimate, epoch seconds.

    >>> completeness({histogram.bucket([5.0]).item(): 100}, start=0, seconds=10, watermark=10)  # those up to t = 5
    0.49...
    """
    if not e2e_counts:
        return 1.0
    latency = histogram.values(list(e2e_counts))
    n = np.array(list(e2e_counts.values()), np.float64)
    # A request of latency v is in if it arrived by watermark − v: that share of the window.
    share = np.clip((watermark - latency - start) / seconds, 0.0, 1.0)
    return float(min(max(float(share @ n) / float(n.sum()), MIN_COMPLETENESS), 1.0))
