"""Aggregates experts per horizon on matured losses.

Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online aggregation") on the gradient of
the absolute loss, with a fixed share of the weight spread over all experts (Herbster and Warmuth 1998). Losses are divided
by a running mean of the last value's error, so that one set of constants serves every scale. Feedback for a horizon of h
windows arrives h windows later; only matured pairs are learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.experts.base import Expert

__all__ = ["ExpertPool"]

_CLIP = 20.0
_SCALE_RATE = 0.01
_LOSS_RATE = 0.01
_FIXED_SHARE = 0.01
_MEMORY = 0.999
_QUARANTINE = 10.0
_REENTRY = 5.0


class ExpertPool:
    """A weighted mean of experts per horizon.

    Args:
        context: the series.
        experts: at least one; the first is the last value.

    Raises:
        ValueError: no experts, or two of one name.
    """

    def __init__(self, context: SeriesContext, experts: Sequence[Expert]) -> None:
        names = [expert.name for expert in experts]
        if not experts or len(set(names)) != len(names):
            raise ValueError(f"a pool needs experts of distinct names, not {names}")
        self.experts = tuple(experts)
        self._context = context
        shape = (context.steps.size, len(experts))
        self._ring = DelayRing(context.steps, len(experts) + 1)
        self._scale: Floats = np.zeros(shape[0])
        self._regret: Floats = np.zeros(shape)
        self._variance: Floats = np.zeros(shape)
        self._largest: Floats = np.zeros(shape)
        self._loss: Floats = np.zeros(shape)
        self._matured = np.zeros(shape[0], dtype=np.int64)
        self.quarantined: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self.weights: Floats = np.full(shape, 1.0 / len(experts))

    @property
    def names(self) -> tuple[str, ...]:
        """The experts' names, in the order of ``weights``'s columns."""
        return tuple(expert.name for expert in self.experts)

    def step(self, y: float | None) -> tuple[Floats, Floats]:
        """Learn the window that the context took last, then forecast.

        Returns:
            The aggregated forecasts and the weighted mean distance of the experts from them, both ``(horizons,)``.
        """
        context = self._context
        for expert in self.experts:
            expert.learn_one(y)
        if y is not None:
            self._learn(context.index, y)
        ahead = np.array([expert.forecast() for expert in self.experts]).T
        ahead = np.where(np.isfinite(ahead), ahead, context.last)
        point = (self.weights * ahead).sum(axis=1)
        spread = (self.weights * np.abs(ahead - point[:, None])).sum(axis=1)
        if y is not None:
            self._ring.put(context.index, np.concatenate((ahead, point[:, None]), axis=1))
        return point, spread

    def _learn(self, index: int, y: float) -> None:
        issued, matured = self._ring.take(index)
        if not matured.any():
            return
        ahead, point = issued[:, :-1], issued[:, -1:]
        error = np.abs(ahead - y)
        self._matured += matured
        # The mean of the first errors, then exponentially forgotten.
        rate = np.where(matured, np.maximum(_SCALE_RATE, 1.0 / np.maximum(self._matured, 1)), 0.0)
        self._scale += rate * (error[:, 0] - self._scale)
        scale = np.maximum(self._scale, TINY + 1e-9 * abs(y))[:, None]
        live = matured[:, None]
        loss = np.minimum(error / scale, _CLIP)
        loss_rate = np.where(matured, np.maximum(_LOSS_RATE, 1.0 / np.maximum(self._matured, 1)), 0.0)[:, None]
        self._loss += loss_rate * (loss - self._loss)
        regret = np.clip(np.sign(point - y) * (point - ahead) / scale, -_CLIP, _CLIP) * live
        memory = np.where(live, _MEMORY, 1.0)
        self._regret = memory * self._regret + regret
        self._variance = memory * self._variance + regret * regret
        self._largest = np.maximum(memory * self._largest, np.abs(regret))
        self._reweigh()

    def _reweigh(self) -> None:
        count = len(self.experts)
        rate = np.minimum(
            0.5 / np.maximum(self._largest, 1e-3), np.sqrt(math.log(count + 1) / np.maximum(self._variance, 1e-3))
        )
        exponent = rate * self._regret - rate * rate * self._variance / 2.0
        weights = rate * np.exp(exponent - exponent.max(axis=1, keepdims=True))
        typical = np.partition(self._loss, count // 2, axis=1)[:, count // 2 : count // 2 + 1]
        limit = np.where(self.quarantined, _REENTRY, _QUARANTINE) * typical
        self.quarantined = self._loss > limit + 1e-6
        weights[self.quarantined] = 0.0
        total = weights.sum(axis=1, keepdims=True)
        weights = np.where(total > 0.0, weights / np.maximum(total, TINY), 1.0 / count)
        share = np.where(self.quarantined, 0.0, 1.0)
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1.0)
        self.weights = (1.0 - _FIXED_SHARE) * weights + _FIXED_SHARE * share
