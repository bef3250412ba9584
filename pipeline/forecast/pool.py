"""Aggregates experts per horizon on matured losses.

The weights are a mean of rules, as none wins everywhere: Bernstein online aggregation on the gradient of the absolute
loss, with a memory of two seasons (Wintenberger 2017, "Optimal learning with Bernstein online aggregation"), and two
exponentially weighted averages on discounted losses, of five hundred windows and of a hundred (Cesa-Bianchi and Lugosi
2006, *Prediction, Learning, and Games*); a fixed share of the weight is spread over all experts (Herbster and Warmuth
1998).

Experts that only stand in, such as a seasonal one before a season was seen, sleep (Freund et al. 1997, "Using and
combining predictors that specialize"). Losses are divided by a running mean of the last value's error, so that one set
of constants serves every scale. Feedback for a horizon of h windows arrives h windows later; only matured pairs are
learned from. An expert whose mean loss exceeds ten times the median expert's, or is near the bound of a loss, is
quarantined until it is below half of that; the last value never is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import which
from pipeline.forecast.experts.base import Expert

__all__ = ["ExpertPool"]

Singles = NDArray[np.float32]

# Bound of a regret and of a loss, in units of the last value's usual error: one burst must not decide for weeks.
_CLIP = 5.0
_RATE = 0.01
_MIN_MEMORY = 0.999
_LOSS_DECAY = 0.998
# Of the discounted loss, which is a sum, and of the mean loss.
_LOSS_RATES = 0.15, 7.0
#: How much each rule says: second order, discounted loss, mean loss.
_RULES: Singles = np.array([0.4, 0.45, 0.15], dtype=np.float32)[:, None, None]
_FIXED_SHARE = 0.01
# Mean loss over the median expert's, and mean loss itself, that send into quarantine; and that end it.
_QUARANTINE = 10.0, 0.8 * _CLIP
_REENTRY = 5.0, 0.5 * _CLIP
# Windows between two weighings where a day has at least so many; the shortest memory has a hundred. Else one.
_WEIGH_EVERY = (288, 4), (144, 2)
_YOUNG = 100.0
# The logarithm of how much more the last value is trusted than others before anything has matured, and how many labels
# it takes to forget that.
_COLD_TRUST, _COLD_WINDOWS = 3.0, 24.0
_SMALLEST = -60.0


def _decays(context: SeriesContext) -> Singles:
    """Of regret, its squares, discounted loss; the mean loss's is set with every label."""
    decay: Singles = np.empty((4, context.steps.size, 1), dtype=np.float32)
    decay[:2], decay[2] = max(_MIN_MEMORY, math.exp(-0.5 / context.season_steps)), _LOSS_DECAY
    return decay


