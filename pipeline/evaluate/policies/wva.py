"""llm-d's workload variant autoscaler, saturation analyser, with one variant.

Source: llm-d/llm-d-workload-variant-autoscaler docs/saturation-analyzer.md (14bed5d): a replica is saturated from KV
use 0.80 or 5 waiting requests, as the greatest of the last minute; one replica more when those that are not saturated
have on average less than 0.1 KV use or 3 requests to spare; one less when N - 1 of them would still have that much;
nothing while a replica is starting; a decision about every 60 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup

__all__ = ["SPEC", "Wva", "saturation_step"]

_KV_LIMIT, _QUEUE_LIMIT = 0.80, 5.0
_QUEUE_SPARE = 3.0
_DECIDED_EVERY_SECONDS = 60.0


def saturation_step(kv_used: Sequence[float], waiting: Sequence[float], kv_spare: float) -> int:
    """Return +1, 0 or -1 replicas by the loads of the ready replicas.

    >>> saturation_step([0.75, 0.78], [0, 0], 0.1)
    1
    >>> saturation_step([0.3, 0.3], [0, 0], 0.1)
    -1
    >>> saturation_step([0.5, 0.5], [0, 0], 0.1)
    0
    """
    free = [(kv, queue) for kv, queue in zip(kv_used, waiting, strict=True) if kv < _KV_LIMIT and queue < _QUEUE_LIMIT]
    if not free:
        return 1 if kv_used else 0
    count = len(free)
    kv, queue = sum(load[0] for load in free), sum(load[1] for load in free)
    if _KV_LIMIT - kv / count < kv_spare or _QUEUE_LIMIT - queue / count < _QUEUE_SPARE:
        return 1
    if count < 2:
        return 0
    rest = count - 1
    return -1 if _KV_LIMIT - kv / rest >= kv_spare and _QUEUE_LIMIT - queue / rest >= _QUEUE_SPARE else 0


class Wva:
    """Peaks of the last minute, by samples every 15 s."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, kv_spare: float) -> None:
        self._kv_spare = kv_spare
        self._samples: deque[tuple[tuple[float, float], ...]] = deque(maxlen=4)
        self._next_seconds = 0.0

    def decide(self, metrics: FleetMetrics) -> int:
        """Return one replica more or less, or what there is."""
        self._samples.append(tuple((load.kv_used_ratio, float(load.waiting)) for load in metrics.loads))
        if metrics.now_seconds < self._next_seconds:
            return metrics.replicas
        self._next_seconds = metrics.now_seconds + _DECIDED_EVERY_SECONDS
        if metrics.ready < metrics.replicas:
            return metrics.replicas
        seen = [sample for sample in self._samples if len(sample) == metrics.ready]
        kv, queue = ([max(sample[i][part] for sample in seen) for i in range(metrics.ready)] for part in (0, 1))
        return metrics.replicas + saturation_step(kv, queue, self._kv_spare)


def _make(_: Setup, kv_spare: float) -> Wva:
    return Wva(kv_spare)


SPEC = PolicySpec(
    "wva-saturation",
    "llm-d WVA, saturation analyser",
    _make,
    Knob("KV use to spare", 0.1, (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
)
