"""How unlike the past a series is now: unseen patterns, unusual times of day, values beyond all before. Pure."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["DailyTwin", "Extremes", "Neighbours"]

Floats = NDArray[np.float64]

_LAGS = 6
_MEMORY = 512
_NEAREST = 5
#: Vectors that must be known before a distance means anything; windows after which the metric is fitted anew.
_MIN_VECTORS = 2 * _LAGS
_REFIT = 256
_FIRST_REFIT = 20
_RIDGE = 1e-6
_TINY = 1e-12

_DAY_SECONDS = 86_400.0
_SLOT_SECONDS = 1200.0
_AROUND_SECONDS = 3600.0
_DAYS = 7
_MIN_SLOTS = 4

_BLOCK = 256
_BLOCKS = 16


class Neighbours:
    """Distance of the newest values, as a vector, to the nearest of those of a while ago.

    The score of KNN-CAD (Burnaev and Ishimtsev 2016, arXiv:1608.04585): vectors of ``_LAGS`` values in a row, squared
    distances in the metric of their second moments (Mahalanobis), the mean of the ``_NEAREST`` nearest. The memory
    holds ``_MEMORY`` vectors and ends as many windows ago, so that a pattern that goes on stays unlike the past.
    """

    __slots__ = ("_filled", "_metric", "_newest", "_norms", "_raw", "_since", "_slot", "_vectors", "_waiting")

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=_LAGS)
        self._waiting: deque[Floats] = deque()
        self._raw = np.zeros((_MEMORY, _LAGS))
        self._vectors = np.zeros((_MEMORY, _LAGS))
        self._norms = np.zeros(_MEMORY)
        self._metric: Floats | None = None
        self._filled = self._slot = self._since = 0

    def observe(self, value: float) -> float | None:
        """Return the distance, None while too little is known, and learn."""
        self._newest.append(value)
        if len(self._newest) < _LAGS:
            return None
        vector = np.array(self._newest)
        self._since += 1
        if self._filled >= _MIN_VECTORS and (
            self._metric is None or self._since >= min(_REFIT, max(_FIRST_REFIT, self._filled // 2))
        ):
            self._fit()
        distance = None if self._metric is None else self._distance(vector, self._metric)
        if self._filled < _MEMORY:
            self._store(vector)
        else:
            self._waiting.append(vector)
            if len(self._waiting) > _MEMORY:
                self._store(self._waiting.popleft())
        return distance

    def miss(self) -> None:
        """A window is missing: values on either side of it are not in a row."""
        self._newest.clear()

    def _distance(self, vector: Floats, metric: Floats) -> float:
        here = vector @ metric
        squares = self._norms[: self._filled] - 2.0 * (self._vectors[: self._filled] @ here)
        nearest = min(_NEAREST, self._filled - 1)
        squares.partition(nearest)
        return max(0.0, float(squares[:nearest].sum()) / nearest + float(here @ here))

    def _store(self, vector: Floats) -> None:
        slot = self._slot
        self._raw[slot] = vector
        if self._metric is not None:
            seen = vector @ self._metric
            self._vectors[slot] = seen
            self._norms[slot] = seen @ seen
        self._slot = (slot + 1) % _MEMORY
        self._filled = min(_MEMORY, self._filled + 1)

    def _fit(self) -> None:
        raw = self._raw[: self._filled]
        moments = raw.T @ raw / self._filled
        moments += np.eye(_LAGS) * (_RIDGE * float(np.trace(moments)) / _LAGS + _TINY)
        self._metric = np.linalg.inv(np.linalg.cholesky(moments)).T
        self._vectors[: self._filled] = raw @ self._metric
        self._norms = np.einsum("ij,ij->i", self._vectors, self._vectors)
        self._since = 0


class DailyTwin:
    """Distance of the newest 20 minutes to the nearest values about the same time on the seven days before.

    Means of 20 minutes (of one window where it is longer) are kept by the slot of the day they fall in; an hour on
    either side counts as the same time. Nothing is said where a window is longer than six hours.
    """

    __slots__ = ("_newest", "_reach", "_seconds", "_slot", "_sum", "_table", "_taken")

    def __init__(self, grain_seconds: float) -> None:
        self._seconds = max(_SLOT_SECONDS, grain_seconds)
        slots = round(_DAY_SECONDS / self._seconds)
        self._newest: deque[float] = deque(maxlen=max(1, round(self._seconds / grain_seconds)))
        self._table: Floats | None = None
        if slots >= _MIN_SLOTS:
            around = max(1, round(_AROUND_SECONDS / self._seconds))
            back = np.arange(1, _DAYS + 1) * slots
            self._reach = (np.arange(-around, around + 1)[:, None] - back).ravel()
            self._table = np.full((_DAYS + 1) * slots, np.nan)
        self._slot: int | None = None
        self._sum = 0.0
        self._taken = 0

    def observe(self, end: float, value: float) -> float | None:
        """Return the distance, None where no such time is known, and learn; ``end`` in epoch seconds, not falling."""
        table = self._table
        if table is None:
            return None
        self._newest.append(value)
        slot = math.floor(end / self._seconds)
        if self._slot is None or slot > self._slot:
            self._turn(table, slot)
        self._sum += value
        self._taken += 1
        here = sum(self._newest) / len(self._newest)
        known = np.abs(table[(slot + self._reach) % table.size] - here)
        nearest = float(np.fmin.reduce(known))
        return None if math.isnan(nearest) else nearest

    def _turn(self, table: Floats, slot: int) -> None:
        """Keep the mean of the slot that is over; those skipped are unknown."""
        if self._slot is not None:
            skipped = min(slot - self._slot, table.size)
            table[(slot - 1 - np.arange(skipped)) % table.size] = np.nan
            if slot - self._slot <= table.size and self._taken:
                table[self._slot % table.size] = self._sum / self._taken
        self._slot, self._sum, self._taken = slot, 0.0, 0


class Extremes:
    """How far a value lies beyond all before, in units of their range. Before: 4,096 windows, in blocks."""

    __slots__ = ("_blocks", "_count", "_high", "_low", "_old_high", "_old_low")

    def __init__(self) -> None:
        self._blocks: deque[tuple[float, float]] = deque(maxlen=_BLOCKS)
        self._low = self._old_low = math.inf
        self._high = self._old_high = -math.inf
        self._count = 0

    def observe(self, value: float) -> float | None:
        """Return the excess, None for the first value, and learn."""
        low, high = min(self._low, self._old_low), max(self._high, self._old_high)
        excess = None if low > high else max(0.0, value - high, low - value) / max(high - low, _TINY)
        self._low, self._high = min(self._low, value), max(self._high, value)
        self._count += 1
        if self._count == _BLOCK:
            self._blocks.append((self._low, self._high))
            self._old_low = min(low for low, _ in self._blocks)
            self._old_high = max(high for _, high in self._blocks)
            self._low, self._high, self._count = math.inf, -math.inf, 0
        return excess
