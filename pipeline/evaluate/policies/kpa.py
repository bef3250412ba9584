"""The Knative Pod Autoscaler as AIBrix has it, on requests in flight.

Source: vllm-project/aibrix pkg/controller/podautoscaler/algorithm/kpa.go (2dbf782): replicas = ceil(mean over the
window / target), by the stable window and by the panic window; panic begins when the panic window asks for at least the
threshold times what is ready, lasts a stable window longer, and never goes down; between two decisions by at most the
greatest rates up and down. Knative's defaults: windows 60 s and 6 s, threshold 200 %, target utilisation 70 %, rates
1,000 up and 2 down, a decision every 2 s. AIBrix's cooldown after the last need: 300 s down (docs, autoscaling).
"""

from __future__ import annotations

import math
from collections import deque

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup, Stabiliser

__all__ = ["SPEC", "Kpa"]

_STABLE_SECONDS, _PANIC_SECONDS = 60.0, 6.0
_PANIC_THRESHOLD = 2.0
_MAX_UP_RATE, _MAX_DOWN_RATE = 1_000.0, 2.0
_DOWN_DELAY_SECONDS = 300.0


class Kpa:
    """``target``: requests in flight per replica."""

    interval_seconds = 2.0
    initial_replicas = None

    def __init__(self, target: float) -> None:
        self.target = target
        self._samples: deque[tuple[float, float]] = deque()
        self._panic_until = -math.inf
        self._panic_replicas = 0
        self._stabiliser = Stabiliser(down_seconds=_DOWN_DELAY_SECONDS)

    def decide(self, metrics: FleetMetrics) -> int:
        """Return what the two windows ask for now."""
        now = metrics.now_seconds
        self._samples.append((now, float(metrics.in_flight)))
        while self._samples[0][0] <= now - _STABLE_SECONDS:
            self._samples.popleft()
        wanted = self.replicas(metrics.ready, now)
        return self._stabiliser.apply(now, metrics.replicas, wanted)

    def replicas(self, ready: int, now: float) -> int:
        """Return the replicas by the samples so far."""
        stable, panic = (
            math.ceil(self._mean(now - seconds) / self.target) for seconds in (_STABLE_SECONDS, _PANIC_SECONDS)
        )
        most, least = max(1.0, math.ceil(_MAX_UP_RATE * ready)), math.floor(ready / _MAX_DOWN_RATE)
        wanted, in_panic = (int(min(max(value, least), most)) for value in (stable, panic))
        if panic / max(1, ready) >= _PANIC_THRESHOLD:
            if now >= self._panic_until:
                self._panic_replicas = ready
            self._panic_until = now + _STABLE_SECONDS
        if now < self._panic_until:
            self._panic_replicas = max(self._panic_replicas, wanted, in_panic)
            return self._panic_replicas
        return wanted

    def _mean(self, since: float) -> float:
        values = [value for at, value in self._samples if at > since]
        return math.fsum(values) / len(values)


def _make(setup: Setup, share: float) -> Kpa:
    return Kpa(max(share * setup.load_test.concurrency, 1e-6))


SPEC = PolicySpec(
    "kpa",
    "Knative KPA as AIBrix has it",
    _make,
    Knob("share of the load test's concurrency", 0.7, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
)
