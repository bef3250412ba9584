"""The Kubernetes Horizontal Pod Autoscaler on requests per pod, or on the use of the KV cache.

Source: Kubernetes documentation, Horizontal Pod Autoscaling: desired = ceil(current · metric / target); nothing is done
while the ratio is within the tolerance of 10 % of 1; pods that are not ready count as 0 when scaling up; sync period
15 s; stabilisation window 300 s down and 0 s up; up by at most max(100 %, 4 pods) per 15 s.
"""

from __future__ import annotations

import math
from functools import partial

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup, Stabiliser

__all__ = ["CONCURRENCY", "KV_USE", "Hpa", "desired_replicas"]

TOLERANCE = 0.1


def desired_replicas(replicas: int, ready: int, total: float, target: float) -> int:
    """Return ceil(replicas · metric / target) with the HPA's tolerance; ``total`` is the sum over the ready pods.

    >>> desired_replicas(4, 4, 44.0, 10.0)  # 1.10: within the tolerance
    4
    >>> desired_replicas(4, 4, 46.0, 10.0)
    5
    """
    if ready == 0 or replicas == 0:
        return max(replicas, math.ceil(total / target))
    ratio = total / ready / target
    if ratio > 1.0 and ready < replicas:
        ratio = total / replicas / target  # what is starting counts as 0
        if ratio <= 1.0:
            return replicas
    if abs(ratio - 1.0) <= TOLERANCE + 1e-12:
        return replicas
    return math.ceil(ratio * (replicas if ratio > 1.0 else ready) - 1e-9)


class Hpa:
    """``of_kv``: the target is a share of KV use, otherwise requests in flight per pod."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, target: float, *, of_kv: bool) -> None:
        self.target = target
        self._of_kv = of_kv
        self._stabiliser = Stabiliser()

    def decide(self, metrics: FleetMetrics) -> int:
        """Return what the HPA asks for now."""
        total = sum(load.kv_used_ratio for load in metrics.loads) if self._of_kv else float(metrics.in_flight)
        wanted = desired_replicas(metrics.replicas, metrics.ready, total, self.target)
        wanted = min(wanted, metrics.replicas + max(metrics.replicas, 4))
        return self._stabiliser.apply(metrics.now_seconds, metrics.replicas, wanted)


def _on_concurrency(setup: Setup, share: float) -> Hpa:
    return Hpa(max(share * setup.load_test.concurrency, 1e-6), of_kv=False)


#: 0.7: Knative's default target utilisation (config-autoscaler, container-concurrency-target-percentage), as the HPA
#: has no default for a custom metric.
CONCURRENCY = PolicySpec(
    "hpa-concurrency",
    "HPA on requests in flight per replica",
    _on_concurrency,
    Knob("share of the load test's concurrency", 0.7, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
)
#: 0.8: the KV use from which llm-d's saturation analyser counts a replica as saturated.
KV_USE = PolicySpec(
    "hpa-kv",
    "HPA on the use of the KV cache",
    partial(lambda _, target: Hpa(target, of_kv=True)),
    Knob("target KV use", 0.8, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
)
