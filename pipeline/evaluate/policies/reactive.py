"""Observed demand times a headroom: ceil(headroom · requests per second of the last minute / what a replica carries).

The plainest rule there is, with the HPA's stabilisation window of 300 s down and a decision every 15 s.
"""

from __future__ import annotations

import math

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup, Stabiliser

__all__ = ["SPEC", "Reactive"]

_WINDOW_SECONDS = 60.0


class Reactive:
    """``capacity``: requests per second that one replica carries, by the load test."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, capacity: float, headroom: float) -> None:
        self._capacity, self._headroom = capacity, headroom
        self._stabiliser = Stabiliser()

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas for the rate of the last minute."""
        seen = min(_WINDOW_SECONDS, max(metrics.now_seconds, 1.0))
        rate = metrics.arrivals(seen) / seen
        wanted = math.ceil(self._headroom * rate / self._capacity - 1e-9)
        return self._stabiliser.apply(metrics.now_seconds, metrics.replicas, wanted)


def _make(setup: Setup, headroom: float) -> Reactive:
    return Reactive(setup.load_test.requests_per_second, headroom)


SPEC = PolicySpec(
    "reactive",
    "observed demand times a headroom",
    _make,
    Knob("headroom", 1.25, (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)),
)
