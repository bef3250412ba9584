"""When the running replicas of a pool run out: demand that was seen and forecast, against what they carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.forecast.outlook import Grain
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import LEVELS, Forecast, Signal
from pipeline.publish.views import PoolView

__all__ = ["CAPACITY_EVIDENCE", "Headroom", "RunOut", "headroom", "run_out"]

#: The evidence that holds what one replica carries, by signal.
CAPACITY_EVIDENCE = {
    Signal.REQUESTS: "capacity_requests_per_second_per_replica",
    Signal.PREFILL_TOKENS: "capacity_prefill_tokens_per_second_per_replica",
    Signal.DECODE_TOKENS: "capacity_decode_tokens_per_second_per_replica",
    Signal.KV_TOKENS: "usable_kv_tokens_per_replica",
}
_NEED = "replicas_needed_by_"
_MEDIAN, _HIGH = LEVELS.index(0.5), LEVELS.index(0.9)
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class RunOut:
    """When demand exceeds what runs, in epoch seconds: ``expected_at`` by the median, ``possible_at`` by the 0.9
    quantile (None: not within a day). ``signal`` is the one that does so first.
    """

    signal: str
    expected_at: float | None
    possible_at: float | None


@dataclass(frozen=True, slots=True)
class Headroom:
    """``needed`` replicas (not rounded) for the demand that is planned for, by ``currency``, and the share of the
    running ones that is beyond them (negative: so many are missing; None: it is not known what runs).
    """

    needed: float
    currency: str
    ratio: float | None


def run_out(view: PoolView) -> RunOut | None:
    """Return when the running replicas run out; None: not within what is forecast, or nothing is known of them.

    Up to an hour ahead by the forecasts of minutes, then up to a day by those of hours, which are means over the hour.
    Between two horizons demand is taken to change evenly.
    """
    advice = view.recommendation
    if advice is None or advice.current is None:
        return None
    rates = signal_rates(view.window) if view.window is not None else {}
    found: list[RunOut] = []
    for signal, name in CAPACITY_EVIDENCE.items():
        each = advice.evidence.get(name)
        if not each or not math.isfinite(each):
            continue
        ahead = _ahead(view, signal)
        seen = rates.get(signal.value)
        start = [] if seen is None or view.window is None else [(float(view.window.end), seen)]
        times = [_crossing([*start, *_path(ahead, level)], advice.current * each) for level in (_MEDIAN, _HIGH)]
        if any(at is not None for at in times):
            found.append(RunOut(signal.value, *times))
    return min(found, key=_order, default=None)


def headroom(evidence: Mapping[str, float], current: int | None) -> Headroom | None:
    """Return what a recommendation's evidence says of spare capacity; None: it holds no needs."""
    needs = {name.removeprefix(_NEED): need for name, need in evidence.items() if name.startswith(_NEED)}
    if not needs:
        return None
    currency = max(sorted(needs), key=needs.__getitem__)
    needed = needs[currency]
    return Headroom(needed, currency, (current - needed) / current if current else None)


def _ahead(view: PoolView, signal: Signal) -> list[Forecast]:
    minutes = sorted((f for f in view.forecasts if f.series.signal == signal), key=lambda f: f.target_at)
    last = minutes[-1].target_at if minutes else -math.inf
    hours = [
        forecast
        for outlook in view.outlooks
        if outlook.grain == Grain.HOUR and outlook.series.signal == signal
        for forecast in outlook.forecasts
        if forecast.target_at > last and forecast.horizon_seconds <= _DAY_SECONDS
    ]
    return minutes + sorted(hours, key=lambda f: f.target_at)


def _path(forecasts: Sequence[Forecast], level: int) -> list[tuple[float, float]]:
    return [(forecast.target_at, forecast.quantiles[level]) for forecast in forecasts]


def _crossing(points: Sequence[tuple[float, float]], capacity: float) -> float | None:
    """When the line through ``points`` (time, value) first exceeds ``capacity``."""
    if points and points[0][1] > capacity:
        return points[0][0]
    for (before, low), (at, high) in pairwise(points):
        if high > capacity:
            return before + (at - before) * (capacity - low) / (high - low)
    return None


def _order(found: RunOut) -> tuple[float, float]:
    times = [math.inf if at is None else at for at in (found.expected_at, found.possible_at)]
    return times[0], times[1]
