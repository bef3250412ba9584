"""Heavy tenants as series of their own, everybody else as one, and sums that add up.

A sum of series with bursts of their own is forecast worse than its parts (ServeGen, arXiv:2505.09999: few clients rule
the demand of a model). At most ``limit`` tenants have a series; who they are is told by decayed counts (``heavy``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.forecast.heavy import HeavyHitters
from pipeline.forecast.model import LEVELS, Forecast, SeriesKey
from pipeline.forecast.series import SeriesForecaster

__all__ = ["REST", "TenantForecaster", "TenantForecasts"]

#: The name of everybody who has no series.
REST = "*"

_MEDIAN = LEVELS.index(0.5)
_COUNTERS = 64
_ENTER, _LEAVE = 0.05, 0.02
_ERROR_RATE = 0.02


@dataclass(frozen=True, slots=True)
class TenantForecasts:
    """Forecasts of the heavy tenants, of the rest (``REST``) and of their total; medians of the parts add up to it."""

    parts: dict[str, tuple[Forecast, ...]]
    total: tuple[Forecast, ...]


class TenantForecaster:
    """Forecasts by tenant. Deterministic, pure, picklable, bounded: ``limit`` + 2 series and 64 counters.

    A tenant gets a series when it sends more than a twentieth of the demand and there is room, and loses it below a
    fiftieth. The total is the mean of its own forecast and of the sum of the parts, weighted by how small their past
    errors were; the parts are scaled to it.

    Args:
        series: of the total; the parts carry the tenant behind the pool's name.
        horizons_seconds: as for ``SeriesForecaster``.
        grain_seconds: as for ``SeriesForecaster``.
        limit: most tenants with a series.

    Raises:
        ValueError: horizons and grain do not fit.
    """

    def __init__(
        self, series: SeriesKey, horizons_seconds: Sequence[int], grain_seconds: float, limit: int = 8
    ) -> None:
        self.series = series
        self._horizons = tuple(horizons_seconds)
        self._grain = grain_seconds
        self._limit = limit
        self._heavy = HeavyHitters(_COUNTERS, 86_400.0 / grain_seconds)
        self._total = SeriesForecaster(series, self._horizons, grain_seconds)
        self._parts: dict[str, SeriesForecaster] = {REST: self._make(REST)}
        # Mean absolute errors of the total's own forecast and of the sum, per horizon, and what waits for its label.
        self._errors = [[0.0, 0.0] for _ in self._horizons]
        self._waiting: dict[tuple[int, int], tuple[float, float]] = {}

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who has a series now."""
        return tuple(name for name in self._parts if name != REST)

    def step(self, end: float, rates: Mapping[str, float] | None) -> TenantForecasts:
        """Learn the rates by tenant of the window that ended at ``end``; None: telemetry is missing.

        Raises:
            ValueError: ``end`` is not after the previous one.
        """
        usable = None if rates is None else {name: rate for name, rate in rates.items() if 0.0 <= rate < 1e15}
        if usable is not None:
            self._heavy.learn(usable)
            self._choose()
        total = None if usable is None else sum(usable[name] for name in sorted(usable))
        own = self._total.step(end, total)
        said: dict[str, tuple[Forecast, ...]] = {}
        rest = total
        for name, model in self._parts.items():
            if name != REST:
                rate = None if usable is None else usable.get(name, 0.0)
                said[name] = model.step(end, rate)
                rest = None if rest is None or rate is None else max(0.0, rest - rate)
        said[REST] = self._parts[REST].step(end, rest)
        if not own:
            return TenantForecasts({}, ())
        if total is not None:
            self._judge(end, total)
        return self._reconcile(end, own, said)

    def _make(self, name: str) -> SeriesForecaster:
        key = SeriesKey(self.series.model, f"{self.series.pool}|{name}", self.series.signal)
        return SeriesForecaster(key, self._horizons, self._grain)

    def _choose(self) -> None:
        shares = self._heavy.shares()
        for name in self.tenants:
            if shares.get(name, 0.0) < _LEAVE:
                del self._parts[name]
        for name, share in shares.items():
            if share < _ENTER or len(self._parts) > self._limit:
                break
            if name not in self._parts:
                self._parts[name] = self._make(name)

    def _judge(self, end: float, total: float) -> None:
        for at, errors in enumerate(self._errors):
            waited = self._waiting.pop((at, round(end)), None)
            if waited is not None:
                for which, point in enumerate(waited):
                    errors[which] += _ERROR_RATE * (abs(total - point) - errors[which])
        # Labels that never came.
        oldest = round(end)
        if len(self._waiting) > 2 * sum(round(horizon / self._grain) for horizon in self._horizons):
            self._waiting = {key: value for key, value in self._waiting.items() if key[1] > oldest}

    def _reconcile(
        self, end: float, own: tuple[Forecast, ...], said: dict[str, tuple[Forecast, ...]]
    ) -> TenantForecasts:
        parts: dict[str, list[Forecast]] = {name: [] for name, issued in said.items() if issued}
        totals: list[Forecast] = []
        for at, forecast in enumerate(own):
            median = forecast.quantiles[_MEDIAN]
            added = sum(said[name][at].quantiles[_MEDIAN] for name in parts)
            self._waiting[at, round(end + forecast.horizon_seconds)] = (median, added)
            alone, together = self._errors[at]
            share = alone**2 / (alone**2 + together**2) if alone + together > 0.0 else 0.0
            point = median + share * (added - median) if parts else median
            totals.append(_moved(forecast, point))
            for name, issued in parts.items():
                part = said[name][at]
                scaled = part.quantiles[_MEDIAN] * (point / added) if added > 0.0 else point / len(parts)
                issued.append(_moved(part, scaled))
        return TenantForecasts({name: tuple(issued) for name, issued in parts.items()}, tuple(totals))


def _moved(forecast: Forecast, median: float) -> Forecast:
    """The forecast around another median, its distances kept; not below zero."""
    move = median - forecast.quantiles[_MEDIAN]
    quantiles = tuple(max(0.0, value + move) for value in forecast.quantiles)
    exact = (*quantiles[:_MEDIAN], median, *quantiles[_MEDIAN + 1 :])
    return Forecast(forecast.series, forecast.issued_at, forecast.horizon_seconds, exact)