def _weigh_every(context: SeriesContext) -> int:
    return next((every for least, every in _WEIGH_EVERY if context.season_steps >= least), 1)


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
        self._scale: Singles = np.zeros((shape[0], 1), dtype=np.float32)
        self._matured: Singles = np.zeros(shape[0], dtype=np.float32)
        # Regret, its squares, discounted loss, mean loss.
        self._sums: Singles = np.zeros((4, *shape), dtype=np.float32)
        self._decay = _decays(context)
        # The pool's own discounted loss.
        self._own: Singles = np.zeros((shape[0], 1), dtype=np.float32)
        self._largest: Singles = np.zeros(shape, dtype=np.float32)
        self._merit: Singles = np.ones(shape, dtype=np.float32)
        self._merit[:, 0] = math.exp(_COLD_TRUST)
        self._merit /= np.add.reduce(self._merit, axis=1, keepdims=True)
        self._weigh_every = _weigh_every(context)
        self._held = False
        self.quarantined: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self.weights: Floats = self._merit.astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """The weights of the newest forecast are made again by the next one; the rest follows from the context."""
        state = self.__dict__.copy()
        del state["weights"], state["_decay"], state["_weigh_every"], state["_held"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Until the next forecast, the weights are those of experts that are all awake."""
        self.__dict__.update(state)
        self._decay = _decays(self._context)
        self._weigh_every = _weigh_every(self._context)
        self._held = bool(self.quarantined.any())
        self.weights = self._merit.astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """The experts' names, in the order of ``weights``'s columns."""
        return tuple(expert.name for expert in self.experts)

    def learn(self, miss: Singles, apart: Singles, matured: NDArray[np.bool_]) -> None:
        """Judge the experts by the newest window.

        Args:
            miss: its value minus the pool's forecasts of it, ``(horizons, 1)``.
            apart: the experts' distances from these, as ``forecast`` gave them, ``(horizons, experts)``.
            matured: for which horizons they exist, ``(horizons,)``.
        """
        at = which(matured)
        apart, miss = apart[at], miss[at]
        error = np.abs(apart - miss)
        self._matured += matured
        # The mean of the first errors, then exponentially forgotten.
        rate = np.maximum(_RATE, 1.0 / np.maximum(self._matured[at], 1.0))[:, None]
        scale = self._scale[at]
        scale += rate * (error[:, :1] - scale)
        self._scale[at] = scale
        unit = np.maximum(scale, TINY + 1e-9 * self._context.last)
        new = np.empty((4, *error.shape), dtype=np.float32)
        np.multiply(apart, np.sign(miss) / unit, out=new[0])
        np.minimum(np.maximum(new[0], -_CLIP, out=new[0]), _CLIP, out=new[0])
        np.multiply(new[0], new[0], out=new[1])
        np.minimum(error / unit, _CLIP, out=new[2])
        np.multiply(new[2], rate, out=new[3])
        self._own[at] = _LOSS_DECAY * self._own[at] + np.minimum(np.abs(miss) / unit, _CLIP)
        self._largest[at] = np.maximum(self._decay[0, at] * self._largest[at], np.abs(new[0]))
        self._decay[3, at] = 1.0 - rate
        new += self._sums[:, at] * self._decay[:, at]
        self._sums[:, at] = new
        seen = float(self._matured[0])
        if seen < _YOUNG or seen % self._weigh_every == 0.0:
            self._reweigh()

    def regret(self) -> tuple[float | None, ...]:
        """Per horizon the pool's loss over that of its best expert, less one; discounted; None before any label."""
        best = self._sums[2].min(axis=1).tolist()
        return tuple(own / low - 1.0 if low > 0.0 else None for own, low in zip(self._own[:, 0], best, strict=True))

    def forecast(self) -> tuple[Floats, Floats, Floats]:
        """Aggregate what the experts say now.

        Returns:
            The aggregated forecasts and the weighted mean distance of the experts from them, both ``(horizons,)``; each
            expert's distance, ``(horizons, experts)``: zero for one that sleeps, who has neither merit nor blame.
        """
        ahead = np.array([expert.forecast() for expert in self.experts]).T
        if not np.isfinite(ahead).all():
            ahead = np.where(np.isfinite(ahead), ahead, self._context.last)
        awake = [expert.awake for expert in self.experts]
        weights = self._merit.astype(np.float64)
        if not all(awake):
            weights *= awake
        weights /= np.add.reduce(weights, axis=1, keepdims=True)
        self.weights = weights
        point = np.add.reduce(weights * ahead, axis=1)
        apart = ahead - point[:, None]
        spread = np.add.reduce(weights * np.abs(apart), axis=1)
        if not all(awake):
            apart *= awake
        return point, spread, apart

    def _reweigh(self) -> None:
        regret, squares, loss, level = self._sums
        count = len(self.experts)
        middle = count // 2
        typical = np.partition(level, middle, axis=1)[:, middle : middle + 1]
        bar = np.minimum(_QUARANTINE[0] * typical, _QUARANTINE[1])
        if self._held:
            bar = np.where(self.quarantined, np.minimum(_REENTRY[0] * typical, _REENTRY[1]), bar)
        self.quarantined = level > bar + 1e-6
        # The scale of all losses, and the one that never sleeps.
        self.quarantined[:, 0] = False
        self._held = bool(self.quarantined.any())
        # All rules at once.
        rate = np.sqrt(np.float32(math.log(count + 1)) / (squares + 1e-3))
        np.minimum(rate, 0.5 / np.maximum(self._largest, 0.5), out=rate)
        weights = np.empty((3, *rate.shape), dtype=np.float32)
        np.multiply(rate, regret - 0.5 * rate * squares, out=weights[0])
        np.multiply(loss, -_LOSS_RATES[0], out=weights[1])
        np.multiply(level, -_LOSS_RATES[1], out=weights[2])
        if self._matured[-1] < 8.0 * _COLD_WINDOWS:
            weights[:, :, 0] += _COLD_TRUST * np.exp(-self._matured / _COLD_WINDOWS)
        if self._held:
            weights[:, self.quarantined] = -np.inf
        weights -= np.maximum.reduce(weights, axis=2, keepdims=True)
        # Nothing is small enough to be a slow subnormal number.
        np.exp(np.maximum(weights, _SMALLEST, out=weights), out=weights)
        weights[0] *= rate
        share: float | Singles = _FIXED_SHARE / count
        if self._held:
            free = (~self.quarantined).astype(np.float32)
            weights *= free
            share = _FIXED_SHARE * free / free.sum(axis=1, keepdims=True)
        weights *= (_RULES * (1.0 - _FIXED_SHARE)) / np.add.reduce(weights, axis=2, keepdims=True)
        self._merit = np.add.reduce(weights, axis=0)
        self._merit += share
