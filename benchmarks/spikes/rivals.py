"""Detectors that users would pick instead: a score per window, higher is more surprising.

They have no rate of false alerts to set, so ``run.py`` gives each the best threshold per series, chosen with the labels
in view: an upper bound of what a user could reach. Every score looks at the past only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from river import anomaly, drift

Floats = NDArray[np.float64]
_WINDOW = 60


def _history(values: Floats) -> NDArray[np.float64]:
    padded = np.concatenate([np.full(_WINDOW, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: len(values)]


def _ready(score: Floats) -> Floats:
    score = np.nan_to_num(score, nan=0.0, posinf=1e6, neginf=0.0)
    score[:8] = 0.0
    return score


def rolling_z(values: Floats) -> Floats:
    """Absolute z-score against the 60 windows before."""
    past = _history(values)
    mean, deviation = np.nanmean(past, axis=1), np.nanstd(past, axis=1)
    return _ready(np.abs(values - mean) / np.maximum(deviation, 1e-9 + 0.02 * np.abs(mean)))


def ewma_z(values: Floats) -> Floats:
    """Absolute z-score against an exponentially weighted mean and variance (0.05)."""
    mean, variance = float(values[0]), 0.0
    score = np.zeros(len(values))
    for at, value in enumerate(values.tolist()):
        score[at] = abs(value - mean) / max(math.sqrt(variance), 1e-9 + 0.02 * abs(mean))
        rate = max(0.05, 1.0 / (at + 1))
        change = value - mean
        mean += rate * change
        variance = (1.0 - rate) * (variance + rate * change * change)
    return _ready(score)


def half_space_trees(values: Floats) -> Floats:
    """River's HalfSpaceTrees on the value scaled to [0, 1] by the extremes seen so far."""
    model = anomaly.HalfSpaceTrees(seed=7)
    low = high = float(values[0])
    score = np.zeros(len(values))
    for at, value in enumerate(values.tolist()):
        low, high = min(low, value), max(high, value)
        scaled = {"x": (value - low) / (high - low) if high > low else 0.5}
        score[at] = model.score_one(scaled)
        model.learn_one(scaled)
    return _ready(score)


def gaussian_scorer(values: Floats) -> Floats:
    """River's GaussianScorer over 300 windows, as −log10 of the tail left over."""
    model = anomaly.GaussianScorer(window_size=300, grace_period=20)
    score = np.zeros(len(values))
    for at, value in enumerate(values.tolist()):
        score[at] = -math.log10(max(1e-300, 1.0 - model.score_one(None, value)))
        model.learn_one(None, value)
    return _ready(score)


def _drift(model: drift.ADWIN | drift.PageHinkley, values: Floats) -> Floats:
    score = np.zeros(len(values))
    mean = 0.0
    for at, value in enumerate(values.tolist()):
        mean += max(0.02, 1.0 / (at + 1)) * (abs(value) - mean)
        model.update(value / mean if mean else 0.0)
        score[at] = float(model.drift_detected)
    return _ready(score)


def adwin(values: Floats) -> Floats:
    """River's ADWIN on the value over its running mean; 1 where it says drift."""
    return _drift(drift.ADWIN(), values)


def page_hinkley(values: Floats) -> Floats:
    """River's PageHinkley (threshold 1) on the value over its running mean; 1 where it says drift."""
    return _drift(drift.PageHinkley(threshold=1.0), values)


def over_average(values: Floats) -> Floats:
    """Prometheus: ``x / avg_over_time(x[60 windows])``; the usual rule alerts above 2."""
    return _ready(values / np.maximum(np.nanmean(_history(values), axis=1), 1e-9))


def over_predict_linear(values: Floats) -> Floats:
    """Prometheus: ``x / predict_linear(x[60 windows], one window)``, the line fitted by least squares."""
    past: deque[float] = deque(maxlen=_WINDOW)
    score = np.zeros(len(values))
    for at, value in enumerate(values.tolist()):
        if len(past) >= 8:
            y = np.array(past)
            x = np.arange(y.size) - y.size
            _, level = np.polyfit(x, y, 1)
            score[at] = value / max(level, 1e-9 + 0.02 * abs(float(y.mean())))
        past.append(value)
    return _ready(score)


RIVALS: dict[str, Callable[[Floats], Floats]] = {
    "rolling z (60)": rolling_z,
    "EWMA z": ewma_z,
    "River HalfSpaceTrees": half_space_trees,
    "River GaussianScorer": gaussian_scorer,
    "River PageHinkley": page_hinkley,
    "River ADWIN": adwin,
    "x over avg_over_time": over_average,
    "x over predict_linear": over_predict_linear,
}
#: Rules that are used as they are, with their usual threshold.
FIXED_RULES = {"x > 2 * avg_over_time": (over_average, 2.0), "x > 2 * predict_linear": (over_predict_linear, 2.0)}
