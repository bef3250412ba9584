"""The recurring shape of a season: a smooth course plus the spikes that came back, with the noise shrunk away."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.rare_factors import RareFactors
from pipeline.forecast.season_column import SeasonColumn

__all__ = ["SeasonalProfile"]

_SMOOTH_RATE = 0.5
_SPIKE_RATE = 0.4
_NOISE_RATE = 0.002
_THRESHOLD = 2.5


class SeasonalProfile:
    """Per slot of the season: a running median (the course) and the ratio to it, kept only where it recurred.

    The ratio of a slot counts when the newest season and the seasons before it agree on its sign and both stand out of
    the noise (hard thresholding, after Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"); the
    smaller of the two is taken, so that a spike seen once is not expected again. Ratios are kept in half precision.

    Args:
        season_steps: windows per season.
        half: the running median spans ``2 * half + 1`` windows.
    """

    __slots__ = ("_learned", "_noise", "_ratio", "_season", "_smooth", "_spike", "_unseen", "half")

    def __init__(self, season_steps: int, half: int) -> None:
        self.half = half
        self._season = season_steps
        self._smooth = SeasonColumn(season_steps, np.float32)
        self._ratio = SeasonColumn(season_steps, np.float16)
        self._spike = RareFactors()
        self._unseen = season_steps
        self._noise = 0.0
        self._learned = 0

    def learn_one(self, index: int, values: NDArray[np.float32]) -> None:
        """Learn window ``index`` from the ``2 * half + 1`` values around it."""
        slot = index % self._season
        course = float(np.partition(values, self.half)[self.half])
        value = float(values[self.half])
        before = self._smooth[slot]
        if math.isnan(before):
            self._unseen -= 1
            before = course
        self._smooth[slot] = before + _SMOOTH_RATE * (course - before)
        if course <= 0.0:
            self._spike[slot] = 1.0
            return
        excess = min(value / course - 1.0, 50.0)
        self._learned += 1
        # Spikes must not raise the noise that they are compared with.
        bounded = min(abs(excess), 4.0 * self._noise) if self._learned > 2 * self.half else min(abs(excess), 1.0)
        self._noise += max(_NOISE_RATE, 1.0 / self._learned) * (bounded - self._noise)
        known = self._ratio[slot]
        if math.isnan(known):
            self._ratio[slot] = excess
            return
        agreed = min(abs(excess), abs(known)) if excess * known > 0.0 else 0.0
        stands_out = agreed > _THRESHOLD * self._noise
        self._spike[slot] = 1.0 + (math.copysign(agreed, excess) if stands_out else 0.0)
        self._ratio[slot] = known + _SPIKE_RATE * (excess - known)

    @property
    def complete(self) -> bool:
        """Whether every slot has been seen."""
        return self._unseen == 0

    def known(self, index: int) -> bool:
        """Whether the slot of window ``index`` has been seen in an earlier season."""
        return not math.isnan(self._smooth[index % self._season])

    def at(self, index: int) -> tuple[float, float]:
        """The course, and the course with its recurring spikes, at window ``index``."""
        slot = index % self._season
        smooth = self._smooth[slot]
        return smooth, smooth * self._spike[slot]

    def ahead(self, indexes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The course with its recurring spikes at ``indexes``; NaN where never seen."""
        slots = indexes % self._season
        return np.asarray(np.multiply(self._smooth.take(slots), self._spike.take(slots), dtype=np.float64))
