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
from pipeline.forecast.delay import which
from pipeline.forecast.model import LEVELS

__all__ = ["QUANTILES", "WIDTH", "QuantileBands"]

Singles = NDArray[np.float32]

_LEVELS: Singles = np.array(LEVELS, dtype=np.float32)
_MEDIAN = LEVELS.index(0.5)
# Mean absolute residual = 1: the quantiles of a Laplace distribution, heavier than a normal one.
_START = np.where(_LEVELS < 0.5, np.log(2 * _LEVELS), -np.log(2 * (1 - _LEVELS))).astype(np.float32)
# Forgetting per band: short memory, long memory, proportional to the forecast, proportional to the disagreement.
_SCALE_RATE: Singles = np.array([0.03, 0.0007, 0.002, 0.002], dtype=np.float32)
_STEP = 0.02
# The pool already aims at the median: its own shift only takes out a lasting bias.
_PACE = np.where(_LEVELS == 0.5, 0.05, 1.0).astype(np.float32)
_BANDS = _SCALE_RATE.size
# Columns of a row that waits for its label: scale per band, the two units that vary, quantiles minus point.
#: Where the quantiles begin in such a row.
QUANTILES = _BANDS + 2
#: Numbers in such a row.
WIDTH = QUANTILES + _LEVELS.size
_PINBALL_RENEWAL = 0.002
_PINBALL_RATE = 20.0
_OUTER_STEP = 0.05
_MIN_MATURED = 5
#: Until this many labels the quantiles learn faster.
_YOUNG = round(0.5 / _STEP)
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
        # Mean absolute residual and mean unit, per band.
        self._means: Singles = np.zeros((2, horizons, _BANDS), dtype=np.float32)
        # Quantiles in units of each band's scale; last, what the outer loop adds, in units of the mean scale.
        self._theta: Singles = np.tile(_START, (horizons, _BANDS + 1, 1))
        self._theta[:, _BANDS] = 0.0
        self._pinball: Singles = np.zeros((horizons, _BANDS, _LEVELS.size), dtype=np.float32)
        self._pace: Singles = np.tile(_STEP * _PACE, (horizons, _BANDS + 1, 1))
        self._pace[:, _BANDS] = (_OUTER_STEP / np.sqrt(context.steps))[:, None] * _PACE
        self.matured = np.zeros(horizons, dtype=np.int64)

    def learn(self, miss: Singles, issued: Singles, matured: NDArray[np.bool_]) -> None:
        """Learn from what ``issue`` gave for the newest window.

        Args:
            miss: the window's value minus the points, ``(horizons, 1)``.
            issued: the rows of ``issue``, ``(horizons, WIDTH)``.
            matured: for which horizons they exist, ``(horizons,)``.
        """
        at = which(matured)
        self.matured += matured
        residual, issued = miss[at], issued[at]
        scales = np.maximum(issued[:, :_BANDS], TINY)
        # One burst must not stretch the bands for a day.
        bound = _BURST * scales
        young = self.matured[-1] <= _YOUNG
        if young:
            bound[self.matured[at] <= _MIN_MATURED] = np.inf
        means = np.empty((2, *scales.shape), dtype=np.float32)
        np.minimum(np.abs(residual), bound, out=means[0])
        means[1, :, :2] = 1.0
        means[1, :, 2:] = issued[:, _BANDS:QUANTILES]
        means -= self._means[:, at]
        means *= _SCALE_RATE
        self._means[:, at] += means
        # Per band and for the outcome: pinball loss and its slope; below the quantile the level minus one, else the
        # level.
        excess = np.empty((len(issued), _BANDS + 1, _LEVELS.size), dtype=np.float32)
        np.subtract((residual / scales)[:, :, None], self._theta[at, :_BANDS], out=excess[:, :_BANDS])
        np.subtract(residual, issued[:, QUANTILES:], out=excess[:, _BANDS])
        slope = _LEVELS - (excess <= 0.0)
        loss = excess[:, :_BANDS] * slope[:, :_BANDS]
        loss *= scales[:, :, None]
        loss /= np.maximum(np.add.reduce(loss, axis=1, keepdims=True) / _BANDS, TINY)
        np.minimum(loss, _BURST, out=loss)
        loss -= self._pinball[at]
        loss *= _PINBALL_RENEWAL
        self._pinball[at] += loss
        pace = self._pace
        if young:
            pace = pace.copy()
            pace[:, :_BANDS] *= np.maximum(1.0, 0.5 / _STEP / np.maximum(self.matured, 1))[:, None, None]
        slope *= pace[at]
        slope += self._theta[at]
        self._theta[at] = np.minimum(np.maximum(slope, -_LIMIT, out=slope), _LIMIT, out=slope)

    def issue(self, point: Floats, spread: Floats) -> tuple[Floats, Singles]:
        """Quantiles around ``point`` at ``LEVELS``; ``spread`` is the experts' mean distance from the point.

        Bands widen with the age of a gap.

        Returns:
            The quantiles, ascending, non-negative, finite, shape ``(horizons, levels)``; what ``learn`` wants to see
            when the label has come, ``(horizons, WIDTH)``.
        """
        context = self._context
        row = np.empty((point.size, WIDTH), dtype=np.float32)
        scales, units = row[:, :_BANDS], row[:, _BANDS:QUANTILES]
        units[:, 0] = np.maximum(point, 0.01 * context.level)
        units[:, 1] = spread
        np.divide(self._means[0], np.maximum(self._means[1], TINY), out=scales)
        scales[:, 2:] *= units
        # Experts may agree by chance: half of the band stands on the long memory.
        scales[:, 3] = 0.5 * (scales[:, 3] + scales[:, 1])
        if self.matured[-1] < _MIN_MATURED:
            self._warm(scales, point)
        weights = self._pinball - np.minimum.reduce(self._pinball, axis=1, keepdims=True)
        weights *= -_PINBALL_RATE
        np.exp(weights, out=weights)
        weights /= np.add.reduce(weights, axis=1, keepdims=True)
        weights *= self._theta[:, :_BANDS]
        weights *= scales[:, :, None]
        shift = np.add.reduce(weights, axis=1)
        shift += self._theta[:, _BANDS] * (np.add.reduce(scales, axis=1, keepdims=True) / _BANDS)
        if context.age:
            stretch = np.sqrt((context.steps + context.age) / context.steps)[:, None]
            shift *= np.minimum(stretch, _MAX_STRETCH)
        quantiles = np.maximum(point[:, None] + shift, 0.0)
        # Outwards from the median, so that each level keeps hearing about itself; sorting would swap their feedback.
        np.maximum.accumulate(quantiles[:, _MEDIAN:], axis=1, out=quantiles[:, _MEDIAN:])
        quantiles[:, _MEDIAN::-1] = np.minimum.accumulate(quantiles[:, _MEDIAN::-1], axis=1)
        np.subtract(quantiles, point[:, None], out=row[:, QUANTILES:])
        return quantiles, row

    def _warm(self, scales: Singles, point: Floats) -> None:
        """Give horizons without matured residuals a scale: a share of the forecast, or that of a shorter horizon."""
        for at, count in enumerate(self.matured.tolist()):
            if count >= _MIN_MATURED:
                continue
            scales[at] = _COLD_SHARE * max(float(point[at]), 0.01 * self._context.level)
            if at and self.matured[at - 1] >= _MIN_MATURED:
                growth = (self._context.steps[at] / self._context.steps[at - 1]) ** 0.5
                scales[at] = np.maximum(scales[at], scales[at - 1] * growth)
