"""Quantiles around a point forecast, learned online from matured residuals.

Several bands, each the residual's tracked quantiles in units of its own scale (short memory, long memory, proportional
to the forecast, proportional to the experts' disagreement), are aggregated per horizon and level by their pinball
losses; an outer loop moves each level until the issued quantile covers what it promises (quantile tracking as in
Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control for time series prediction"). The tracked median takes
out a lasting bias, as in bias-corrected ACI (arXiv:2604.13253). Feedback for h windows ahead arrives h windows late, so
the outer loop is slower for longer horizons. It is faster at the upper levels while misses have lately been much more
or much less frequent than promised: large residuals come together, and small steps would come too late.

The outer loop runs twice: for windows of which much is expected, more than three parts in ten of the newest week had,
and for the others. Being short costs most when demand is high, so among the first the upper levels aim at a quarter of
the misses that they aim at among the others; together they miss as often as they promise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, Ints
from pipeline.forecast.delay import which
from pipeline.forecast.series_rows import SeriesRows
from pipeline.forecast.types import LEVELS

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
_PACE = np.where(_LEVELS == 0.5, 0.02, 1.0).astype(np.float32)
_INNER_STEP = _STEP * _PACE
_BANDS = _SCALE_RATE.size
# Misses aimed at where little is expected over those where much is, at levels above the third quartile.
_CALM_RATIO = 4.0
_BUSY_RATE = 0.002
_SETTLED = round(1.0 / _BUSY_RATE)
#: The first of the upper levels.
_HIGH = LEVELS.index(0.9)
_PROMISED: Singles = 1.0 - _LEVELS[_HIGH:]
# The share of misses in the newest fifty windows or so, less the promised one, in units of what it is off by when
# misses come independently. Beyond what one miss alone makes, at least one, and up to so much, each makes steps grow by
# this, a window ahead.
_RECENT_RATE, _MOST_SURPRISING, _HASTE = 0.02, 4.0, 1.5
_SURPRISE: Singles = _RECENT_RATE / np.sqrt(_PROMISED * _LEVELS[_HIGH:] * (_RECENT_RATE / 2.0))
_EXPECTED: Singles = _SURPRISE * _PROMISED
_UNSURPRISING: Singles = np.maximum(_SURPRISE, 1.0)
# Columns of a row that waits for its label: the short memory's scale, negative where little is expected; the spread;
# quantiles minus point. The other scales hardly move until then and are made again.
#: Where the quantiles begin in such a row.
QUANTILES = 2
#: Numbers in such a row.
WIDTH = QUANTILES + _LEVELS.size
_PINBALL_RENEWAL = 0.002
_PINBALL_RATE = 10.0
_OUTER_STEP = 0.17
_MIN_MATURED = 5
#: Until this many labels the quantiles learn faster.
_YOUNG = round(0.5 / _STEP)
_COLD_SHARE = 0.3
_MAX_STRETCH = 10.0
_BURST = 10.0
_LIMIT = 30.0
_MAX_RATIO = 1e18


@lru_cache(maxsize=64)
def _rates(steps: tuple[int, ...], haste: float) -> tuple[Singles, Singles, Ints]:
    """The outer loop's steps ``(horizons, levels)``; what a surprising share of misses adds to them ``(horizons, 1)``;
    where in the outer loop's rows each horizon has its first one. The same arrays for all pools, never changed.
    """
    ahead = np.array(steps)[:, None]
    pace = (_OUTER_STEP / np.sqrt(ahead) * _PACE).astype(np.float32)
    return pace, (haste / ahead).astype(np.float32), 2 * np.arange(len(steps))


class QuantileBands:
    """Bands of several series for all horizons, which are the rows of all arrays.

    Args:
        rows: the series.
    """

    def __init__(self, rows: SeriesRows) -> None:
        self._rows = rows
        horizons = rows.steps.size
        # Mean absolute residual and mean unit, per band.
        self._means: Singles = np.zeros((2, horizons, _BANDS), dtype=np.float32)
        # Quantiles in units of each band's scale.
        self._theta: Singles = np.tile(_START, (horizons, _BANDS, 1))
        # What the outer loop adds, in units of the mean scale, where little and where much is expected.
        self._outer: Singles = np.zeros((horizons, 2, _LEVELS.size), dtype=np.float32)
        # The share of windows in which much is expected; how surprising recent misses at the upper levels are.
        self._recent: Singles = np.zeros((horizons, 1 + _PROMISED.size), dtype=np.float32)
        self._recent[:, 0] = 1.0
        self._pinball: Singles = np.zeros((horizons, _BANDS, _LEVELS.size), dtype=np.float32)
        self._set_rates()
        self.matured = np.zeros(horizons, dtype=np.int32)
        # The labels of the longest horizon, of the series that has fewest.
        self._least = 0

    def __getstate__(self) -> dict[str, Any]:
        """The learning rates follow from the horizons."""
        state = self.__dict__.copy()
        del state["_pace"], state["_hurry"], state["_each"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the learning rates again."""
        self.__dict__.update(state)
        self._set_rates()

    def _set_rates(self) -> None:
        self._pace, self._hurry, self._each = _rates(tuple(self._rows.steps.tolist()), _HASTE)

    def keep(self, series: int) -> None:
        """Forget all but one series."""
        at = self._rows.of(series)
        self._rows = self._rows.only(series)
        self._means = self._means[:, at].copy()
        for name in ("_theta", "_outer", "_recent", "_pinball", "matured"):
            setattr(self, name, getattr(self, name)[at].copy())
        self._least = int(self.matured[-1])
        self._set_rates()

    def learn(self, point: Singles, miss: Singles, issued: Singles, matured: NDArray[np.bool_]) -> Singles:
        """Learn from what ``issue`` gave for the newest window.

        Args:
            point: the points that quantiles were issued around, ``(horizons, 1)``.
            miss: the window's value minus the points, ``(horizons, 1)``.
            issued: the rows of ``issue``, ``(horizons, WIDTH)``.
            matured: for which horizons they exist, ``(horizons,)``.

        Returns:
            The window's value minus the quantiles of the matured horizons, ``(matured, levels)``.
        """
        at = which(matured)
        self.matured += matured
        if self._least < _SETTLED:
            self._least = int(self.matured[self._rows.longest].min())
        residual, issued = miss[at], issued[at]
        scales, units = self._scales(at, np.maximum(point, self._rows.floor(np.float32)[:, None])[at, 0], issued[:, 1])
        np.abs(issued[:, 0], out=scales[:, 0])
        np.maximum(scales, TINY, out=scales)
        # One burst must not stretch the bands for a day.
        bound = _BURST * scales
        young = self._with_fewer(_YOUNG + 1)
        if young is not None:
            bound[young[at] & (self.matured[at] <= _MIN_MATURED)] = np.inf
        means = np.empty((2, *scales.shape), dtype=np.float32)
        np.minimum(np.abs(residual), bound, out=means[0])
        means[1, :, :2] = 1.0
        means[1, :, 2:] = units
        means -= self._means[:, at]
        means *= _SCALE_RATE
        self._means[:, at] += means
        # Per band and for the outcome: pinball loss and its slope; below the quantile the level minus one, else the
        # level.
        excess = np.empty((len(issued), _BANDS + 1, _LEVELS.size), dtype=np.float32)
        np.subtract((residual / scales)[:, :, None], self._theta[at], out=excess[:, :_BANDS])
        np.subtract(residual, issued[:, QUANTILES:], out=excess[:, _BANDS])
        slope = _LEVELS - (excess <= 0.0)
        loss = excess[:, :_BANDS] * slope[:, :_BANDS]
        loss *= scales[:, :, None]
        loss /= np.maximum(np.add.reduce(loss, axis=1, keepdims=True) / _BANDS, TINY)
        np.minimum(loss, _BURST, out=loss)
        loss -= self._pinball[at]
        loss *= _PINBALL_RENEWAL
        self._pinball[at] += loss
        inner = slope[:, :_BANDS] * _INNER_STEP
        if young is not None:
            pace = np.maximum(1.0, 0.5 / _STEP / np.maximum(self.matured[at], 1))
            inner *= np.where(young[at], pace, 1.0)[:, None, None]
        inner += self._theta[at]
        self._theta[at] = np.minimum(np.maximum(inner, -_LIMIT, out=inner), _LIMIT, out=inner)
        self._learn_outer(at, issued[:, 0] > 0.0, slope[:, _BANDS])
        return excess[:, _BANDS]

    def _learn_outer(self, at: slice | NDArray[np.intp], busy: NDArray[np.bool_], slope: Singles) -> None:
        """Move what the outer loop adds by ``slope`` ``(matured, levels)``, which is zero in the mean on target."""
        share = self._recent[at, 0]
        moved = _BUSY_RATE * (busy - share)
        unsettled = self._with_fewer(_SETTLED)
        if unsettled is not None:
            rate = np.maximum(_BUSY_RATE, 1.0 / self.matured[at])
            moved = np.where(unsettled[at], rate * (busy - share), moved)
        share += moved
        self._recent[at, 0] = share
        # Over what is promised: where little is expected ``_CALM_RATIO`` times as many misses as where much is.
        misses = (_CALM_RATIO - (_CALM_RATIO - 1.0) * busy) / (_CALM_RATIO - (_CALM_RATIO - 1.0) * share)
        slope[:, _HIGH:] += (1.0 - misses)[:, None] * _PROMISED
        slope[:, _HIGH:] *= self._haste(at, slope[:, _HIGH:] > 0.0)
        slope *= self._pace[at]
        place = self._each[at] + busy
        outer = self._outer.reshape(-1, _LEVELS.size)
        slope += outer.take(place, axis=0)
        outer[place] = np.minimum(np.maximum(slope, -_LIMIT, out=slope), _LIMIT, out=slope)

    def _with_fewer(self, labels: int) -> NDArray[np.bool_] | None:
        """The rows of the series whose longest horizon has fewer labels; None where none has."""
        if self._least >= labels:
            return None
        few: NDArray[np.bool_] = (self.matured[self._rows.longest] < labels).repeat(self._rows.horizons)
        return few

    def _haste(self, at: slice | NDArray[np.intp], missed: NDArray[np.bool_]) -> Singles:
        """How much faster the outer loop goes at the upper levels, ``(matured, levels)``, given the newest misses."""
        recent = self._recent[at, 1:]
        recent *= 1.0 - _RECENT_RATE
        recent += missed * _SURPRISE
        recent -= _EXPECTED
        self._recent[at, 1:] = np.minimum(recent, _MOST_SURPRISING, out=recent)
        haste = np.abs(recent)
        haste -= _UNSURPRISING
        np.maximum(haste, 0.0, out=haste)
        haste *= self._hurry[at]
        haste += 1.0
        return haste

    def _scales(
        self, at: slice | NDArray[np.intp], point: NDArray[np.floating], spread: NDArray[np.floating]
    ) -> tuple[Singles, Singles]:
        """Scales per band ``(horizons, bands)``, and the two units that vary, ``(horizons, 2)``."""
        units = np.empty((point.size, 2), dtype=np.float32)
        units[:, 0], units[:, 1] = point, spread
        means = self._means[:, at]
        # Bounded, so that no unit makes it overflow.
        scales = np.minimum(means[0] / np.maximum(means[1], TINY), _MAX_RATIO)
        scales[:, 2:] *= units
        # Experts may agree by chance: half of the band stands on the long memory.
        scales[:, 3] += scales[:, 1]
        scales[:, 3] *= 0.5
        return scales, units

    def issue(self, point: Floats, spread: Floats) -> tuple[Floats, Singles]:
        """Quantiles around ``point`` at ``LEVELS``; ``spread`` is the experts' mean distance from the point.

        Bands widen with the age of a gap.

        Returns:
            The quantiles, ascending, non-negative, finite, shape ``(horizons, levels)``; what ``learn`` wants to see
            when the label has come, ``(horizons, WIDTH)``.
        """
        contexts, steps = self._rows.contexts, self._rows.steps
        row = np.empty((point.size, WIDTH), dtype=np.float32)
        scales, _ = self._scales(slice(None), np.maximum(point, self._rows.floor()), spread)
        if self._least < _MIN_MATURED:
            self._warm(scales, point)
        busy = point > self._rows.repeat([context.week.busy_above for context in contexts])
        row[:, 0], row[:, 1] = np.where(busy, scales[:, 0], -scales[:, 0]), spread
        weights = self._pinball - np.minimum.reduce(self._pinball, axis=1, keepdims=True)
        weights *= -_PINBALL_RATE
        np.exp(weights, out=weights)
        weights /= np.add.reduce(weights, axis=1, keepdims=True)
        weights *= self._theta
        weights *= scales[:, :, None]
        shift = np.add.reduce(weights, axis=1)
        shift += self._outer.reshape(-1, _LEVELS.size).take(self._each + busy, axis=0) * (
            np.add.reduce(scales, axis=1, keepdims=True) / _BANDS
        )
        ages = [context.age for context in contexts]
        if any(ages):
            stretch = np.sqrt((steps + self._rows.repeat(ages, np.int64)) / steps)[:, None]
            shift *= np.minimum(stretch, _MAX_STRETCH)
        quantiles = np.maximum(point[:, None] + shift, 0.0)
        # Outwards from the median, so that each level keeps hearing about itself; sorting would swap their feedback.
        np.maximum.accumulate(quantiles[:, _MEDIAN:], axis=1, out=quantiles[:, _MEDIAN:])
        quantiles[:, _MEDIAN::-1] = np.minimum.accumulate(quantiles[:, _MEDIAN::-1], axis=1)
        np.subtract(quantiles, point[:, None], out=row[:, QUANTILES:])
        return quantiles, row

    def _warm(self, scales: Singles, point: Floats) -> None:
        """Give horizons without matured residuals a scale: a share of the forecast, or that of a shorter horizon."""
        cold = self._with_fewer(_MIN_MATURED)
        if cold is None:
            return
        steps, horizons, floor = self._rows.steps, self._rows.horizons, self._rows.floor()
        for at in np.flatnonzero(cold & (self.matured < _MIN_MATURED)).tolist():
            scales[at] = _COLD_SHARE * max(float(point[at]), float(floor[at]))
            if at % horizons and self.matured[at - 1] >= _MIN_MATURED:
                growth = (steps[at] / steps[at - 1]) ** 0.5
                scales[at] = np.maximum(scales[at], scales[at - 1] * growth)
