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

from pipeline.forecast.context import TINY, Floats
from pipeline.forecast.delay import which
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.least_squares import LeastSquares
from pipeline.forecast.series_rows import SeriesRows
from pipeline.forecast.weighed_rows import Rows, Singles

__all__ = ["ExpertPool", "ExpertWeights", "Singles"]

# Bound of a regret and of a loss, in units of the last value's usual error: one burst must not decide for weeks.
_CLIP = 5.0
_RATE = 0.01
#: The rate of the means once a row has 1 / ``_RATE`` labels.
_LAST_RATE: Singles = np.full((1, 1), _RATE, dtype=np.float32)
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
#: What ``ExpertWeights`` keeps of every row, but for its sums.
_BY_ROW = "_scale", "_matured", "_own", "_largest", "_merit", "quarantined"


def _decays(rows: Rows) -> Singles:
    """Of regret, its squares, discounted loss; the mean loss's is set with every label of a row that has few."""
    decay: Singles = np.empty((4, rows.steps.size, 1), dtype=np.float32)
    decay[:2], decay[2] = max(_MIN_MEMORY, math.exp(-0.5 / rows.season_steps)), _LOSS_DECAY
    decay[3] = 1.0 - _LAST_RATE
    return decay


def _weigh_every(rows: Rows) -> int:
    return next((every for least, every in _WEIGH_EVERY if rows.season_steps >= least), 1)


