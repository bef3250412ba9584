"""Early warning: a forecast that rises far above the level of now, or above what the replicas can serve. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from pipeline.alerts.spikes.detector import forecast_breach
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import LEVELS, Forecast

__all__ = ["AT_STAKE_PROBABILITY", "EVENT_PROBABILITY", "SPIKE_RATIO", "ForecastWatch", "Outlook", "expected_shortfall"]

#: Demand this much above the level is a spike.
SPIKE_RATIO = 1.5
#: Chance of such a rise that is told where an announced event may bring it: a miss costs more than a look.
EVENT_PROBABILITY = 0.25
#: Below this a shortfall is slow growth, which scaling follows, and no spike.
_SHORTFALL_RATIO = 1.2
#: Without an event spikes are looked for up to this horizon: further ahead a daily rise looks the same.
_NEAR_SECONDS = 900
#: With an event, up to this one.
_FAR_SECONDS = 3600
#: An event may draw its crowd so long before its start and after its end.
_BEFORE_SECONDS, _AFTER_SECONDS = 3600.0, 3 * 3600.0
#: Part of a condition that suffices to keep a warning up, so that a value around it does not flap.
_HOLD = 0.7
#: P(demand > capacity) below which a rise is news and no warning: the replicas in place hold it.
AT_STAKE_PROBABILITY = 0.05
#: Expected shortfall over capacity from which a warning is critical.
_CRITICAL_SHORTFALL = 0.1
_DAY_SECONDS = 86_400.0
_SLOT_SECONDS = 300.0
_MEDIAN, _P90 = LEVELS.index(0.5), LEVELS.index(0.9)


@dataclass(frozen=True, slots=True)
class Outlook:
    """A spike that the forecast holds; rates in requests/s.

    ``ratio`` is the median over capacity, or over the level of now where no capacity is known. ``probability`` is
    P(demand > capacity) and ``shortfall`` the expected unserved demand over capacity, ``short_horizon_seconds`` ahead:
    the horizon of the greatest probability, from that of the spike up to 15 minutes. All three are None without a known
    capacity. ``severity`` is ``info`` where the probability is negligible. ``event`` is the announced event behind it,
    if any.
    """

    target_at: float
    horizon_seconds: int
    median: float
    upper: float
    ratio: float
    probability: float | None
    shortfall: float | None
    short_horizon_seconds: int | None
    severity: str
    event: CalendarRecord | None


class ForecastWatch:
    """Looks for spikes in the forecasts of one series.

    Two rules. Up to 15 minutes ahead: the median is 1.5 times the level of now, or demand exceeds the capacity with
    the wanted probability and is clearly above the level. Up to an hour ahead, where an announced event is near: demand
    reaches 1.5 times the greater of now and the day's median with probability ``EVENT_PROBABILITY``; the day's median
    keeps an ordinary morning from being told as a spike. A warning that stands needs 0.7 of a rule to stay.

    Args:
        grain_seconds: width of a window.
        probability: P(demand > capacity) from which the first rule warns.
    """

    def __init__(self, grain_seconds: float, probability: float) -> None:
        self._probability = probability
        self._per_slot = max(1, round(_SLOT_SECONDS / grain_seconds))
        self._most_slots = max(1, round(_DAY_SECONDS / (grain_seconds * self._per_slot)))
        self._slots = array("d")
        self._sum = 0.0
        self._count = 0
        self._median: float | None = None
        self.level: float | None = None

    def learn(self, rate: float) -> None:
        """Add the rate of one window (not of a gap)."""
        self.level = rate if self.level is None else 0.7 * self.level + 0.3 * rate
        self._sum += rate
        self._count += 1
        if self._count >= self._per_slot:
            self._slots.append(self._sum / self._count)
            del self._slots[: -self._most_slots]
            self._sum, self._count = 0.0, 0
            self._median = median(self._slots)

    def look(
        self,
        forecasts: Sequence[Forecast],
        capacity: float | None = None,
        events: Sequence[CalendarRecord] = (),
        *,
        active: bool = False,
    ) -> Outlook | None:
        """Return the nearest spike in ``forecasts`` (ascending in horizon), or None; ``active``: one stands already."""
        if not self.level:
            return None
        hold = _HOLD if active else 1.0
        for forecast in forecasts:
            if forecast.horizon_seconds > _FAR_SECONDS:
                break
            median = forecast.quantiles[_MEDIAN]
            probability = forecast_breach(forecast.quantiles, LEVELS, capacity) if capacity else None
            if forecast.horizon_seconds <= _NEAR_SECONDS:
                rises = median >= self.level * (1.0 + hold * (SPIKE_RATIO - 1.0))
                short = (
                    probability is not None
                    and probability >= hold * self._probability
                    and median >= self.level * (1.0 + hold * (_SHORTFALL_RATIO - 1.0))
                )
                if rises or short:
                    return self._outlook(forecast, forecasts, capacity, None)
            event = next((e for e in events if _acts(e, forecast.target_at)), None)
            if event is not None and self.event_chance(forecast) >= hold * EVENT_PROBABILITY:
                return self._outlook(forecast, forecasts, capacity, event)
        return None

    def event_chance(self, forecast: Forecast) -> float:
        """P(demand at the horizon reaches 1.5 times the greater of now and the day's median)."""
        base = max(self.level or 0.0, self._median or 0.0)
        return forecast_breach(forecast.quantiles, LEVELS, SPIKE_RATIO * base)

    def _outlook(
        self,
        forecast: Forecast,
        forecasts: Sequence[Forecast],
        capacity: float | None,
        event: CalendarRecord | None,
    ) -> Outlook:
        median = forecast.quantiles[_MEDIAN]
        probability = shortfall = horizon = None
        severity = "warning"  # what is in place is unknown, and may be too little
        if capacity:
            # A ramp is found at its foot: what counts for capacity is how far it may get.
            reach = max(_NEAR_SECONDS, forecast.horizon_seconds)
            ahead = [f for f in forecasts if forecast.horizon_seconds <= f.horizon_seconds <= reach]
            chances = [forecast_breach(f.quantiles, LEVELS, capacity) for f in ahead]
            probability = max(chances)
            worst = ahead[chances.index(probability)]
            horizon = worst.horizon_seconds
            shortfall = expected_shortfall(worst.quantiles, LEVELS, capacity) / capacity
            if shortfall >= _CRITICAL_SHORTFALL:
                severity = "critical"
            elif probability < min(AT_STAKE_PROBABILITY, self._probability):
                severity = "info"
        return Outlook(
            target_at=forecast.target_at,
            horizon_seconds=forecast.horizon_seconds,
            median=median,
            upper=forecast.quantiles[_P90],
            ratio=median / (capacity or self.level or 1.0),
            probability=probability,
            shortfall=shortfall,
            short_horizon_seconds=horizon,
            severity=severity,
            event=event,
        )


def expected_shortfall(quantiles: Sequence[float], levels: Sequence[float], capacity: float) -> float:
    """E[max(0, demand − capacity)]: probability of a shortfall times its mean size, in the units of ``quantiles``.

    The quantile function is linear between the levels and flat beyond the outermost, so the far tail is left out.

    >>> expected_shortfall((0.0, 10.0), (0.0, 1.0), 5.0)
    1.25
    """
    at = (np.arange(200) + 0.5) / 200
    demand = np.interp(at, np.array(levels), np.maximum.accumulate(np.array(quantiles, dtype=np.float64)))
    return float(np.maximum(demand - capacity, 0.0).mean())


def _acts(event: CalendarRecord, at: float) -> bool:
    return event.starts_at - _BEFORE_SECONDS <= at <= event.ends_at + _AFTER_SECONDS
