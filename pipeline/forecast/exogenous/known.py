"""What is known from outside at a step: external forecasts by series, and signals as features. Pure and bounded."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.forecast.context import TINY, Floats
from pipeline.forecast.exogenous.rows import ExogenousRow, ExternalForecast, SignalValue
from pipeline.forecast.types import SeriesKey

__all__ = ["NOTHING", "Exogenous", "KnownExogenous"]

#: Between two targets no further apart the forecast is interpolated.
_MAX_GAP_SECONDS = 3600.0
#: Series of which external forecasts are remembered: four of each of a thousand pools.
_MOST_SERIES = 4_000
#: A value that is older says nothing about now.
_STALE_SECONDS = 86_400.0
_LIMIT = 5.0
_RATE = 0.0005


class Exogenous(NamedTuple):
    """What the experts of one series may use in one step.

    ``external`` holds the external forecast by horizon, ``(horizons,)``; None: not for every horizon. ``signals`` is
    ``(signals, 1 + horizons)``: each signal's value now in standard deviations from its mean, and the change from it
    until each target as far as that is known; zeros where nothing is. None: there are no signals.
    """

    external: Floats | None = None
    signals: Floats | None = None


NOTHING = Exogenous()


class _Offer(NamedTuple):
    issued_at: float
    known_at: float
    median: float


class _InForce(NamedTuple):
    known_at: float
    at: float
    value: float


class _Track:
    """One signal: the value in force, those that are known of later times, its mean and spread so far."""

    def __init__(self) -> None:
        self.values: dict[int, _InForce] = {}
        self._seen = 0
        self._mean = 0.0
        self._variance = 0.0

    def is_news(self, index: int, row: SignalValue, now: int) -> bool:
        """Whether the row changes what is known; ``index`` numbers the first window that it holds for."""
        known = self.values.get(index)
        if known is not None:
            return (row.known_at, row.at) > (known.known_at, known.at)
        return index > max((at for at in self.values if at <= now), default=-1)

    def features(self, now: int, targets: Sequence[int], stale: int) -> list[float]:
        """Learn the value in force now; return it and its changes, see ``Exogenous``."""
        current = max((at for at in self.values if at <= now), default=None)
        self.values = {at: held for at, held in self.values.items() if current is None or at >= current}
        if current is None or now - current > stale:
            return [0.0] * (1 + len(targets))
        value = self.values[current].value
        self._seen += 1
        rate = max(_RATE, 1.0 / self._seen)
        moved = value - self._mean
        self._mean += rate * moved
        self._variance = (1.0 - rate) * (self._variance + rate * moved * moved)
        ascending = sorted(self.values)
        ahead = [self.values[max(at for at in ascending if at <= target)].value for target in targets]
        scaled = [self._scaled(each) for each in (value, *ahead)]
        return [scaled[0], *(later - scaled[0] for later in scaled[1:])]

    def _scaled(self, value: float) -> float:
        spread = math.sqrt(self._variance)
        if spread <= 1e-9 * abs(self._mean) + TINY:
            return 0.0
        return min(max((value - self._mean) / spread, -_LIMIT), _LIMIT)


class KnownExogenous:
    """The rows known so far. Pickles; the same rows in the same steps give the same numbers, bit for bit.

    Of each series one forecast per target window is kept, the one issued last, until twice the longest horizon ahead;
    of each signal one value per window as far.

    Args:
        grain_seconds: width of a window.
        horizons_seconds: of the forecasts, ascending multiples of the grain.
        signals: names of the signals, in the order of ``Exogenous.signals``.
    """

    def __init__(self, grain_seconds: float, horizons_seconds: Sequence[int], signals: Collection[str] = ()) -> None:
        self._grain = grain_seconds
        self._steps = np.array([round(horizon / grain_seconds) for horizon in horizons_seconds], dtype=np.int64)
        self.reach_seconds = 2.0 * max(horizons_seconds)
        self._tracks = {name: _Track() for name in signals}
        self._offers: dict[SeriesKey, dict[int, _Offer]] = {}
        self._now = 0
        self._signals: Floats | None = None

    def due_at(self, row: ExogenousRow) -> float:
        """The time (epoch seconds) from which on a row is taken: it is known, and near enough to be kept."""
        about = row.target_at if isinstance(row, ExternalForecast) else row.at
        return max(row.known_at, about - self.reach_seconds)

    def is_news(self, row: ExogenousRow, as_of: float) -> bool:
        """Whether a row that is due at ``as_of`` says anything that is not known and not over."""
        if isinstance(row, SignalValue):
            track = self._tracks.get(row.name)
            return track is not None and track.is_news(self._from(row.at), row, round(as_of / self._grain))
        index = self._index(row)
        if row.target_at <= as_of or index <= round(as_of / self._grain):
            return False
        offers = self._offers.get(row.series)
        if offers is None:
            return len(self._offers) < _MOST_SERIES
        known = offers.get(index)
        return known is None or (row.issued_at, row.known_at) > (known.issued_at, known.known_at)

    def step(self, as_of: float, rows: Iterable[ExogenousRow]) -> None:
        """Take the rows that a step at ``as_of`` (epoch seconds) was given, in their order, and forget what is over.

        Rows that are no news, and those that ``due_at`` puts after ``as_of``, are left out.
        """
        for row in rows:
            if self.due_at(row) <= as_of and self.is_news(row, as_of):
                self._take(row)
        self._now = round(as_of / self._grain)
        anchor = self._now - round(_MAX_GAP_SECONDS / self._grain)
        for series in list(self._offers):
            offers = self._offers[series]
            newest = max((at for at in offers if at <= self._now), default=anchor)
            kept = {at: offer for at, offer in offers.items() if at >= newest and at >= anchor}
            if max(kept, default=-1) > self._now:
                self._offers[series] = kept
            else:
                del self._offers[series]
        if self._tracks:
            targets, stale = (self._now + self._steps).tolist(), round(_STALE_SECONDS / self._grain)
            self._signals = np.array([track.features(self._now, targets, stale) for track in self._tracks.values()])

    def of(self, series: SeriesKey) -> Exogenous:
        """Return what the newest step knows for one series."""
        return Exogenous(self._external(series), self._signals)

    def _external(self, series: SeriesKey) -> Floats | None:
        offers = self._offers.get(series)
        if not offers:
            return None
        at = np.array(sorted(offers), dtype=np.int64)
        targets = self._now + self._steps
        place = np.searchsorted(at, targets)
        if place[-1] == at.size:
            return None
        exact = at[place] == targets
        before = np.maximum(place - 1, 0)
        near = (place > 0) & ((at[place] - at[before]) * self._grain <= _MAX_GAP_SECONDS)
        if not (exact | near).all():
            return None
        return np.interp(targets, at, [offers[index].median for index in at.tolist()])

    def _take(self, row: ExogenousRow) -> None:
        if isinstance(row, SignalValue):
            self._tracks[row.name].values[self._from(row.at)] = _InForce(row.known_at, row.at, row.value)
        else:
            offer = _Offer(row.issued_at, row.known_at, row.median)
            self._offers.setdefault(row.series, {})[self._index(row)] = offer

    def _index(self, row: ExternalForecast) -> int:
        return round(row.target_at / self._grain)

    def _from(self, at: float) -> int:
        return math.ceil(at / self._grain)
