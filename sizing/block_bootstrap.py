"""Ratios of sums over time, with the uncertainty that their variation from block to block shows.

Whole blocks of time (days or hours) are drawn with replacement, so that what belongs together in time stays together
(Künsch 1989, "The jackknife and the bootstrap for general stationary observations"). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Blocks", "Estimate"]

Floats = NDArray[np.float64]

_HOUR, _DAY = 3_600, 86_400
#: With fewer days blocks are hours; with fewer hours than blocks nothing is known of the uncertainty.
_LEAST_DAYS, _LEAST_BLOCKS = 8, 4
_DRAWS = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the ends of its 90 % interval; None: too little time was seen to say."""

    value: float
    lower: float | None
    upper: float | None


class Blocks:
    """The blocks of time of some events; ``seconds`` is how long one is."""

    def __init__(self, at_seconds: Floats) -> None:
        first, last = float(at_seconds[0]), float(at_seconds[-1])
        self.seconds = _DAY if last - first >= _LEAST_DAYS * _DAY else _HOUR
        start = first // self.seconds
        self._of = (at_seconds // self.seconds - start).astype(np.int64)
        self.count = int(last // self.seconds - start) + 1
        drawn = np.random.default_rng(0).integers(0, self.count, (_DRAWS, self.count))
        #: How often each draw took each block.
        self._times = np.stack([np.bincount(row, minlength=self.count) for row in drawn]).astype(np.float64)

    def sums(self, values: ArrayLike) -> Floats:
        """Return the sums of a quantity of every event, by block."""
        return np.asarray(np.bincount(self._of, np.asarray(values, dtype=np.float64), self.count), dtype=np.float64)

    def ratio(self, part: Floats, whole: Floats) -> Estimate | None:
        """Return Σ part / Σ whole (sums by block) with its interval; None where the whole is nothing."""
        total = float(whole.sum())
        if total <= 0:
            return None
        value = float(part.sum()) / total
        if self.count < _LEAST_BLOCKS:
            return Estimate(value, None, None)
        parts, wholes = self._times @ part, self._times @ whole
        known = wholes > 0
        low, high = np.quantile(parts[known] / wholes[known], (0.05, 0.95))
        return Estimate(value, float(low), float(high))

    def share(self, chosen: NDArray[np.bool_], weights: ArrayLike = 1.0) -> Estimate | None:
        """Return the share of ``weights`` (of every event) that belongs to those ``chosen``."""
        every = np.broadcast_to(np.asarray(weights, dtype=np.float64), chosen.shape)
        return self.ratio(self.sums(np.where(chosen, every, 0.0)), self.sums(every))
