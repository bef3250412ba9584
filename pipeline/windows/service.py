"""How requests were served: latency quantiles of a window, and which requests met the objective of their pool.

Whether both latencies of one request met it cannot be told from two histograms, so it is decided where events are
folded. A histogram whose buckets are the outcomes carries the counts, and merges as all histograms do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.events.columns import EventColumns
from pipeline.events.request_event import STATUSES
from pipeline.windows import histogram

__all__ = ["OUTCOMES", "SERVICE", "Objectives", "Quantiles", "Service", "ServiceCounts", "outcomes", "service"]

#: Name of the histogram of outcomes.
SERVICE = "service"
#: The outcomes of a request by their buckets. Append only.
OUTCOMES = ("met", "ttft_missed", "tpot_missed", "both_missed", "unknown", "failed", "timeout")
_UNKNOWN, _FAILED, _TIMEOUT = (OUTCOMES.index(name) for name in ("unknown", "failed", "timeout"))
_OF_STATUS = np.array([{"ok": 0, "cancelled": -1, "timeout": _TIMEOUT}.get(name, _FAILED) for name in STATUSES])
_QUANTILES = (0.5, 0.95, 0.99)

#: (model, pool) to the most seconds to first token and per output token (None: not asked for).
Objectives = Mapping[tuple[str, str], tuple[float | None, float | None]]


class Quantiles(NamedTuple):
    """Quantiles of one latency in seconds, within 1 %."""

    p50: float
    p95: float
    p99: float


class ServiceCounts(NamedTuple):
    """Requests of a window by outcome.

    ``met``: served within the objective (goodput). ``unknown``: served, with a latency that is asked for and not known.
    ``failed``: an error, or rejected. Requests that their clients gave up are not counted.
    """

    met: int
    ttft_missed: int
    tpot_missed: int
    both_missed: int
    unknown: int
    failed: int
    timeout: int

    @property
    def judged(self) -> int:
        """Requests of which it is known whether they met the objective."""
        return sum(self) - self.unknown


class Service(NamedTuple):
    """How the requests of one window were served; None: no request told it, or the pool has no objective."""

    ttft_seconds: Quantiles | None = None
    tpot_seconds: Quantiles | None = None
    queue_seconds: Quantiles | None = None
    e2e_seconds: Quantiles | None = None
    counts: ServiceCounts | None = None


def outcomes(columns: EventColumns, objectives: Objectives) -> NDArray[np.int64]:
    """Return the outcome of every event as an index into ``OUTCOMES``; −1: its pool has no objective, or it was given
    up.

    A latency that is not known meets the objective where it must: TTFT is at most the end-to-end latency, and a single
    output token has no time between tokens.
    """
    limits = [objectives.get((key.model, key.pool)) for key in columns.keys]
    if not any(limits):
        return np.full(len(columns), -1, np.int64)
    asked = np.array([limit is not None for limit in limits])[columns.key]
    most = np.array([[np.inf if x is None else x for x in limit or (None, None)] for limit in limits], np.float64)
    ttft, tpot = most[columns.key].T
    with np.errstate(invalid="ignore"):
        early = np.isinf(ttft) | (columns.ttft <= ttft) | (columns.e2e <= ttft)
        late = columns.ttft > ttft
        quick = np.isinf(tpot) | (columns.tpot <= tpot) | ((columns.output_tokens >= 0) & (columns.output_tokens <= 1))
        slow = columns.tpot > tpot
    found = late.astype(np.int64) + 2 * slow
    found[(found == 0) & ~(early & quick)] = _UNKNOWN
    status = _OF_STATUS[columns.status]
    return np.where(asked, np.where(status == 0, found, status), -1)


def service(counts: Mapping[str, Mapping[int, int]]) -> Service | None:
    """Return what the histograms of a window say, given as {name: {bucket: n}}; None: nothing."""
    told = counts.get(SERVICE)
    ttft, tpot, queue, e2e = (_quantiles(counts.get(name, {})) for name in Service._fields[:-1])
    outcome = None if told is None else ServiceCounts(*(told.get(bucket, 0) for bucket in range(len(OUTCOMES))))
    found = Service(ttft, tpot, queue, e2e, outcome)
    return None if found == Service() else found


def _quantiles(told: Mapping[int, int]) -> Quantiles | None:
    total = sum(told.values())
    if total <= 0:
        return None
    buckets = sorted(told)
    seen = list(accumulate(map(told.__getitem__, buckets)))
    # A quantile is the first bucket beyond its rank.
    return Quantiles(*(histogram.value(buckets[bisect_right(seen, q * (total - 1))]) for q in _QUANTILES))
