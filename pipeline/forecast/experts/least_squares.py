"""Recursive least squares, one regression per horizon, all horizons and variants in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import stamp, which
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.recursion import DelayedRegression

__all__ = ["LeastSquares"]

_OFFSET = 0.05
_LIMIT = 1e3
_CONSTANT = 0.1
#: Where among the lags the season's origin stands; its targets follow.
_ORIGIN = 7


class LeastSquares(Expert):
    """Predicts the change from the last value to each target.

    Features, all relative to today's level: the last three values and means of 3, 6, 12 and 30 windows (minus the last
    value), what was added one season ago until each target, the recurring profile at each target (minus the last
    value), a constant. Features wait for their labels in half precision, whose rounding (5e-4) is far below the noise.

    Args:
        context: the series.
        logarithmic: regress on ``log(y / level + 0.05)`` rather than on ``y / level``.
        forgetting: weight of the past per window, in (0, 1).
    """

    def __init__(self, context: SeriesContext, *, logarithmic: bool, forgetting: float = 0.9995) -> None:
        super().__init__(context)
        self._bank = _Bank(context, ((logarithmic, forgetting),))
        self._at = 0
        self._name = "least_squares_log" if logarithmic else "least_squares"

    @classmethod
    def several(cls, context: SeriesContext, variants: Sequence[tuple[bool, float]]) -> tuple[LeastSquares, ...]:
        """Experts for several pairs of ``logarithmic`` and ``forgetting`` that share their work and what waits.

        Further variants of a kind carry their forgetting in their name.
        """
        order = sorted(range(len(variants)), key=lambda at: variants[at][0])
        bank = _Bank(context, tuple(variants[at] for at in order))
        members: list[LeastSquares] = []
        for at, (logarithmic, forgetting) in enumerate(variants):
            member = cls.__new__(cls)
            Expert.__init__(member, context)
            member._bank, member._at = bank, order.index(at)
            member._name = "least_squares_log" if logarithmic else "least_squares"
            if any(other._name == member._name for other in members):
                member._name += f"_{forgetting:g}"
            members.append(member)
        return tuple(members)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._name

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        self._bank.learn_one(y)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return np.asarray(self._bank.ahead()[self._at])


class _Bank:
    """The regressions of several variants side by side, the plain ones first.

    The first member that asks does the work of all.
    """

    def __init__(self, context: SeriesContext, variants: tuple[tuple[bool, float], ...]) -> None:
        self._context = context
        count, horizons = len(variants), context.steps.size
        self._size = size = 8 + 2 * horizons
        self._plain = sum(not logarithmic for logarithmic, _ in variants)
        self._regression = DelayedRegression(tuple(forgetting for _, forgetting in variants), horizons, size)
        rows = int(context.steps[-1]) + 1
        # Per origin: differences of the lags (the constant's is no difference); scale.
        self._past: NDArray[np.float16] = np.zeros((rows, size - 1), dtype=np.float16)
        self._scales: NDArray[np.float32] = np.ones(rows, dtype=np.float32)
        self._now: Floats = np.zeros((count, size))
        self._now[:, -1] = _CONSTANT
        self._scale, self._last = 1.0, 0.0
        self._learned = -1
        self._ahead: Floats | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Forecasts that were made already can be made again."""
        return self.__dict__ | {"_ahead": None}

    def learn_one(self, y: float | None) -> None:
        """Learn the window that the context took last, once."""
        told = stamp(self._context.index)
        if told == self._learned:
            return
        self._learned = told
        self._ahead = None
        row = told % len(self._past)
        differences = self._look()
        if y is None:
            self._now = self._features(differences[None], np.full((1, 1), self._last))[:, 0]
            return
        values, matured = self._context.origins()
        at = which(matured)
        rows = (told - self._context.steps[at]) % len(self._past)
        # What matured and the newest window in one go, the newest last: scale, last value.
        origin = np.empty((rows.size + 1, 2))
        origin[:-1, 0], origin[-1] = self._scales.take(rows), (self._scale, self._last)
        np.minimum(values[at] / origin[:-1, 0], _LIMIT, out=origin[:-1, 1])
        waiting = np.zeros((rows.size + 1, self._size))
        waiting[:-1, :-1], waiting[-1] = self._past.take(rows, axis=0), differences
        features = self._features(waiting, origin[:, 1:])
        self._now = features[:, -1]
        if rows.size:
            self._learn_matured(y, at, features[:, :-1], origin[:-1])
        self._past[row] = differences[:-1]
        self._scales[row] = self._scale
        self._regression.absorb(self._now)

    def ahead(self) -> Floats:
        """Forecasts of every variant, shape ``(variants, horizons)``."""
        if self._ahead is None:
            ahead, plain = self._regression.predict(self._now), self._plain
            ahead[:plain] += self._last
            grown = np.exp(np.minimum(ahead[plain:], 20.0))
            ahead[plain:] = (self._last + _OFFSET) * grown - _OFFSET
            ahead *= self._scale
            self._ahead = np.minimum(np.maximum(ahead, 0.0, out=ahead), self._context.clip, out=ahead)
        return self._ahead

    def _learn_matured(self, y: float, at: slice | NDArray[np.intp], features: Floats, origin: Floats) -> None:
        scale, before = np.maximum(origin[:, 0], TINY), origin[:, 1]
        target = np.minimum(y / scale, _LIMIT)
        change = np.empty(features.shape[:2])
        change[: self._plain] = target - before
        if self._plain < len(change):
            change[self._plain :] = np.log((target + _OFFSET) / (before + _OFFSET))
        self._regression.learn(at, features, change)

    def _look(self) -> Floats:
        """The differences that the features of the newest window are made of."""
        context = self._context
        self._scale = max(context.level, 0.01 * context.recent_max, TINY)
        moved = np.minimum(context.lags / self._scale, _LIMIT)
        self._last = float(moved[0])
        differences = np.empty(self._size)
        np.subtract(moved[1:], self._last, out=differences[:-1])
        differences[-1] = 0.0
        stop = _ORIGIN + context.steps.size
        if context.has_season:
            differences[_ORIGIN:stop] -= differences[_ORIGIN - 1]
        else:
            differences[_ORIGIN - 1 : stop] = 0.0
        return differences

    def _features(self, differences: Floats, last: Floats) -> Floats:
        """The features ``(variants, rows, size)`` of ``differences`` ``(rows, size)`` and last values ``(rows, 1)``."""
        features = np.empty((len(self._now), *differences.shape))
        features[: self._plain] = differences
        if self._plain < len(features):
            base = np.empty_like(differences)
            base[:] = last + _OFFSET
            base[..., _ORIGIN : _ORIGIN + self._context.steps.size] += differences[..., _ORIGIN - 1 : _ORIGIN]
            grown = np.maximum(differences + base, _OFFSET)
            grown /= base
            features[self._plain :] = np.log(grown, out=grown)
        features[..., -1] = _CONSTANT
        return features