class ExpertWeights:
    """Weights of experts per horizon of several series, which are the rows of all arrays.

    Args:
        rows: the series.
        count: how many experts each series has. The first one is the scale of all losses and never quarantined.
        level: of the quantile that is wanted: being below costs ``level``, being above 1 − ``level`` (the pinball
            loss). None: the median, by the absolute loss.
        trust: labels after which the first expert is trusted no more than what it has earned, times e.
        clip: bound of a regret and of a loss, in units of the first expert's usual error.
    """

    def __init__(
        self, rows: Rows, count: int, *, level: float | None = None, clip: float = _CLIP, trust: float = _COLD_WINDOWS
    ) -> None:
        self._rows = rows
        self._each = count
        self._level: float | Floats | None = level  # of joined ones that want different quantiles, by row
        self._clip, self._trust = clip, trust
        shape = (rows.steps.size, self._each)
        self._scale: Singles = np.zeros((shape[0], 1), dtype=np.float32)
        self._matured: Singles = np.zeros(shape[0], dtype=np.float32)
        # Regret, its squares, discounted loss, mean loss.
        self._sums: Singles = np.zeros((4, *shape), dtype=np.float32)
        self._decay = _decays(rows)
        # The pool's own discounted loss.
        self._own: Singles = np.zeros((shape[0], 1), dtype=np.float32)
        self._largest: Singles = np.zeros(shape, dtype=np.float32)
        self._merit: Singles = np.ones(shape, dtype=np.float32)
        self._merit[:, 0] = math.exp(_COLD_TRUST)
        self._merit /= np.add.reduce(self._merit, axis=1, keepdims=True)
        self._weigh_every = _weigh_every(rows)
        self._held = False
        self._settled = False
        # Of whom ``weights`` are, by what was awake; None: they are to be made anew.
        self._weighed: bytes | None = None
        self.quarantined: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self.weights: Floats = self._merit.astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """The weights of the newest forecast are made again by the next one; the rest follows from the context."""
        state = self.__dict__.copy()
        for name in ("weights", "_weighed", "_decay", "_weigh_every", "_held", "_settled"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Until the next forecast, the weights are those of experts that are all awake."""
        self.__dict__.update(state)
        self._decay = _decays(self._rows)
        self._weigh_every = _weigh_every(self._rows)
        self._held = bool(self.quarantined.any())
        self._settled = self._is_settled()
        self._weighed = None
        self.weights = self._merit.astype(np.float64)

    @property
    def season_steps(self) -> int:
        """Windows per season."""
        return self._rows.season_steps

    @classmethod
    def joined(cls, members: Sequence[ExpertWeights], rows: Rows) -> ExpertWeights:
        """The weights of several, with the same season and number of experts, as those of all their series.

        What they learn goes back by ``give``. Of each member it is, bit for bit, what it would have learned alone.

        Args:
            members: at least one.
            rows: the series of all members, in this order.
        """
        whole = cls.asked(members, rows)
        whole._decay, whole._weigh_every = _decays(rows), _weigh_every(rows)
        for name in _BY_ROW:
            setattr(whole, name, np.concatenate([getattr(member, name) for member in members]))
        whole._sums = np.concatenate([member._sums for member in members], axis=1)
        whole._held = any(member._held for member in members)
        whole._settled = all(member._settled for member in members)
        return whole

    @classmethod
    def asked(cls, members: Sequence[ExpertWeights], rows: Rows) -> ExpertWeights:
        """The same, of which only ``combine`` may be asked: half of the copying is for what is learned."""
        first = members[0]
        whole = ExpertWeights.__new__(ExpertWeights)
        whole._rows, whole._each = rows, first._each
        whole._level, whole._clip, whole._trust = first._level, first._clip, first._trust
        if any(member._level != first._level for member in members):
            levels = [member._level for member in members]
            whole._level = np.array(levels, dtype=np.float64).repeat([len(m.quarantined) for m in members])[:, None]
        whole._merit = np.concatenate([member._merit for member in members])
        whole._weighed = None
        return whole

    def give(self, members: Sequence[ExpertWeights]) -> None:
        """Give the ``members`` that were ``joined`` what was learned since, each its part."""
        if len(members) == 1 and members[0] is self:
            return
        end = 0
        for member in members:
            at = slice(end, end := end + len(member.quarantined))
            for name in _BY_ROW:
                np.copyto(getattr(member, name), getattr(self, name)[at])
            np.copyto(member._sums, self._sums[:, at])
            # Of settled rows it is not set again by what the member learns alone.
            np.copyto(member._decay[3], self._decay[3, at])
            member._held = self._held and bool(member.quarantined.any())
            member._settled = self._settled or member._is_settled()
            member._weighed = None

    def learn(self, miss: Singles, apart: Singles, matured: NDArray[np.bool_]) -> None:
        """Judge the experts by the newest window.

        Args:
            miss: its value minus the pool's forecasts of it, ``(horizons, 1)``.
            apart: the experts' distances from these, as ``forecast`` gave them, ``(horizons, experts)``.
            matured: for which horizons they exist, ``(horizons,)``.
        """
        at = which(matured)
        apart, miss = apart[at], miss[at]
        error = apart - miss
        if self._level is None:
            slope = np.sign(miss)
            np.abs(error, out=error)
        else:
            below, above = self._costs(self._level, at)
            slope = np.where(miss > 0.0, below, -above)
            error = np.maximum(above * error, -below * error)
        self._matured += matured
        rate = self._rate(at)
        # Where all matured these are views, else copies that are put back.
        sums, scale, own, largest = self._sums[:, at], self._scale[at], self._own[at], self._largest[at]
        scale += rate * (error[:, :1] - scale)
        unit = np.maximum(scale, self._rows.tiny()[:, None][at])
        new = np.empty((4, *error.shape), dtype=np.float32)
        regret, squares, loss, level = new
        np.multiply(apart, slope / unit, out=regret)
        np.minimum(np.maximum(regret, -self._clip, out=regret), self._clip, out=regret)
        np.multiply(regret, regret, out=squares)
        np.minimum(np.divide(error, unit, out=loss), self._clip, out=loss)
        np.multiply(loss, rate, out=level)
        own *= _LOSS_DECAY
        own += np.minimum(slope * miss / unit, self._clip)
        largest *= self._decay[0, at]
        np.maximum(largest, np.abs(regret), out=largest)
        sums *= self._decay[:, at]
        sums += new
        if not isinstance(at, slice):
            self._sums[:, at], self._scale[at], self._own[at], self._largest[at] = sums, scale, own, largest
        seen = self._matured[:: self._rows.horizons].tolist()
        due = [
            heard and (labels < _YOUNG or labels % self._weigh_every == 0.0)
            for labels, heard in zip(seen, self._rows.any(matured), strict=True)
        ]
        if False not in due:
            self._reweigh(slice(None))
        elif True in due:
            self._reweigh(np.flatnonzero(self._rows.repeat(due, np.bool_)))

    @staticmethod
    def _costs(
        level: float | Floats, at: slice | NDArray[np.intp]
    ) -> tuple[np.float32 | Singles, np.float32 | Singles]:
        """What being below and being above costs, of the rows ``at``."""
        if isinstance(level, float):
            return np.float32(2.0 * level), np.float32(2.0 - 2.0 * level)
        return (2.0 * level[at]).astype(np.float32), (2.0 - 2.0 * level[at]).astype(np.float32)

    def _rate(self, at: slice | NDArray[np.intp]) -> Singles:
        """Of the means of the rows ``at``: those of the first errors, then exponentially forgotten."""
        if self._settled:
            return _LAST_RATE
        rate: Singles = np.maximum(_RATE, 1.0 / np.maximum(self._matured[at], 1.0))[:, None]
        self._decay[3, at] = 1.0 - rate
        self._settled = self._is_settled()
        return rate

    def _is_settled(self) -> bool:
        """Whether the rate of no row changes any more."""
        return bool(self._matured[-1] * _RATE >= 1.0 and self._matured.min() * _RATE >= 1.0)

    def regret(self) -> tuple[float | None, ...]:
        """Per row the pool's loss over that of its best expert, less one; discounted; None before any label."""
        best = np.minimum.reduce(self._sums[2], axis=1)
        over = self._own[:, 0] / np.maximum(best, TINY) - np.float32(1.0)
        return tuple(ratio if low > 0.0 else None for ratio, low in zip(over.tolist(), best.tolist(), strict=True))

    def combine(self, ahead: Floats, awake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Aggregate what the experts say now, ``ahead`` ``(horizons, experts)``, those who are ``awake`` alone.

        Args:
            ahead: finite.
            awake: per series and expert, ``(series, experts)``; of each series at least one.

        Returns:
            The aggregated forecasts ``(horizons,)`` and each expert's distance from them, ``(horizons, experts)``: zero
            for one that sleeps, who has neither merit nor blame.
        """
        flags = awake.tobytes()
        sleeping = 0 in flags
        if sleeping:
            awake = awake.repeat(self._rows.horizons, axis=0)
        if self._weighed != flags:
            weights = self._merit.astype(np.float64)
            if sleeping:
                weights *= awake
            weights /= np.add.reduce(weights, axis=1, keepdims=True)
            self.weights, self._weighed = weights, flags
        point = np.add.reduce(self.weights * ahead, axis=1)
        apart = ahead - point[:, None]
        if sleeping:
            apart *= awake
        return point, apart

    def _reweigh(self, at: slice | NDArray[np.intp]) -> None:
        """Weigh the experts of the rows ``at``, which are those of whole series."""
        regret, squares, loss, level = self._sums[:, at]
        count = self._each
        middle = count // 2
        typical = np.partition(level, middle, axis=1)[:, middle : middle + 1]
        bar = np.minimum(_QUARANTINE[0] * typical, _QUARANTINE[1])
        if self._held:
            bar = np.where(self.quarantined[at], np.minimum(_REENTRY[0] * typical, _REENTRY[1]), bar)
        quarantined = level > bar + 1e-6
        # The scale of all losses, and the one that never sleeps.
        quarantined[:, 0] = False
        self.quarantined[at] = quarantined
        held = bool(quarantined.any())
        self._held = held or bool(self.quarantined.any())
        # All rules at once.
        rate = np.sqrt(np.float32(math.log(count + 1)) / (squares + 1e-3))
        np.minimum(rate, 0.5 / np.maximum(self._largest[at], 0.5), out=rate)
        weights = np.empty((3, *rate.shape), dtype=np.float32)
        np.multiply(rate, regret - 0.5 * rate * squares, out=weights[0])
        np.multiply(loss, -_LOSS_RATES[0], out=weights[1])
        np.multiply(level, -_LOSS_RATES[1], out=weights[2])
        matured = self._matured[at]
        cold = matured[self._rows.horizons - 1 :: self._rows.horizons] < 8.0 * self._trust
        if cold.any():
            trust = _COLD_TRUST * np.exp(-matured / self._trust)
            weights[:, :, 0] += np.where(cold.repeat(self._rows.horizons), trust, np.float32(0.0))
        if held:
            weights[:, quarantined] = -np.inf
        weights -= np.maximum.reduce(weights, axis=2, keepdims=True)
        # Nothing is small enough to be a slow subnormal number.
        np.exp(np.maximum(weights, _SMALLEST, out=weights), out=weights)
        weights[0] *= rate
        share: Singles | np.float32 = np.float32(_FIXED_SHARE / count)
        if held:
            free = (~quarantined).astype(np.float32)
            weights *= free
            spread = _FIXED_SHARE * free / free.sum(axis=1, keepdims=True)
            holds = np.logical_or.reduce(quarantined.reshape(-1, self._rows.horizons, count), axis=(1, 2))
            share = np.where(holds.repeat(self._rows.horizons)[:, None], spread, share)
        weights *= (_RULES * (1.0 - _FIXED_SHARE)) / np.add.reduce(weights, axis=2, keepdims=True)
        merit = np.add.reduce(weights, axis=0)
        merit += share
        self._merit[at] = merit
        self._weighed = None


class ExpertPool(ExpertWeights):
    """A weighted mean of experts per horizon of several series.

    Args:
        rows: the series.
        experts: those of the first series, at least one, the last value first; then those of the next series, which
            have the same names in the same order.

    Raises:
        ValueError: no experts, two of one name, or other ones for another series.
    """

    def __init__(self, rows: SeriesRows, experts: Sequence[Expert]) -> None:
        series = len(rows.contexts)
        each = len(experts) // series
        names = [expert.name for expert in experts]
        if not names or len(set(names[:each])) != each or names != names[:each] * series:
            raise ValueError(f"a pool needs experts of distinct names, not {names}")
        super().__init__(rows, each)
        self.experts = tuple(experts)
        self._sleepers = _sleepers(experts)
        self._series = rows

    def keep(self, series: int) -> None:
        """Forget all but one series."""
        at = self._series.of(series)
        self._rows = self._series = self._series.only(series)
        self.experts = self.experts[series * self._each : (series + 1) * self._each]
        self._sleepers = _sleepers(self.experts)
        LeastSquares.alone(self.experts)
        self._sums, self._decay = self._sums[:, at].copy(), self._decay[:, at].copy()
        for name in ("_scale", "_matured", "_own", "_largest", "_merit", "quarantined", "weights"):
            setattr(self, name, getattr(self, name)[at].copy())
        self._held, self._settled, self._weighed = bool(self.quarantined.any()), self._is_settled(), None

    @property
    def names(self) -> tuple[str, ...]:
        """The experts' names, in the order of ``weights``'s columns."""
        return tuple(expert.name for expert in self.experts[: self._each])

    def forecast(self) -> tuple[Floats, Floats, Floats]:
        """Aggregate what the experts say now; see ``combine``.

        Returns:
            The aggregated forecasts and the experts' weighted mean distance from them, both ``(horizons,)``; each
            expert's distance, ``(horizons, experts)``.
        """
        contexts, horizons = self._series.contexts, self._series.horizons
        said = np.concatenate([expert.forecast() for expert in self.experts])
        ahead = said.reshape(len(contexts), self._each, horizons).transpose(0, 2, 1).reshape(-1, self._each)
        if not np.isfinite(ahead).all():
            last = self._series.repeat([context.last for context in contexts])
            ahead = np.where(np.isfinite(ahead), ahead, last[:, None])
        awake = np.ones(len(self.experts), dtype=np.bool_)
        for at in self._sleepers:
            awake[at] = self.experts[at].awake
        point, apart = self.combine(ahead, awake.reshape(-1, self._each))
        return point, np.add.reduce(self.weights * np.abs(apart), axis=1), apart


def _sleepers(experts: Sequence[Expert]) -> tuple[int, ...]:
    """Which experts may sleep at all."""
    return tuple(at for at, expert in enumerate(experts) if type(expert).awake is not Expert.awake)
