"""Recursive least squares, one regression per horizon, all horizons, variants and series in one pass."""

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
    value), a constant; signals from outside, where the series has any. Features wait for their labels in half
    precision, whose rounding (5e-4) is far below the noise.

    Args:
        context: the series.
        logarithmic: regress on ``log(y / level + 0.05)`` rather than on ``y / level``.
        forgetting: weight of the past per window, in (0, 1).
    """

    __slots__ = ("_at", "_bank", "_name", "_series", "context")

    def __init__(self, context: SeriesContext, *, logarithmic: bool, forgetting: float = 0.9995) -> None:
        super().__init__(context)
        self._bank = _Bank((context,), ((logarithmic, forgetting),))
        self._at = self._series = 0
        self._name = "least_squares_log" if logarithmic else "least_squares"

    @classmethod
    def several(cls, context: SeriesContext, variants: Sequence[tuple[bool, float]]) -> tuple[LeastSquares, ...]:
        """Experts for several pairs of ``logarithmic`` and ``forgetting`` that share their work and what waits.

        Further variants of a kind carry their forgetting in their name.
        """
        order = sorted(range(len(variants)), key=lambda at: variants[at][0])
        bank = _Bank((context,), tuple(variants[at] for at in order))
        members: list[LeastSquares] = []
        for at, (logarithmic, forgetting) in enumerate(variants):
            member = cls.__new__(cls)
            Expert.__init__(member, context)
            member._bank, member._at, member._series = bank, order.index(at), 0
            member._name = "least_squares_log" if logarithmic else "least_squares"
            if any(other._name == member._name for other in members):
                member._name += f"_{forgetting:g}"
            members.append(member)
        return tuple(members)

    @staticmethod
    def together(experts: Sequence[Sequence[Expert]]) -> None:
        """Let those of ``experts`` (one sequence a series, alike) that are of this kind share their work.

        Call before they learn. They come to the same numbers as alone; every context must have taken its window before
        the first of them learns it.
        """
        banks: dict[int, _Bank] = {}
        for members in zip(*experts, strict=True):
            alike = [member for member in members if isinstance(member, LeastSquares)]
            if len(alike) < len(members):
                continue
            own = alike[0]._bank
            if id(own) not in banks:
                banks[id(own)] = _Bank(tuple(member.context for member in alike), own.variants)
            for series, member in enumerate(alike):
                member._bank, member._series = banks[id(own)], series

    @staticmethod
    def alone(experts: Sequence[Expert]) -> None:
        """End the sharing: what ``experts``, those of one series, share with others keeps this series only."""
        kept: set[int] = set()
        for member in experts:
            if isinstance(member, LeastSquares):
                if id(member._bank) not in kept:
                    kept.add(id(member._bank))
                    member._bank.keep(member._series)
                member._series = 0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._name

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        del y  # the context has it, and those of the series beside it theirs
        self._bank.learn_one(self.context.index)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return np.asarray(self._bank.ahead()[self._at, self._series])


class _Bank:
    """The regressions of several variants, the plain ones first, of several series side by side.

    The first member that asks does the work of all. Arrays of variants and series have these as their first two axes;
    the regression sees them as one.
    """

    def __init__(self, contexts: tuple[SeriesContext, ...], variants: tuple[tuple[bool, float], ...]) -> None:
        self._contexts = contexts
        self.variants = variants
        self._steps = contexts[0].steps
        series, horizons = len(contexts), self._steps.size
        self._own = 7 + 2 * horizons  # features of the series itself, less the constant
        self._size = size = self._own + 1 + contexts[0].signal_count * (1 + horizons)
        self._plain = sum(not logarithmic for logarithmic, _ in variants)
        self._regression = DelayedRegression(tuple(weight for _, weight in variants for _ in contexts), horizons, size)
        rows = int(self._steps[-1]) + 1
        # Per origin: differences of the lags (the constant's is no difference); scale.
        self._past: NDArray[np.float16] = np.zeros((series, rows, size - 1), dtype=np.float16)
        self._scales: NDArray[np.float32] = np.ones((series, rows), dtype=np.float32)
        self._now: Floats = np.zeros((len(variants), series, size))
        self._now[:, :, -1] = _CONSTANT
        # Scale and last value of each series.
        self._origin: Floats = np.tile((1.0, 0.0), (series, 1))
        self._learned = -1
        self._ahead: Floats | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Forecasts that were made already can be made again."""
        return self.__dict__ | {"_ahead": None}

    def keep(self, series: int) -> None:
        """Forget all but one series."""
        self._regression.keep(slice(series, None, len(self._contexts)))
        at = slice(series, series + 1)
        self._contexts = self._contexts[at]
        self._past, self._scales = self._past[at].copy(), self._scales[at].copy()
        self._origin = self._origin[at].copy()
        self._now = self._now[:, at].copy()
        self._ahead = None

    def learn_one(self, index: int) -> None:
        """Learn the window ``index`` that the contexts took last, once."""
        told = stamp(index)
        if told == self._learned:
            return
        self._learned = told
        self._ahead = None
        differences = self._look()
        values = [context.newest for context in self._contexts]
        taught = [series for series, value in enumerate(values) if value is not None]
        if not taught:
            self._now = self._features(differences[:, None], self._origin[:, None, 1:])[:, :, 0]
            return
        origins = [context.origins() for context in self._contexts]
        matured = [known.tobytes() for _, known in origins]
        parts = [slice(None)]
        if len(taught) < len(values) or matured.count(matured[0]) < len(matured):
            # A gap of one series alone, or a younger one: each for itself.
            self._now = self._features(differences[:, None], self._origin[:, None, 1:])[:, :, 0].copy()
            parts = [slice(series, series + 1) for series in taught]
        for part in parts:
            y = np.array(values[part])
            seen = np.array([seen for seen, _ in origins[part]])
            self._learn(told, part, y, seen, which(origins[part][0][1]), differences[part])

    def _learn(
        self,
        told: int,
        part: slice,
        y: Floats,
        seen: NDArray[np.float32],
        at: slice | NDArray[np.intp],
        differences: Floats,
    ) -> None:
        """Learn the values ``y`` of the series ``part``, whose horizons ``at`` matured from the values ``seen``."""
        rows = (told - self._steps[at]) % self._past.shape[1]
        # What matured and the newest window in one go, the newest last: scale, last value.
        origin = np.empty((y.size, rows.size + 1, 2))
        origin[:, :-1, 0], origin[:, -1] = self._scales[part].take(rows, axis=1), self._origin[part]
        np.minimum(seen[:, at] / origin[:, :-1, 0], _LIMIT, out=origin[:, :-1, 1])
        waiting = np.zeros((y.size, rows.size + 1, self._size))
        waiting[:, :-1, :-1], waiting[:, -1] = self._past[part].take(rows, axis=1), differences
        features = self._features(waiting, origin[:, :, 1:])
        # Variants and series as the regression has them: one axis.
        which_of = slice(part.start, None, len(self._contexts)) if part.start is not None else slice(None)
        if rows.size:
            matured = features[:, :, :-1]
            target = self._change(y[:, None], origin[:, :-1], len(features))
            self._regression.learn(at, matured.reshape(-1, *matured.shape[2:]), target.reshape(-1, rows.size), which_of)
        now = features[:, :, -1]
        self._now[:, part] = now
        row = told % self._past.shape[1]
        self._past[part, row] = differences[:, :-1]
        self._scales[part, row] = self._origin[part, 0]
        self._regression.absorb(now.reshape(-1, self._size), which_of)

    def ahead(self) -> Floats:
        """Forecasts of every variant and series, shape ``(variants, series, horizons)``."""
        if self._ahead is None:
            variants, series, size = self._now.shape
            ahead = self._regression.predict(self._now.reshape(-1, size)).reshape(variants, series, -1)
            plain, scale, last = self._plain, self._origin[:, :1], self._origin[:, 1:]
            ahead[:plain] += last
            grown = np.exp(np.minimum(ahead[plain:], 20.0))
            ahead[plain:] = (last + _OFFSET) * grown - _OFFSET
            ahead *= scale
            clip = np.array([context.clip for context in self._contexts])[:, None]
            self._ahead = np.minimum(np.maximum(ahead, 0.0, out=ahead), clip, out=ahead)
        return self._ahead

    def _change(self, y: Floats, origin: Floats, variants: int) -> Floats:
        """What should have been predicted from ``origin`` ``(series, rows, 2)``, ``(variants, series, rows)``."""
        scale, before = np.maximum(origin[:, :, 0], TINY), origin[:, :, 1]
        target = np.minimum(y / scale, _LIMIT)
        change = np.empty((variants, *target.shape))
        change[: self._plain] = target - before
        if self._plain < variants:
            change[self._plain :] = np.log((target + _OFFSET) / (before + _OFFSET))
        return change

    def _look(self) -> Floats:
        """The differences that the features of the newest window are made of, ``(series, size)``."""
        contexts = self._contexts
        scale = np.array([max(c.level, 0.01 * c.recent_max, TINY) for c in contexts])
        moved = np.minimum(np.array([context.lags for context in contexts]) / scale[:, None], _LIMIT)
        self._origin = np.array((scale, moved[:, 0])).T
        differences = np.empty((len(contexts), self._size))
        np.subtract(moved[:, 1:], moved[:, :1], out=differences[:, : self._own])
        differences[:, -1] = 0.0
        if self._own + 1 < self._size:
            differences[:, self._own : -1] = [context.signal_features.ravel() for context in contexts]
        stop = _ORIGIN + self._steps.size
        seasoned = [context.has_season for context in contexts]
        if all(seasoned):
            differences[:, _ORIGIN:stop] -= differences[:, _ORIGIN - 1 : _ORIGIN]
        elif not any(seasoned):
            differences[:, _ORIGIN - 1 : stop] = 0.0
        else:
            change = differences[:, _ORIGIN:stop] - differences[:, _ORIGIN - 1 : _ORIGIN]
            differences[:, _ORIGIN:stop] = np.where(np.array(seasoned)[:, None], change, 0.0)
            differences[np.logical_not(seasoned), _ORIGIN - 1] = 0.0
        return differences

    def _features(self, differences: Floats, last: Floats) -> Floats:
        """The features ``(variants, series, rows, size)`` of ``differences`` and last values ``(series, rows, 1)``."""
        features = np.empty((len(self.variants), *differences.shape))
        features[: self._plain] = differences
        if self._plain < len(features):
            base = np.empty_like(differences)
            base[:] = last + _OFFSET
            base[..., _ORIGIN : _ORIGIN + self._steps.size] += differences[..., _ORIGIN - 1 : _ORIGIN]
            grown = np.maximum(differences + base, _OFFSET)
            grown /= base
            features[self._plain :] = np.log(grown, out=grown)
            if self._own + 1 < self._size:
                features[self._plain :, ..., self._own : -1] = differences[..., self._own : -1]
        features[..., -1] = _CONSTANT
        return features
