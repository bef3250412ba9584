"""Quantiles around a point forecast, learned online from matured residuals.

Several bands, each the residual's tracked quantiles in units of its own scale (short memory, long memory, proportional
to the forecast, proportional to the experts' disagreement), are aggregated per horizon and level by their pinball
losses; an outer loop moves each level until the issued quantile covers what it promises (quantile tracking as in
Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control for time series prediction"). The tracked median takes
out a lasting bias, as in bias-corrected ACI (arXiv:2604.13253). Feedback for h windows ahead arrives h windows late, so
the outer loop is slower for longer horizons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.model import LEVELS

__all__ = ["QuantileBands"]

_LEVELS = np.array(LEVELS)
_MEDIAN = LEVELS.index(0.5)
# Mean absolute residual = 1: the quantiles of a Laplace distribution, heavier than a normal one.
_START = np.where(_LEVELS < 0.5, np.log(2 * _LEVELS), -np.log(2 * (1 - _LEVELS)))
# Forgetting per band: short memory, long memory, proportional to the forecast, proportional to the disagreement.
_SCALE_RATE = np.array([0.03, 0.0007, 0.002, 0.002])
_STEP = 0.02
# The pool already aims at the median: its own shift only takes out a lasting bias.
_PACE = np.where(_LEVELS == 0.5, 0.05, 1.0)
_BANDS = _SCALE_RATE.size
# Columns of a row that waits for its label: point, scale per band, the two units that vary, quantiles.
_UNITS = 1 + _BANDS
_QUANTILES = _UNITS + 2
_PINBALL_MEMORY = 0.998
_PINBALL_RATE = 20.0
_OUTER_STEP = 0.05
_MIN_MATURED = 5
_COLD_SHARE = 0.3
_MAX_STRETCH = 10.0
_BURST = 10.0
_LIMIT = 30.0


class QuantileBands:
    """Bands of one series for all horizons.

    Args:
        context: the series.
    """

    def __init__(self, context: SeriesContext) -> None:
        self._context = context
        horizons = context.steps.size
        self._ring = DelayRing(context.steps, _QUANTILES + _LEVELS.size)
        self._residual: Floats = np.zeros((horizons, _BANDS))
        self._unit: Floats = np.zeros((horizons, _BANDS))
        self._theta: Floats = np.tile(_START, (horizons, _BANDS, 1))
        self._pinball: Floats = np.zeros((horizons, _BANDS, _LEVELS.size))
        self._outer: Floats = np.zeros((horizons, _LEVELS.size))
        self._outer_step: Floats = (_OUTER_STEP / np.sqrt(context.steps))[:, None]

        self.matured = np.zeros(horizons, dtype=np.int64)

    def learn(self, y: float) -> tuple[Floats, NDArray[np.bool_]]:
        """Learn from the quantiles that were issued for the newest window, whose value is ``y``.

        Returns:
            The issued quantiles ``(horizons, levels)`` and whether each horizon's exist; for scoring.
        """
        issued, matured = self._ring.take(self._context.index)
        quantiles = issued[:, _QUANTILES:]
        if matured.any():
            self._learn(y, issued, quantiles, matured)
        return quantiles, matured

    def _learn(self, y: float, issued: Floats, quantiles: Floats, matured: NDArray[np.bool_]) -> None:
        live = matured[:, None]
        self.matured += matured
        residual = (y - issued[:, 0])[:, None]
        scales = np.maximum(issued[:, 1:_UNITS], TINY)
        # One burst must not stretch the bands for a day.
        bound = np.where(self.matured[:, None] > _MIN_MATURED, _BURST * scales, np.inf)
        rate = _SCALE_RATE * live
        self._residual += rate * (np.minimum(np.abs(residual), bound) - self._residual)
        self._unit[:, :2] += rate[:, :2] * (1.0 - self._unit[:, :2])
        self._unit[:, 2:] += rate[:, 2:] * (issued[:, _UNITS:_QUANTILES] - self._unit[:, 2:])
        excess = (residual / scales)[:, :, None] - self._theta
        below = excess <= 0.0
        loss = (_LEVELS - below) * excess * scales[:, :, None]
        loss /= np.maximum(loss.sum(axis=1, keepdims=True) / _BANDS, TINY)
        live3 = live[:, :, None]
        self._pinball += (1.0 - _PINBALL_MEMORY) * live3 * (np.minimum(loss, _BURST) - self._pinball)
        step = np.maximum(_STEP, 0.5 / np.maximum(self.matured, 1))[:, None, None] * live3
        theta = self._theta + step * _PACE * (_LEVELS - below)
        self._theta = np.minimum(np.maximum(theta, -_LIMIT), _LIMIT)
        outer = self._outer + self._outer_step * live * _PACE * (_LEVELS - (y <= quantiles))
        self._outer = np.minimum(np.maximum(outer, -_LIMIT), _LIMIT)

    def issue(self, point: Floats, spread: Floats) -> Floats:
        """Quantiles around ``point`` at ``LEVELS``, shape ``(horizons, levels)``: ascending, non-negative, finite.

        ``spread`` is the experts' mean distance from the point. Bands widen with the age of a gap.
        """
        context = self._context
        units = np.empty((point.size, 2))
        units[:, 0] = np.maximum(point, 0.01 * context.level)
        units[:, 1] = spread
        scales = self._residual / np.maximum(self._unit, TINY)
        scales[:, 2:] *= units
        # Experts may agree by chance: half of the band stands on the long memory.
        scales[:, 3] = 0.5 * (scales[:, 3] + scales[:, 1])
        if self.matured[-1] < _MIN_MATURED:
            self._warm(scales, point)
        pinball = self._pinball - self._pinball.min(axis=1, keepdims=True)
        weights = np.exp(-_PINBALL_RATE * pinball)
        weights /= weights.sum(axis=1, keepdims=True)
        shift = (weights * self._theta * scales[:, :, None]).sum(axis=1) + self._outer * scales.mean(
            axis=1, keepdims=True
        )
        if context.age:
            stretch = np.sqrt((context.steps + context.age) / context.steps)[:, None]
            shift *= np.minimum(stretch, _MAX_STRETCH)
        quantiles = np.maximum(point[:, None] + shift, 0.0)
        # Outwards from the median, so that each level keeps hearing about itself; sorting would swap their feedback.
        np.maximum.accumulate(quantiles[:, _MEDIAN:], axis=1, out=quantiles[:, _MEDIAN:])
        quantiles[:, _MEDIAN::-1] = np.minimum.accumulate(quantiles[:, _MEDIAN::-1], axis=1)
        if context.age == 0:
            self._ring.put(context.index, np.concatenate((point[:, None], scales, units, quantiles), axis=1))
        return np.asarray(quantiles)

    def _warm(self, scales: Floats, point: Floats) -> None:
        """Give horizons without matured residuals a scale: a share of the forecast, or that of a shorter horizon."""
        for at, count in enumerate(self.matured.tolist()):
            if count >= _MIN_MATURED:
                continue
            scales[at] = _COLD_SHARE * max(float(point[at]), 0.01 * self._context.level)
            if at and self.matured[at - 1] >= _MIN_MATURED:
                growth = (self._context.steps[at] / self._context.steps[at - 1]) ** 0.5
                scales[at] = np.maximum(scales[at], scales[at - 1] * growth)
