"""A fixed fleet, with hindsight: sized for the busiest minute of the trace, or for its mean."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup

__all__ = ["MEAN", "PEAK", "Static"]

_BIN_SECONDS = 60.0


class Static:
    """``replicas`` from beginning to end."""

    interval_seconds = 3_600.0

    def __init__(self, replicas: int) -> None:
        self.initial_replicas: int | None = replicas

    def decide(self, metrics: FleetMetrics) -> int:  # noqa: ARG002
        """Return what there is."""
        assert self.initial_replicas is not None
        return self.initial_replicas


def _sized(setup: Setup, headroom: float, *, peak: bool) -> Static:
    """Return ceil(headroom · requests per second / what one replica carries by the load test)."""
    bins = max(math.ceil(setup.end_seconds / _BIN_SECONDS), 1)
    counts = np.bincount((setup.requests.arrival_seconds // _BIN_SECONDS).astype(np.int64), minlength=bins)
    rate = counts.max() / _BIN_SECONDS if peak else len(setup.requests) / max(setup.end_seconds, 1.0)
    return Static(setup.limited(math.ceil(headroom * float(rate) / setup.load_test.requests_per_second)))


_KNOB = Knob("headroom", 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5))
PEAK = PolicySpec("static-peak", "fixed at the trace's peak", partial(_sized, peak=True), _KNOB)
MEAN = PolicySpec("static-mean", "fixed at the trace's mean", partial(_sized, peak=False), _KNOB)
