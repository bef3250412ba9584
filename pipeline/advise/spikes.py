"""Unannounced spikes in closed windows, and the chance that forecast demand exceeds capacity. Pure, no I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.forecast.model import LEVELS

__all__ = ["SpikeDetector", "SpikeState", "forecast_breach"]

_TINY = 1e-12
_MEDIAN, _Q95, _Q99 = LEVELS.index(0.5), LEVELS.index(0.95), LEVELS.index(0.99)
#: 0.95 quantile of a Laplace distribution with mean absolute deviation 1.
_LAPLACE_95 = math.log(10.0)
_LONG_SECONDS = 3600.0
_SHORT_SECONDS = 300.0
_RECENT = 60
_MIN_HISTORY = 8
_TAIL_SHARE = 0.02
_MAX_PROBABILITY = 0.05
_TAIL_STEP = 0.02
_TAIL_PEAKS = 128
_MIN_PEAKS = 16
_PRIOR_FACTOR = 1.5
_MAX_SCORE = 1e6


@dataclass(frozen=True, slots=True)
class SpikeState:
    """What one window says about spikes.

    ``score`` is the surprise in mean absolute deviations (None: a gap, or too little history), ``threshold`` what it
    has to exceed, ``p_value`` the estimated chance of such a score in ordinary traffic. ``ratio`` is the value over
    ``level``, the median of the recent windows (during an episode: of those before its onset). Times are epoch
    seconds: ``started_at`` is the end of the window that raised the running or just ended episode, ``ended_at`` is set
    in the one step that ends it. ``peak`` is the largest value of the episode.
    """

    at: float
    active: bool
    began: bool = False
    score: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    level: float | None = None
    ratio: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    peak: float | None = None


class SpikeDetector:
    """Finds sudden rises that the forecast did not expect, at a wanted rate of false alerts.

    The one-step residual is divided by a local scale; a score is a surprise when it exceeds the level that ordinary
    scores exceed ``false_alerts_per_day`` times a day. That level comes from a generalised Pareto tail over the newest
    peaks (SPOT: Siffer et al., KDD 2017, "Anomaly detection in streams with extreme value theory"), fitted by
    probability-weighted moments (Hosking and Wallis 1987). Alerted windows enter the tail bounded, so that a bursty
    series raises its own bar and one giant burst does not. A value that the forecast covered (at or below its 0.99
    quantile) is no surprise. An episode ends when five minutes in a row lie near the level before its onset, or after
    an hour, when the new level is the level. A gap is neither a spike nor the end of one.

    Args:
        false_alerts_per_day: wanted rate in ordinary traffic, positive.
        grain_seconds: width of a window, positive.
        min_ratio: smallest value over recent level that is worth an alert.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, false_alerts_per_day: float, grain_seconds: float, min_ratio: float = 1.25) -> None:
        for name, number in (("false_alerts_per_day", false_alerts_per_day), ("grain_seconds", grain_seconds)):
            if not (math.isfinite(number) and number > 0.0):
                raise ValueError(f"{name} must be positive, not {number}")
        if not (math.isfinite(min_ratio) and min_ratio >= 1.0):
            raise ValueError(f"min_ratio must be at least 1, not {min_ratio}")
        self.min_ratio = min_ratio
        self._probability = min(_MAX_PROBABILITY, false_alerts_per_day * grain_seconds / 86_400.0)
        # Share of the scores that make the tail: 2 %, or more where alerts are wanted more often than that.
        self._share = max(_TAIL_SHARE, 4.0 * self._probability)
        self._long = max(_MIN_HISTORY, round(_LONG_SECONDS / grain_seconds))
        self._short = max(1, round(_SHORT_SECONDS / grain_seconds))
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._deviation = 0.0
        self._scored = 0
        self._base = _LAPLACE_95
        self._peaks: deque[float] = deque(maxlen=_TAIL_PEAKS)
        self._tail = (0.0, 1.0)
        self._started_at: float | None = None
        self._onset_level = 0.0
        self._clear_below = 0.0
        self._peak = 0.0
        self._calm = 0
        self._windows = 0

    def observe(self, end: float, value: float | None, quantiles: Sequence[float] | None = None) -> SpikeState:
        """Judge the window that ended at ``end``.

        ``quantiles`` are those at ``LEVELS`` that were forecast for this window one step before (None: none, the recent
        median stands in). A value that is None, not finite or negative is a gap.
        """
        if value is None or not math.isfinite(value) or value < 0.0:
            return SpikeState(end, self._started_at is not None, started_at=self._started_at)
        if len(self._recent) < _MIN_HISTORY:
            self._recent.append(value)
            return SpikeState(end, False)
        history = np.array(self._recent)
        level = float(np.median(history))
        usable = quantiles is not None and len(quantiles) == len(LEVELS) and all(map(math.isfinite, quantiles))
        centre = quantiles[_MEDIAN] if usable and quantiles is not None else level
        scale = max(self._scale(history, level), 0.02 * level, _TINY)
        covered = False
        if usable and quantiles is not None:
            scale = max(scale, (quantiles[_Q95] - centre) / _LAPLACE_95)
            covered = value <= quantiles[_Q99]
        score = min((value - centre) / scale, _MAX_SCORE)
        threshold = self.threshold
        p_value = self._p_value(score)
        surprise = score > threshold and not covered and value >= self.min_ratio * level
        self._learn(score, threshold, abs(value - centre))
        state = self._advance(end, value, level, surprise)
        self._recent.append(value)
        reference = self._onset_level if state.active or state.ended_at is not None else level
        return SpikeState(
            at=end,
            active=state.active,
            began=state.began,
            score=score,
            threshold=threshold,
            p_value=p_value,
            level=reference,
            ratio=value / reference if reference > 0.0 else None,
            started_at=state.started_at,
            ended_at=state.ended_at,
            peak=state.peak,
        )

    @property
    def threshold(self) -> float:
        """The score to exceed."""
        shape, scale = self._tail
        if len(self._peaks) < _MIN_PEAKS:
            # Exponential tail of a Laplace distribution, with a margin for what is not known yet.
            return _PRIOR_FACTOR * -math.log(2.0 * self._probability)
        odds = self._probability / self._share
        return self._base + (scale * math.expm1(-shape * math.log(odds)) / shape if shape else -scale * math.log(odds))

    def _scale(self, history: np.ndarray[tuple[int], np.dtype[np.float64]], level: float) -> float:
        """Mean absolute deviation, robust: of the recent values, and of the recent residuals."""
        return max(float(np.median(np.abs(history - level))), self._deviation)

    def _p_value(self, score: float) -> float:
        shape, scale = self._tail
        if score <= self._base or len(self._peaks) < _MIN_PEAKS:
            return min(1.0, 0.5 * math.exp(-score)) if score > 0.0 else 1.0
        x = (score - self._base) / scale
        return self._share * ((1.0 + shape * x) ** (-1.0 / shape) if shape else math.exp(-x))

    def _learn(self, score: float, threshold: float, deviation: float) -> None:
        self._scored += 1
        bounded = deviation if self._scored < _MIN_HISTORY else min(deviation, 4.0 * self._deviation + _TINY)
        self._deviation += max(0.03, 1.0 / self._scored) * (bounded - self._deviation)
        if score > self._base:
            self._peaks.append(min(score, 2.0 * threshold) - self._base)
            self._tail = _fit_tail(self._peaks)
        step = max(_TAIL_STEP, 1.0 / self._scored)
        self._base = max(0.5, self._base + step * ((score > self._base) - self._share))

    def _advance(self, end: float, value: float, level: float, surprise: bool) -> SpikeState:
        if self._started_at is None:
            if not surprise:
                return SpikeState(end, False)
            self._started_at, self._onset_level, self._peak = end, level, value
            self._clear_below = level + 0.5 * (value - level)
            self._calm = self._windows = 0
            return SpikeState(end, True, began=True, started_at=end, peak=value)
        self._windows += 1
        self._peak = max(self._peak, value)
        self._calm = self._calm + 1 if value < self._clear_below else 0
        started = self._started_at
        if self._calm >= self._short or self._windows >= self._long:
            self._started_at = None
            return SpikeState(end, False, started_at=started, ended_at=end, peak=self._peak)
        return SpikeState(end, True, started_at=started, peak=self._peak)


