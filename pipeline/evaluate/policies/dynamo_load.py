"""NVIDIA Dynamo's planner, load mode, for engines that prefill and decode together.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/load_scaling.py (0c6da1e), every 5 s: the next TTFT and ITL
of each engine are estimated (``dynamo_engine``). One replica more when every engine is above one objective; one less
when, with queue and KV scaled by N / (N - 1), every engine would keep its queueing within 80 % of what the objective
leaves over an empty queue, its ITL within 80 % of the objective, and its KV within the cache. Nothing while replicas
are starting.
"""

from __future__ import annotations

import math

from pipeline.evaluate.metrics import FleetMetrics, ReplicaLoad
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup
from pipeline.evaluate.policies.dynamo_engine import DynamoEngine
from sizing.types import Slo

__all__ = ["SPEC", "DynamoLoad"]

_LENGTHS_SECONDS = 180.0


class DynamoLoad:
    """``sensitivity``: the share of an objective below which it goes down; the planner's own value is 0.8."""

    interval_seconds = 5.0
    initial_replicas = None

    def __init__(self, engine: DynamoEngine, slo: Slo, sensitivity: float) -> None:
        self._engine, self._sensitivity = engine, sensitivity
        self._ttft, self._itl = slo.ttft_seconds or math.inf, slo.tpot_seconds or math.inf
        self._inputs = self._outputs = 0.0

    def decide(self, metrics: FleetMetrics) -> int:
        """Return one replica more or less, or what there is."""
        self._inputs = metrics.input_tokens(_LENGTHS_SECONDS) or self._inputs
        self._outputs = metrics.output_tokens(_LENGTHS_SECONDS) or self._outputs
        if metrics.ready < metrics.replicas or not metrics.ready or not self._inputs or not self._outputs:
            return metrics.replicas
        return metrics.replicas + self.step(metrics.loads)

    def step(self, loads: tuple[ReplicaLoad, ...]) -> int:
        """Return +1, 0 or -1 replicas by the loads of all engines."""
        if all(self._ttft_of(load) > self._ttft for load in loads):
            return 1
        if all(self._itl_of(load) > self._itl for load in loads):
            return 1
        if len(loads) < 2:
            return 0
        more = len(loads) / (len(loads) - 1)
        return -1 if all(self._carries(load, more) for load in loads) else 0

    def _ttft_of(self, load: ReplicaLoad, more: float = 1.0, *, queued: bool = True) -> float:
        tokens = more * load.queued_prompt_tokens if queued else 0.0
        return self._engine.next_ttft_seconds(tokens, self._inputs, more * load.running, more * load.context_tokens)

    def _itl_of(self, load: ReplicaLoad) -> float:
        return self._engine.next_itl_seconds(load.running, load.context_tokens, self._inputs, self._outputs)

    def _carries(self, load: ReplicaLoad, more: float) -> bool:
        """Whether an engine may take its share of the one that goes."""
        own = self._ttft_of(load, more, queued=False)
        budget = (self._ttft - own) * self._sensitivity
        if budget <= 0 or self._ttft_of(load, more) - own >= budget:
            return False
        kv = more * (load.context_tokens + load.queued_prompt_tokens)
        if kv >= self._engine.kv_tokens:
            return False
        itl = self._engine.next_itl_seconds(more * load.running, kv, self._inputs, self._outputs)
        return itl < self._itl * self._sensitivity


def _make(setup: Setup, sensitivity: float) -> DynamoLoad:
    return DynamoLoad(DynamoEngine.of(setup), setup.pool.slo(), sensitivity)


SPEC = PolicySpec(
    "dynamo-load",
    "Dynamo load planner",
    _make,
    Knob("share of the objectives below which it goes down", 0.8, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)),
)
