"""Observed demand as ``reactive`` has it, and replicas that are held warm, with their weights loaded.

A warm replica holds its GPUs and is paid for like any other. What it saves is the time that provisioning and the
loading of weights take; one that takes requests right away would save the warm-up, too, and cost the same, unless
several models share the warm places.
"""

from __future__ import annotations

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies import reactive
from pipeline.evaluate.policies.base import START_UP_PARTS, Knob, PolicySpec, Setup

__all__ = ["SPEC", "WarmPool"]


class WarmPool:
    """The ``reactive`` rule with ``warm_replicas`` beside what it wants."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, setup: Setup, warm_replicas: float) -> None:
        self.warm_replicas = round(warm_replicas)
        self._rule = reactive.SPEC.policy(setup)

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas for the rate of the last minute."""
        return self._rule.decide(metrics)


SPEC = PolicySpec(
    "warm-pool",
    "observed demand, and replicas held warm",
    WarmPool,
    Knob("warm replicas", 1.0, (0.0, 1.0, 2.0, 3.0, 4.0)),
    needs=START_UP_PARTS,
    beside=reactive.SPEC.name,
)
