"""The level that ordinary scores exceed a wanted number of times a day: an extreme-value tail, learned online. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np

__all__ = ["ExtremeTail", "fit_pareto"]

_TINY = 1e-12
#: Share of the scores that counts as tail: 10 %, or more where alerts are wanted nearly that often.
_TAIL_SHARE = 0.1
_MAX_SHARE = 0.3
_PEAKS = 128
_MIN_PEAKS = 30
_FIRST_BASE = 1.3
_LEAST_BASE = 0.3
#: A peak is learned as at most so many thresholds.
_MOST_PEAK = 1.2
_BASE_STEP = 0.02
_RATE_STEP = 0.002
#: Scores learned before the rate of clusters is trusted more than the share asked for.
_RATE_AFTER = 50


class ExtremeTail:
    """Turns scores into chances: how often would ordinary traffic reach this?

    Streaming peaks over threshold (SPOT: Siffer et al., KDD 2017, "Anomaly detection in streams with extreme value
    theory"): scores above a tracked base level are peaks, a generalised Pareto distribution is fitted to them, and its
    quantile is the threshold. Three changes make the rate one of *alerts*: a run of peaks counts once, with its
    largest (declustering: Coles 2001, "An Introduction to Statistical Modeling of Extreme Values", 5.3.2), since a run
    makes one alert; a peak enters bounded at 1.2 thresholds, so that one giant burst does not deafen the detector
    while frequent bursts raise the bar; old peaks are forgotten.

    Args:
        probability: wanted chance per score that ordinary traffic exceeds the threshold, in (0, 0.5].
    """

    __slots__ = ("_base", "_inside", "_peaks", "_prior", "_probability", "_rate", "_seen", "_share", "_tail")

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self._share = max(_TAIL_SHARE, min(_MAX_SHARE, 3.0 * probability))
        # Upper tail of a Laplace distribution with mean absolute deviation 1, both sides: until enough is learned.
        self._prior = max(0.5, -math.log(2.0 * probability)) if probability < 0.5 else 0.5
        self._base = _FIRST_BASE
        self._peaks = array("f")  # nine tails a pool, of 128 peaks each
        self._tail = (0.0, 1.0)
        self._inside = False
        self._rate = self._share
        self._seen = 0

    @property
    def threshold(self) -> float:
        """The score to exceed."""
        if len(self._peaks) < _MIN_PEAKS:
            return self._prior
        shape, scale = self._tail
        odds = math.log(min(0.99, self._probability / max(self._rate, _TINY)))
        reach = scale * math.expm1(-shape * odds) / shape if shape else -scale * odds
        return max(0.5, self._base + reach)

    def chance(self, score: float) -> float:
        """Estimated chance per window that ordinary traffic reaches ``score``."""
        if len(self._peaks) < _MIN_PEAKS or score <= self._base:
            return min(1.0, 0.5 * math.exp(-score)) if score > 0.0 else 1.0
        shape, scale = self._tail
        excess = (score - self._base) / scale
        return self._rate * ((1.0 + shape * excess) ** (-1.0 / shape) if shape else math.exp(-excess))

    def learn(self, score: float) -> None:
        """Add one non-negative score."""
        self._seen += 1
        begins = False
        if score > self._base:
            peak = min(score, _MOST_PEAK * self.threshold) - self._base
            changed = True
            if not self._inside:
                self._peaks.append(peak)
                del self._peaks[:-_PEAKS]
                begins = True
            elif peak > self._peaks[-1]:
                self._peaks[-1] = peak
            else:
                changed = False
            self._inside = True
            if changed and len(self._peaks) >= _MIN_PEAKS:
                self._tail = fit_pareto(self._peaks)
        else:
            self._inside = False
        if self._seen > _RATE_AFTER:
            self._rate += max(_RATE_STEP, 1.0 / self._seen) * (begins - self._rate)
        step = max(_BASE_STEP, 1.0 / (self._seen + 1))
        self._base = max(_LEAST_BASE, self._base + step * ((score > self._base) - self._share))


def fit_pareto(peaks: Sequence[float]) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution by probability-weighted moments, the shape in [0, 0.5].

    Hosking and Wallis 1987, "Parameter and quantile estimation for the generalized Pareto distribution".

    >>> fit_pareto([1.0, 1.0])
    (0.0, 1.0)
    """
    ordered = np.array(peaks, dtype=np.float64)
    ordered.sort()
    count = ordered.size
    mean = max(float(ordered.sum()) / count, _TINY)
    weights = (count + 0.35 - np.arange(1, count + 1)) / count
    spare = mean - 2.0 * float(weights @ ordered) / count
    if spare <= 0.0:
        return 0.0, mean
    shape = min(0.5, max(0.0, 2.0 - mean / spare))
    return shape, mean * (1.0 - shape)
