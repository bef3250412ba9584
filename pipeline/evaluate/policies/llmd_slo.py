"""llm-d's SLO-aware autoscaling with KEDA, on the measured latencies.

Source: llm-d/llm-d guides/workload-autoscaling/README.slo-aware.md (d38c9f0). Signal, every 15 s: the greater of P90
TTFT and P90 TPOT of the last minute over their objectives, no traffic is 0, at most 2, mean of 45 s. With s the signal,
n the replicas, r the ready ones and c = r / n while some are starting (else 1): s > 0.55: n + ceil(n (s c / 0.55 - 1));
s < 0.40: n - floor(n (1 - s / 0.40)); else n. HPA: up by at most max(100 %, 4) per 60 s after the least wish of 30 s,
down by 1 per 120 s to the greatest wish of 180 s. The guide takes predicted latencies where a predictor runs, and the
measured ones otherwise: "either source drives the same loop"; the predicted ones react earlier.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup, Stabiliser
from sizing.types import Slo

__all__ = ["SPEC", "LlmdSlo", "wished_replicas"]

_UP, _DOWN = 0.55, 0.40
_CLAMP = 2.0
_QUANTILE, _WINDOW_SECONDS = 0.9, 60.0
_SAMPLES = 3  # of 15 s: 45 s
_DOWN_EVERY_SECONDS, _UP_EVERY_SECONDS = 120.0, 60.0


def wished_replicas(signal: float, replicas: int, ready: int, up: float = _UP) -> int:
    """Return the formula's answer; ``up`` is the threshold upwards, that downwards is 0.40 / 0.55 of it.

    >>> wished_replicas(1.1, 4, 4), wished_replicas(1.1, 8, 4), wished_replicas(0.5, 4, 4), wished_replicas(0.1, 4, 4)
    (8, 8, 4, 1)
    """
    down = up * _DOWN / _UP
    if signal > up:
        credit = ready / replicas if 0 < ready < replicas else 1.0
        return replicas + math.ceil(replicas * (signal * credit / up - 1.0) - 1e-9)
    if signal < down:
        return replicas - math.floor(replicas * (1.0 - signal / down) + 1e-9)
    return replicas


class LlmdSlo:
    """``up``: the signal from which it scales up."""

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, slo: Slo, up: float) -> None:
        self._slo = slo
        self._up = up
        self._signals: deque[float] = deque(maxlen=_SAMPLES)
        self._stabiliser = Stabiliser(down_seconds=180.0, up_seconds=30.0)
        self._last_up = self._last_down = -math.inf

    def decide(self, metrics: FleetMetrics) -> int:
        """Return what the generated HPA asks for now."""
        ratios = (
            _ratio(metrics.ttft_seconds(_WINDOW_SECONDS), self._slo.ttft_seconds),
            _ratio(metrics.tpot_seconds(_WINDOW_SECONDS), self._slo.tpot_seconds),
        )
        self._signals.append(min(max(ratios), _CLAMP))
        signal = math.fsum(self._signals) / len(self._signals)
        now, replicas = metrics.now_seconds, metrics.replicas
        wish = wished_replicas(signal, replicas, metrics.ready, self._up)
        wanted = self._stabiliser.apply(now, replicas, wish)
        if wanted > replicas:
            if now - self._last_up < _UP_EVERY_SECONDS:
                return replicas
            self._last_up = now
            return min(wanted, replicas + max(replicas, 4))
        if wanted < replicas:
            if now - self._last_down < _DOWN_EVERY_SECONDS:
                return replicas
            self._last_down = now
            return replicas - 1
        return replicas


def _ratio(seconds: NDArray[np.float64], objective: float | None) -> float:
    if objective is None or not seconds.size:
        return 0.0
    return float(np.quantile(seconds, _QUANTILE)) / objective


def _make(setup: Setup, up: float) -> LlmdSlo:
    return LlmdSlo(setup.pool.slo(), up)


SPEC = PolicySpec(
    "llmd-slo",
    "llm-d SLO-aware, P90 TTFT and TPOT",
    _make,
    Knob("signal from which it goes up", _UP, (0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)),
)
