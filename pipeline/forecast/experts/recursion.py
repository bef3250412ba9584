"""Recursive least squares for all horizons and variants at once, with labels that come late."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats

__all__ = ["DelayedRegression"]

_PRIOR = 100.0
_OUTLIER = 20.0


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
        self._p: Floats = np.tile(np.eye(size) * _PRIOR, (len(forgetting), 1, 1))
        self._w: Floats = np.zeros((len(forgetting), horizons, size))
        self._error: Floats = np.zeros((len(forgetting), horizons))

    def __getstate__(self) -> dict[str, Any]:
        """Half of each inverse covariance is enough: it is symmetric to the last bit."""
        state = self.__dict__.copy()
        state["_p"] = self._p[:, *np.triu_indices(self._size)]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the other halves."""
        self.__dict__.update(state)
        half, (rows, columns) = self._p, np.triu_indices(self._size)
        self._p = np.empty((len(half), self._size, self._size))
        self._p[:, rows, columns] = half
        self._p[:, columns, rows] = half

    def keep(self, which: slice) -> None:
        """Forget all but these variants."""
        for name in ("_growth", "_p", "_w", "_error"):
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
        p, growth = self._p[which], self._growth[which]
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
        gains = np.matmul(features, self._p[which])
        # Features that the covariance does not know (it was reset) would overshoot.
        target /= np.maximum(np.vecdot(features, gains), 1.0)
        gains *= target[:, :, None]
        weights[:, at] += gains
