"""NVIDIA Dynamo's planner, throughput mode, with its constant and its Kalman predictor.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/throughput_scaling.py (0c9050c) and load/predictors.py
(260b6ae): every 180 s the number of requests and the mean lengths of the next interval are predicted, replicas =
ceil(requests per second / engine rate), the rate by ``dynamo_engine``; at most 8 replicas per step. Kalman: local
linear trend with q_level 1, q_trend 0.1, r 10, first covariance 1,000 (docs, planner). Its ARIMA and Prophet predictors
need libraries that this project does not have.
"""

from __future__ import annotations

import math
from functools import partial

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup
from pipeline.evaluate.policies.dynamo_engine import DynamoEngine
from sizing.types import Slo

__all__ = ["CONSTANT", "KALMAN", "DynamoThroughput", "KalmanTrend"]

_INTERVAL_SECONDS = 180.0
_MOST_PER_STEP = 8


class KalmanTrend:
    """One-step-ahead predictions of a local linear trend: level += trend, both with noise, the level is observed."""

    def __init__(self, q_level: float = 1.0, q_trend: float = 0.1, r: float = 10.0) -> None:
        self._q_level, self._q_trend, self._r = q_level, q_trend, r
        self._level: float | None = None
        self._trend = 0.0
        self._p = (1_000.0, 0.0, 1_000.0)  # covariance: level, both, trend

    def next(self, value: float) -> float:
        """Learn a value and return the prediction of the next one."""
        if self._level is None:
            self._level = value
        else:
            ll, lt, tt = self._p
            gain = (ll / (ll + self._r), lt / (ll + self._r))
            error = value - self._level
            self._level += gain[0] * error
            self._trend += gain[1] * error
            self._p = ((1 - gain[0]) * ll, (1 - gain[0]) * lt, tt - gain[1] * lt)
        ll, lt, tt = self._p
        self._level += self._trend
        self._p = (ll + 2 * lt + tt + self._q_level, lt + tt, tt + self._q_trend)
        return self._level


class _Constant:
    def next(self, value: float) -> float:
        return value


class DynamoThroughput:
    """``margin`` multiplies the predicted requests; the planner's own value is 1."""

    interval_seconds = _INTERVAL_SECONDS
    initial_replicas = None

    def __init__(self, engine: DynamoEngine, slo: Slo, margin: float, *, kalman: bool) -> None:
        self._engine, self._slo, self._margin = engine, slo, margin
        self._requests, self._inputs, self._outputs = (KalmanTrend() if kalman else _Constant() for _ in range(3))

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas for what is predicted of the next interval."""
        inputs, outputs = (tokens(_INTERVAL_SECONDS) for tokens in (metrics.input_tokens, metrics.output_tokens))
        if inputs is None or outputs is None:
            return metrics.replicas  # no traffic data: skipped
        requests = self._requests.next(float(metrics.arrivals(_INTERVAL_SECONDS)))
        isl, osl = self._inputs.next(inputs), self._outputs.next(outputs)
        if isl <= 0 or osl <= 0:
            return metrics.replicas
        rate = self._engine.best_requests_per_second(isl, osl, self._slo.ttft_seconds, self._slo.tpot_seconds)
        wanted = max(math.ceil(self._margin * requests / _INTERVAL_SECONDS / rate - 1e-9), 1)
        return max(min(wanted, metrics.replicas + _MOST_PER_STEP), metrics.replicas - _MOST_PER_STEP)


def _make(setup: Setup, margin: float, *, kalman: bool) -> DynamoThroughput:
    return DynamoThroughput(DynamoEngine.of(setup), setup.pool.slo(), margin, kalman=kalman)


_KNOB = Knob("margin on the predicted requests", 1.0, (0.8, 1.0, 1.2, 1.5, 1.75, 2.0, 2.5))
CONSTANT = PolicySpec("dynamo-constant", "Dynamo throughput planner, constant", partial(_make, kalman=False), _KNOB)
KALMAN = PolicySpec("dynamo-kalman", "Dynamo throughput planner, Kalman", partial(_make, kalman=True), _KNOB)