def _fit_tail(peaks: Sequence[float]) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution by probability-weighted moments, the shape in [0, 0.5].

    >>> _fit_tail([1.0, 1.0])
    (0.0, 1.0)
    """
    ordered = np.sort(np.array(peaks))
    mean = max(float(ordered.mean()), _TINY)
    count = ordered.size
    weights = (count - np.arange(1, count + 1) + 0.35) / count
    moment = float((weights * ordered).mean())
    spare = mean - 2.0 * moment
    if spare <= 0.0:
        return 0.0, mean
    shape = min(0.5, max(0.0, 2.0 - mean / spare))
    return shape, mean * (1.0 - shape)


def forecast_breach(quantiles: Sequence[float], levels: Sequence[float], capacity: float) -> float:
    """P(demand > ``capacity``) from forecast ``quantiles`` at ascending ``levels``; linear between, exponential beyond.

    >>> round(forecast_breach((1.0, 2.0, 3.0), (0.1, 0.5, 0.9), 2.5), 3)
    0.3

    Raises:
        ValueError: fewer than two quantiles, lengths that differ, levels not ascending in (0, 1), NaN.
    """
    if len(quantiles) != len(levels) or len(levels) < 2:
        raise ValueError(f"{len(quantiles)} quantiles at {len(levels)} levels; the same number, at least 2, is needed")
    if not all(a < b for a, b in zip((0.0, *levels), (*levels, 1.0), strict=True)):
        raise ValueError(f"levels must ascend within (0, 1), not {tuple(levels)}")
    if math.isnan(capacity) or not all(map(math.isfinite, quantiles)):
        raise ValueError("capacity and quantiles must be numbers")
    values = np.maximum.accumulate(np.array(quantiles, dtype=np.float64))
    if capacity < 0.0:
        return 1.0
    if capacity >= values[-1]:
        return _beyond(capacity - float(values[-1]), float(values[-1] - values[-2]), 1 - levels[-2], 1 - levels[-1])
    if capacity < values[0]:
        return 1.0 - _beyond(float(values[0]) - capacity, float(values[1] - values[0]), levels[1], levels[0])
    at = int(np.searchsorted(values, capacity, side="right"))
    low, high = float(values[at - 1]), float(values[at])
    share = (capacity - low) / (high - low)
    return 1.0 - (levels[at - 1] + share * (levels[at] - levels[at - 1]))


def _beyond(distance: float, width: float, inner: float, outer: float) -> float:
    """Tail probability ``distance`` beyond the outermost quantile, log-linear through the two outermost ones."""
    if width <= 0.0:
        return outer if distance <= 0.0 else 0.0
    return outer * math.exp(-distance / width * math.log(inner / outer))
