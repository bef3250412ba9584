"""Recursive least squares for all horizons and variants at once, with labels that come late."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, Ints

__all__ = ["DelayedRegression"]

_PRIOR = 100.0
_OUTLIER = 20.0


@cache
def _places(size: int) -> tuple[Ints, Ints]:
    """Where the upper half of a flat matrix of so many rows lies, and where in that half each of its numbers lies."""
    rows, columns = np.triu_indices(size)
    whole = np.empty((size, size), dtype=np.int64)
    whole[rows, columns] = whole[columns, rows] = np.arange(rows.size)
    return rows * size + columns, whole.ravel()


class DelayedRegression:
    """Linear regressions ``(variants, horizons)`` by recursive least squares with exponential forgetting.

    After Haykin, *Adaptive Filter Theory*. The features of a variant are the same for all horizons, hence so is the
    inverse covariance, whose trace is capped at its start. A label that matures after ``h`` windows uses the newest
    inverse covariance: the step of its own origin, shortened by what has been seen since.

    Args:
        forgetting: weight of the past per window, in (0, 1), for each variant.
        horizons: number of horizons.
        size: number of features.

    Raises:
        ValueError: forgetting out of range.
    """

    def __init__(self, forgetting: tuple[float, ...], horizons: int, size: int) -> None:
        for weight in forgetting:
            if not 0.0 < weight < 1.0:
                raise ValueError(f"forgetting must be in (0, 1), not {weight}")
        self._size = size
        self._growth: Floats = 1.0 / np.array(forgetting)[:, None, None]
        # Half of each inverse covariance is enough: it is symmetric to the last bit.
        self._half: Floats = np.tile(self._packed(np.eye(size)[None] * _PRIOR), (len(forgetting), 1))
        self._w: Floats = np.zeros((len(forgetting), horizons, size))
        self._error: Floats = np.zeros((len(forgetting), horizons))

    def _packed(self, p: Floats) -> Floats:
        """The halves of matrices ``(variants, size, size)``."""
        return p.reshape(len(p), -1).take(_places(self._size)[0], axis=1)

    def _inverse(self, which: slice) -> Floats:
        """The inverse covariances of the variants ``which``, a copy."""
        return self._half[which].take(_places(self._size)[1], axis=1).reshape(-1, self._size, self._size)

    def keep(self, which: slice) -> None:
        """Forget all but these variants."""
        for name in ("_growth", "_half", "_w", "_error"):
            setattr(self, name, getattr(self, name)[which].copy())

    def predict(self, now: Floats) -> Floats:
        """Predictions ``(variants, horizons)`` from the features ``now`` ``(variants, size)``; zero after a blow-up."""
        ahead = np.matvec(self._w, now)
        if not np.isfinite(ahead).all():
            self._w = np.zeros_like(self._w)
            ahead = np.zeros_like(ahead)
        return np.asarray(ahead)

    def absorb(self, now: Floats, which: slice = slice(None)) -> None:
        """Take the newest features ``(variants, size)`` into the inverse covariances of the variants ``which``."""
        p, growth = self._inverse(which), self._growth[which]
        px = np.matvec(p, now)
        spent = 1.0 / growth[:, 0] + np.vecdot(now, px)[:, None]
        # The products of both orders are the same bit for bit, so the difference stays symmetric.
        root = px / np.sqrt(np.maximum(spent, TINY))
        p -= root[:, :, None] * root[:, None, :]
        p *= growth
        cap = _PRIOR * self._size
        for at, trace in enumerate(np.add.reduce(np.diagonal(p, 0, 1, 2), axis=1).tolist()):
            if not 0.0 < trace < np.inf:
                p[at] = np.eye(self._size) * _PRIOR
            elif trace > cap:
                p[at] *= cap / trace
        self._half[which] = self._packed(p)

    def learn(self, at: slice | NDArray[np.intp], features: Floats, target: Floats, which: slice = slice(None)) -> None:
        """Correct the horizons ``at`` of the variants ``which`` by labels that matured.

        Args:
            at: which horizons, ``k`` of them.
            features: of each label's origin, ``(variants, k, size)``.
            target: what ``predict`` should have said, ``(variants, k)``; changed in place.
            which: which variants.
        """
        weights, error = self._w[which], self._error[which]
        target -= np.vecdot(weights[:, at], features)
        usual = error[:, at]
        if usual.all():
            bound = _OUTLIER * usual
            np.minimum(np.maximum(target, -bound, out=target), bound, out=target)
            error[:, at] += 0.01 * (np.abs(target) - usual)
        else:
            # Until an error is known, nothing is an outlier.
            known = usual > 0.0
            bound = np.where(known, _OUTLIER * usual, np.inf)
            np.minimum(np.maximum(target, -bound, out=target), bound, out=target)
            error[:, at] += np.where(known, 0.01, 1.0) * (np.abs(target) - usual)
        gains = np.matmul(features, self._inverse(which))
        # Features that the covariance does not know (it was reset) would overshoot.
        target /= np.maximum(np.vecdot(features, gains), 1.0)
        gains *= target[:, :, None]
        weights[:, at] += gains
