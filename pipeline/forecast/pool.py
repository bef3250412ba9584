"""Aggregates experts per horizon on matured losses.

The weights are the mean of two rules, as neither wins everywhere: Bernstein online aggregation on the gradient of the
absolute loss, with a memory of two seasons (Wintenberger 2017, "Optimal learning with Bernstein online aggregation"),
and the exponentially weighted average on a shorter discounted loss (Cesa-Bianchi and Lugosi 2006, *Prediction,
Learning, and Games*); a fixed share of the weight is spread over all experts (Herbster and Warmuth 1998).

Experts that only stand in, such as a seasonal one before a season was seen, sleep (Freund et al. 1997, "Using and
combining predictors that specialize"). Losses are divided by a running mean of the last value's error, so that one set
of constants serves every scale. Feedback for a horizon of h windows arrives h windows later; only matured pairs are
learned from. An expert whose mean loss exceeds ten times the median expert's is quarantined until it is below five
times.
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
_RATE = 0.01
_MIN_MEMORY = 0.999
_LOSS_MEMORY = 0.998
_LOSS_RATE = 0.15
_FIXED_SHARE = 0.01
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
        self._memory = max(_MIN_MEMORY, math.exp(-0.5 / context.season_steps))
        self._scale: Floats = np.zeros(shape[0])
        self._regret: Floats = np.zeros(shape)
        self._variance: Floats = np.zeros(shape)
        self._largest: Floats = np.zeros(shape)
        self._loss: Floats = np.zeros(shape)
        self._level: Floats = np.zeros(shape)
        self._matured = np.zeros(shape[0], dtype=np.int64)
        self._merit: Floats = np.full(shape, 1.0 / len(experts))
        self.quarantined: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self.weights: Floats = self._merit

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
        awake = np.array([expert.awake for expert in self.experts])
        weights = self._merit * awake
        self.weights = weights / weights.sum(axis=1, keepdims=True)
        point = (self.weights * ahead).sum(axis=1)
        apart = ahead - point[:, None]
        spread = (self.weights * np.abs(apart)).sum(axis=1)
        if y is not None:
            row = np.empty((point.size, awake.size + 1))
            row[:, :-1] = np.where(awake, ahead, np.nan)
            row[:, -1] = point
            self._ring.put(context.index, row)
        return point, spread

    def _learn(self, index: int, y: float) -> None:
        issued, matured = self._ring.take(index)
        if not matured.any():
            return
        point = issued[:, -1:]
        # An expert that slept is booked as if it had said what the pool said: no regret either way.
        ahead = np.where(np.isnan(issued[:, :-1]), point, issued[:, :-1])
        error = np.abs(ahead - y)
        self._matured += matured
        live = matured[:, None]
        # The mean of the first errors, then exponentially forgotten.
        rate = np.maximum(_RATE, 1.0 / np.maximum(self._matured, 1)) * matured
        self._scale += rate * (error[:, 0] - self._scale)
        scale = np.maximum(self._scale, TINY + 1e-9 * y)[:, None]
        loss = np.minimum(error / scale, _CLIP)
        self._level += rate[:, None] * (loss - self._level)
        regret = (point - ahead) / scale * np.sign(point - y)
        regret = np.minimum(np.maximum(regret, -_CLIP), _CLIP) * live
        memory = np.where(live, self._memory, 1.0)
        self._regret = memory * self._regret + regret
        self._variance = memory * self._variance + regret * regret
        self._largest = np.maximum(memory * self._largest, np.abs(regret))
        self._loss = np.where(live, _LOSS_MEMORY * self._loss + loss, self._loss)
        self._reweigh()

    def _reweigh(self) -> None:
        count = len(self.experts)
        rate = np.minimum(0.5 / np.maximum(self._largest, 0.5), np.sqrt(math.log(count + 1) / (self._variance + 1e-3)))
        exponent = rate * (self._regret - 0.5 * rate * self._variance)
        second_order = rate * _from_best(exponent)
        exponential = _from_best(-_LOSS_RATE * self._loss)
        typical = np.sort(self._level, axis=1)[:, count // 2 : count // 2 + 1]
        self.quarantined = self._level > np.where(self.quarantined, _REENTRY, _QUARANTINE) * typical + 1e-6
        free = np.where(self.quarantined, 0.0, 1.0)
        second_order = _normalised(second_order * free)
        exponential = _normalised(exponential * free)
        self._merit = 0.5 * (1.0 - _FIXED_SHARE) * (second_order + exponential) + _FIXED_SHARE * _normalised(free)


def _from_best(exponent: Floats) -> Floats:
    """exp(exponent) over its row's largest; nothing is small enough to be a slow subnormal number."""
    return np.asarray(np.exp(np.maximum(exponent - exponent.max(axis=1, keepdims=True), -80.0)))


def _normalised(weights: Floats) -> Floats:
    """Rows that add up to 1; a row of zeros stays one."""
    return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300))
