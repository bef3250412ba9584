"""Demand over a span of time ahead: quantiles at any lead, and their peak until the next decision can help."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.forecast.outlook import Grain, Outlook
from pipeline.forecast.types import Forecast

__all__ = ["Ahead", "demand_ahead", "demand_path"]

#: An hourly outlook is of the mean over the hour that ends at its target: it stands for the middle of that hour.
_HALF_HOUR = 1800.0


class _Points(NamedTuple):
    """Seconds ahead, ascending, and the quantiles there."""

    seconds: list[float]
    quantiles: list[tuple[float, ...]]


class Ahead(NamedTuple):
    """``quantiles`` at the levels of the forecasts; ``hourly``: some are of hourly means, beyond the longest horizon.

    ``reached_seconds`` is how far ahead is known at all: less than what was asked for where there is no outlook.
    """

    quantiles: tuple[float, ...]
    hourly: bool
    reached_seconds: float

    def note(self, lead_seconds: float) -> str:
        """Say where the quantiles are from, if they are not of forecasts at the lead time; empty: they are."""
        if self.hourly:
            return "of the hourly outlook, beyond the longest horizon"
        if self.reached_seconds < lead_seconds:
            return f"as {self.reached_seconds / 60:.3g} min ahead, the longest horizon"
        return ""


def demand_ahead(
    forecasts: Sequence[Forecast], outlooks: Sequence[Outlook], now: float, first: float, last: float
) -> Ahead:
    """Return the highest quantiles between ``first`` and ``last`` seconds after ``now`` (epoch seconds).

    Between horizons quantiles are interpolated linearly, so that the peak of a span is at its ends or at a horizon in
    it. Nearer than the first horizon its quantiles hold; beyond the longest one the hourly outlook takes over, and
    where there is none yet the longest horizon holds.

    Args:
        forecasts: of one series, issued at ``now``, by ascending horizon; at least one.
        outlooks: the newest outlooks of the series.
        now: the end of the newest window.
        first: seconds from ``now`` to when a replica ordered now serves.
        last: the same for one that is ordered at the next decision.
    """
    near = _Points([float(f.horizon_seconds) for f in forecasts], [f.quantiles for f in forecasts])
    reach = near.seconds[-1]
    found: list[tuple[float, ...]] = []
    if first <= reach:
        found += _within(near, first, min(last, reach))
    hours = _hours(outlooks, now) if last > reach else []
    far = _Points([seconds for seconds, _ in hours], [quantiles for _, quantiles in hours])
    if hours and far.seconds[-1] > reach:
        found += _within(far, max(first, reach), last)
        return Ahead(_highest(found), True, min(last, far.seconds[-1]))
    return Ahead(_highest(found or [near.quantiles[-1]]), False, min(last, reach))


def demand_path(
    forecasts: Sequence[Forecast], outlooks: Sequence[Outlook], now: float, at: Sequence[float], level: int
) -> list[float]:
    """Return one quantile at times ahead, interpolated linearly; before the first and beyond the last point it is held.

    Args:
        forecasts: of one series, by ascending horizon; at least one.
        outlooks: the newest outlooks of the series; hours beyond the longest horizon are read from them.
        now: when the forecasts were issued, epoch seconds.
        at: seconds from ``now``.
        level: which of the quantiles.
    """
    points = [(float(f.horizon_seconds), f.quantiles[level]) for f in forecasts]
    reach = points[-1][0]
    points += [(seconds, quantiles[level]) for seconds, quantiles in _hours(outlooks, now) if seconds > reach]
    seconds, values = zip(*points, strict=True)
    return [float(value) for value in np.interp(at, seconds, values)]


def _hours(outlooks: Sequence[Outlook], now: float) -> list[tuple[float, tuple[float, ...]]]:
    return [
        (forecast.target_at - _HALF_HOUR - now, forecast.quantiles)
        for outlook in outlooks
        if outlook.grain is Grain.HOUR
        for forecast in outlook.forecasts
    ]


def _highest(found: list[tuple[float, ...]]) -> tuple[float, ...]:
    return found[0] if len(found) == 1 else tuple(map(max, *found))


def _within(points: _Points, first: float, last: float) -> list[tuple[float, ...]]:
    """The quantiles at both ends and at every point between them."""
    after = bisect_right(points.seconds, first)
    between = points.quantiles[after : bisect_left(points.seconds, last, after)]
    return [_at(points, first), *between, *([_at(points, last)] if last > first else [])]


def _at(points: _Points, seconds: float) -> tuple[float, ...]:
    right = bisect_left(points.seconds, seconds)
    if right == len(points.seconds):
        return points.quantiles[-1]
    end, above = points.seconds[right], points.quantiles[right]
    if right == 0 or end == seconds:
        return above
    start, below = points.seconds[right - 1], points.quantiles[right - 1]
    share = (seconds - start) / (end - start)
    return tuple([low + share * (high - low) for low, high in zip(below, above, strict=True)])
