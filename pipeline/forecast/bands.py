"""Quantiles around a point forecast, learned online from matured residuals.

Several bands, each the residual's tracked quantiles in units of its own scale (short memory, long memory, proportional to
the forecast, proportional to the experts' disagreement), are aggregated per horizon and level by their pinball losses; an
outer loop moves each level until the issued quantile covers what it promises (quantile tracking as in Angelopoulos, Candès
and Tibshirani 2023, "Conformal PID control for time series prediction"; the tracked median corrects the bias, as in
bias-corrected ACI, arXiv:2604.13253). Feedback for h windows ahead arrives h windows late, so the outer loop is slower
for longer horizons.
"""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.model import LEVELS

__all__ = ["QuantileBands"]

_LEVELS = np.array(LEVELS)
# Mean absolute residual = 1: the quantiles of a Laplace distribution, heavier than a normal one.
_START = np.where(_LEVELS < 0.5, np.log(2 * _LEVELS), -np.log(2 * (1 - _LEVELS)))
# Per band: forgetting of its scale, and the step of its tracked quantiles.
_SCALE_RATE = np.array([0.03, 0.0007, 0.002, 0.002])
_STEP = np.array([0.02, 0.02, 0.02, 0.02])[:, None]
_BANDS = _SCALE_RATE.size
_PINBALL_MEMORY = 0.998
_PINBALL_RATE = 2.0
_OUTER_STEP = 0.05
_MIN_MATURED = 5
_COLD_SHARE = 0.3
_MAX_STRETCH = 10.0


class QuantileBands:
    """Bands of one series for all horizons.

    Args:
        context: the series.
    """

    def __init__(self, context: SeriesContext) -> None:
        self._context = context
        horizons = context.steps.size
        self._ring = DelayRing(context.steps, 1 + 2 * _BANDS + _LEVELS.size)
        self._residual: Floats = np.zeros((horizons, _BANDS))
        self._unit: Floats = np.zeros((horizons, _BANDS))
        self._theta: Floats = np.tile(_START, (horizons, _BANDS, 1))
        self._pinball: Floats = np.zeros((horizons, _BANDS, _LEVELS.size))
        self._outer: Floats = np.zeros((horizons, _LEVELS.size))
        self._outer_step: Floats = (_OUTER_STEP / np.sqrt(context.steps))[:, None]
        self.matured = np.zeros(horizons, dtype=np.int64)

    def learn(self, y: float) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Learn from the quantiles that were issued for the newest window, whose value is ``y``.

        Returns:
            The issued quantiles ``(horizons, levels)`` and whether each horizon's exist; for scoring.
        """
        issued, matured = self._ring.take(self._context.index)
        quantiles = issued[:, 1 + 2 * _BANDS :]
        if matured.any():
            self._learn(y, issued, quantiles, matured)
        return quantiles, matured

    def _learn(self, y: float, issued: Floats, quantiles: Floats, matured: np.ndarray) -> None:  # type: ignore[type-arg]
        point, scales, units = issued[:, 0], issued[:, 1 : 1 + _BANDS], issued[:, 1 + _BANDS : 1 + 2 * _BANDS]
        self.matured += matured
        live = matured[:, None]
        residual = (y - point)[:, None]
        scales = np.maximum(scales, TINY)
        # One burst must not stretch the bands for a day.
        size = np.minimum(np.abs(residual), np.where(self.matured[:, None] > _MIN_MATURED, 10.0 * scales, np.inf))
        rate = np.where(live, _SCALE_RATE, 0.0)
        self._residual += rate * (size - self._residual)
        self._unit += rate * (units - self._unit)
        z = (residual / scales)[:, :, None]
        excess = z - self._theta
        below = excess <= 0.0
        live3 = live[:, :, None]
        loss = np.where(below, (_LEVELS - 1.0) * excess, _LEVELS * excess) * scales[:, :, None]
        loss /= np.maximum(loss.mean(axis=1, keepdims=True), TINY)
        self._pinball = np.where(live3, _PINBALL_MEMORY * self._pinball + (1 - _PINBALL_MEMORY) * np.minimum(loss, 20.0), self._pinball)
        step = np.maximum(_STEP, 0.5 / np.maximum(self.matured, 1)[:, None, None])
        self._theta = np.clip(self._theta + np.where(live3, step * (_LEVELS - below) , 0.0), -30.0, 30.0)
        covered = y <= quantiles
        self._outer = np.clip(self._outer + np.where(live, self._outer_step * (_LEVELS - covered), 0.0), -10.0, 10.0)

    def issue(self, point: Floats, spread: Floats) -> Floats:
        """Quantiles around ``point`` at ``LEVELS``, shape ``(horizons, levels)``: ascending, non-negative, finite.

        ``spread`` is the experts' mean distance from the point. Bands widen with the age of a gap.
        """
        context = self._context
        units = np.empty((point.size, _BANDS))
        units[:, :2] = 1.0
        units[:, 2] = np.maximum(point, 0.01 * context.level)
        units[:, 3] = spread
        scales = self._residual * units / np.maximum(self._unit, TINY)
        scales[:, 3] = 0.5 * (scales[:, 3] + scales[:, 1])
        if self.matured[-1] < _MIN_MATURED:
            self._warm(scales, point)
        pinball = self._pinball - self._pinball.min(axis=1, keepdims=True)
        weights = np.exp(-_PINBALL_RATE * 10.0 * pinball)
        weights /= weights.sum(axis=1, keepdims=True)
        shift = (weights * self._theta * scales[:, :, None]).sum(axis=1) + self._outer * scales.mean(axis=1, keepdims=True)
        if context.age:
            stretch = np.sqrt((context.steps + context.age) / context.steps)[:, None]
            shift *= np.minimum(stretch, _MAX_STRETCH)
        quantiles = np.maximum(np.sort(point[:, None] + shift, axis=1), 0.0)
        if context.age == 0:
            self._ring.put(context.index, np.concatenate((point[:, None], scales, units, quantiles), axis=1))
        return quantiles

    def _warm(self, scales: Floats, point: Floats) -> None:
        """Give horizons without matured residuals a scale: a share of the forecast, or that of a shorter horizon."""
        for at, count in enumerate(self.matured.tolist()):
            if count >= _MIN_MATURED:
                continue
            scales[at] = _COLD_SHARE * max(float(point[at]), 0.01 * self._context.level)
            if at and self.matured[at - 1] >= _MIN_MATURED:
                growth = (self._context.steps[at] / self._context.steps[at - 1]) ** 0.5
                scales[at] = np.maximum(scales[at], scales[at - 1] * growth)
