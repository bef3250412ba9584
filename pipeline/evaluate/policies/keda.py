"""KEDA on a Prometheus query: requests that wait, or requests in the engines.

Source: llm-d/llm-d guides/workload-autoscaling/keda-epp/optimized-baseline (b0d6a79, f819765; 2026-08): AverageValue
triggers, running requests with threshold 16 and queue size with threshold 1 (Qwen3-32B); polling every 15 s; the
generated HPA goes up by 100 % per 15 s at once and down after 300 s. The HPA: desired = ceil(sum / threshold), within a
tolerance of 10 % of the present number nothing is done (Kubernetes, Horizontal Pod Autoscaling).
"""

from __future__ import annotations

import math

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup, Stabiliser
from pipeline.evaluate.policies.hpa import TOLERANCE

__all__ = ["QUEUE", "RUNNING", "Keda", "average_value_replicas"]


def average_value_replicas(replicas: int, total: float, threshold: float) -> int:
    """Return the HPA's answer to an AverageValue metric.

    >>> average_value_replicas(4, 100.0, 16.0)
    7
    >>> average_value_replicas(4, 70.0, 16.0)  # 4.4 of 4: within the tolerance
    4
    """
    if replicas and abs(total / (threshold * replicas) - 1.0) <= TOLERANCE + 1e-12:
        return replicas
    return math.ceil(total / threshold - 1e-9)


class Keda:
    """Replicas from running and from waiting requests by their thresholds, whichever asks for more; None: not asked."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, running_threshold: float | None, waiting_threshold: float | None) -> None:
        self._running_threshold, self._waiting_threshold = running_threshold, waiting_threshold
        self._stabiliser = Stabiliser()

    def decide(self, metrics: FleetMetrics) -> int:
        """Return what the generated HPA asks for now."""
        wanted = 0
        for total, threshold in (
            (metrics.running, self._running_threshold),
            (metrics.waiting, self._waiting_threshold),
        ):
            if threshold is not None:
                wanted = max(wanted, average_value_replicas(metrics.replicas, total, threshold))
        wanted = min(wanted, max(2 * metrics.replicas, 1))
        return self._stabiliser.apply(metrics.now_seconds, metrics.replicas, wanted)


def _on_running(_: Setup, threshold: float) -> Keda:
    return Keda(threshold, None)


def _on_queue(_: Setup, threshold: float) -> Keda:
    return Keda(None, threshold)


RUNNING = PolicySpec(
    "keda-running",
    "KEDA on running requests",
    _on_running,
    Knob("running requests per replica", 16.0, (8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0)),
)
QUEUE = PolicySpec(
    "keda-queue",
    "KEDA on waiting requests",
    _on_queue,
    Knob("waiting requests per replica", 1.0, (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)),
)
