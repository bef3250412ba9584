"""The oracle: knows every arrival to come, and orders so early that replicas are ready in time. It cannot start faster.

For each bin of a minute it needs ceil(margin · requests per second / what one replica carries by the load test), and at
every moment it has ordered the most that is needed until what is ordered now would be ready.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup

__all__ = ["BIN_SECONDS", "SPEC", "Oracle", "needed_replicas"]

BIN_SECONDS = 60


def needed_replicas(setup: Setup, margin: float) -> NDArray[np.int64]:
    """Return the replicas that each minute needs, within the pool's limits."""
    bins = max(math.ceil(setup.end_seconds / BIN_SECONDS), 1)
    counts = np.bincount((setup.requests.arrival_seconds // BIN_SECONDS).astype(np.int64), minlength=bins)
    exact = margin * counts / BIN_SECONDS / setup.load_test.requests_per_second
    whole = np.ceil(exact - 1e-9)
    return np.clip(whole, setup.pool.min_replicas, setup.pool.max_replicas).astype(np.int64)


class Oracle:
    """Replicas from what is to come, ordered a start-up ahead."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, setup: Setup, margin: float) -> None:
        self._needed = needed_replicas(setup, margin)
        self._ahead_seconds = setup.start_up_seconds + self.interval_seconds

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the most that is needed from now until what is ordered now is ready."""
        now = metrics.now_seconds
        first = min(int(now // BIN_SECONDS), len(self._needed) - 1)
        last = min(int((now + self._ahead_seconds) // BIN_SECONDS), len(self._needed) - 1)
        return int(self._needed[first : last + 1].max())


SPEC = PolicySpec(
    "oracle",
    "knows what is to come, same lead time",
    Oracle,
    Knob("margin", 1.0, (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)),
)
