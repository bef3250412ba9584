"""Advice for one pool: its forecasters, what its requests look like, its spikes, its controller."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.advise.calibration import LoadObserver
from pipeline.advise.episodes import Condition, Episode
from pipeline.advise.gaps import GapGuard
from pipeline.advise.lengths import ArrivalDispersion, LengthMoments
from pipeline.advise.model import Alert, AlertKind, TenantDemand
from pipeline.advise.spike_alerts import SpikeAlerts
from pipeline.advise.tenants import PoolTenants
from pipeline.forecast.calendar import CalendarRecord
from pipeline.forecast.model import LEVELS, Forecast, Score, SeriesKey, Signal
from pipeline.forecast.outlook import Outlook, OutlookForecaster
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.series import SeriesForecaster
from pipeline.settings import PoolSettings, Settings
from pipeline.windows.model import ClosedWindow, PoolKey
from sizing.catalog import Catalog
from sizing.model import Constraint, Demand, Recommendation
from sizing.policy import ReplicaController

__all__ = ["PoolAdvisor", "PoolOutcome"]

#: Windows learned before the forecasters' bands mean anything.
_WARM_WINDOWS = 30
#: Hourly outlooks appear within this long after the hour.
_OUTLOOK_SPREAD_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """What one step says about one pool; ``window`` is the one learned, marked as a gap where it was one."""

    window: ClosedWindow
    forecasts: tuple[Forecast, ...]
    scores: tuple[Score, ...]
    recommendation: Recommendation | None
    alerts: tuple[Alert, ...]
    outlooks: tuple[Outlook, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()


class PoolAdvisor:
    """State of one pool. Pickles, and continues identically afterwards."""

    def __init__(
        self,
        key: PoolKey,
        configured: PoolSettings | None,
        settings: Settings,
        config_hash: str,
        catalog: Catalog | None = None,
    ) -> None:
        forecast = settings.forecast
        grain = settings.windows.grain_seconds
        self.key = key
        # By tenant the request rate has forecasters of its own.
        self._tenants = PoolTenants(key, settings) if PoolTenants.wanted(settings) else None
        self._forecasters = {
            signal: SeriesForecaster(
                SeriesKey(key.model, key.pool, signal),
                horizons_seconds=forecast.horizons_seconds,
                grain_seconds=grain,
                season_seconds=forecast.season_seconds,
                seed=forecast.seed,
                suspect_silence=False,  # the gap guard judges, by the count of requests
            )
            for signal in Signal
            if signal is not Signal.REQUESTS or self._tenants is None
        }
        # Pools learn their hours at different minutes, so that no step has to do the work of all.
        delay = grain * (zlib.crc32("|".join(key).encode()) % max(1, int(_OUTLOOK_SPREAD_SECONDS // grain)))
        self._outlooks = {
            signal: OutlookForecaster(SeriesKey(key.model, key.pool, signal), delay_seconds=delay) for signal in Signal
        }
        self._gaps = GapGuard(settings.advise.gap_min_expected_requests, settings.advise.gap_accept_seconds)
        self._lengths = LengthMoments()
        self._loads = LoadObserver()
        self._dispersion = ArrivalDispersion()
        self._spikes = SpikeAlerts(
            key, settings.advise.false_alerts_per_day, settings.advise.forecast_alert_probability, grain
        )
        self._episodes = {kind: Episode(key, kind, calm_steps=3) for kind in AlertKind}
        self._controller: ReplicaController | None = None
        self._configured = configured
        if configured is not None:
            self._controller = ReplicaController(
                key.model,
                key.pool,
                configured.deployment(),
                configured.slo(),
                configured.policy(),
                config_hash=config_hash,
                catalog=catalog,
            )
        self._desired: int | None = configured.initial_replicas if configured else None
        self._learned = 0

    def step(self, window: ClosedWindow, calendar: Sequence[CalendarRecord] = ()) -> PoolOutcome:
        """Learn one closed window and say what follows; ``calendar`` are the announced events near it."""
        gap = self._gaps.is_gap(window)
        window = replace(window, gap=gap)
        rates = signal_rates(window)
        issued = {signal: self._issue(signal, window, rates[signal], calendar) for signal in Signal}
        for signal, outlook in self._outlooks.items():
            outlook.step(float(window.end), rates[signal], float(window.grain_seconds))
        if not gap:
            self._learned += 1
            self._lengths.learn(window)
        load = self._loads.load(window)
        if load is not None and self._controller is not None:
            self._controller.observe(load)
        self._dispersion.learn(None if gap else float(window.requests))
        rate = rates[Signal.REQUESTS]
        current = window.current_replicas if window.current_replicas is not None else self._desired
        recommendation = self._recommend(window, issued, rate, current, gap)
        observed, ahead = self._spikes.step(
            window, rates, issued, recommendation, current, calendar, warm=self._learned >= _WARM_WINDOWS
        )
        conditions = {
            AlertKind.SPIKE_OBSERVED: observed,
            AlertKind.SPIKE_FORECAST: ahead,
            AlertKind.SLO_INFEASIBLE: _infeasible(window, recommendation),
            AlertKind.TELEMETRY_GAP: _gap(window, gap),
        }
        told = (self._episodes[kind].step(float(window.end), found) for kind, found in conditions.items())
        alerts = tuple(alert for alert in told if alert is not None)
        return PoolOutcome(
            window=window,
            forecasts=tuple(f for per_signal in issued.values() for f in per_signal),
            scores=tuple(score for signal in Signal for score in self._scores(signal)),
            recommendation=recommendation,
            alerts=alerts,
            outlooks=tuple(outlook for forecaster in self._outlooks.values() for outlook in forecaster.outlooks),
            tenants=self._tenants.told if self._tenants is not None else (),
        )

    def _issue(
        self, signal: Signal, window: ClosedWindow, rate: float | None, calendar: Sequence[CalendarRecord]
    ) -> tuple[Forecast, ...]:
        if signal is Signal.REQUESTS and self._tenants is not None:
            return self._tenants.step(window, rate, calendar)
        return self._forecasters[signal].step(float(window.end), rate, calendar)

    def _scores(self, signal: Signal) -> tuple[Score, ...]:
        if signal is Signal.REQUESTS and self._tenants is not None:
            return self._tenants.scores()
        return self._forecasters[signal].scores()

    def _recommend(
        self,
        window: ClosedWindow,
        issued: dict[Signal, tuple[Forecast, ...]],
        rate: float | None,
        current: int | None,
        gap: bool,
    ) -> Recommendation | None:
        if self._controller is None or self._configured is None:
            return None
        demand = None if gap else self._demand(issued, rate, self._configured.lead_time_seconds)
        recommendation = self._controller.decide(
            float(window.end), demand, current, gap=gap, warm=self._learned >= _WARM_WINDOWS
        )
        self._desired = recommendation.desired
        return recommendation

    def _demand(
        self, issued: dict[Signal, tuple[Forecast, ...]], rate: float | None, lead_time_seconds: float
    ) -> Demand | None:
        """Demand at the lead time: the first horizon that is no nearer than the lead time plus one window."""
        workload = self._lengths.workload()
        requests = issued[Signal.REQUESTS]
        if workload is None or not requests:
            return None
        index = next(
            (i for i, f in enumerate(requests) if f.horizon_seconds >= lead_time_seconds),
            len(requests) - 1,
        )
        return Demand(
            levels=LEVELS,
            requests_per_second=requests[index].quantiles,
            prefill_tokens_per_second=issued[Signal.PREFILL_TOKENS][index].quantiles,
            decode_tokens_per_second=issued[Signal.DECODE_TOKENS][index].quantiles,
            kv_tokens=issued[Signal.KV_TOKENS][index].quantiles,
            workload=workload,
            horizon_seconds=float(requests[index].horizon_seconds),
            observed_requests_per_second=rate,
            dispersion=self._dispersion.index(),
        )


def _infeasible(window: ClosedWindow, recommendation: Recommendation | None) -> Condition | None:
    if recommendation is None or recommendation.constraint is not Constraint.SLO_INFEASIBLE:
        return None
    return Condition(float(window.end), "critical", None, None, recommendation.message)


def _gap(window: ClosedWindow, gap: bool) -> Condition | None:
    if not gap:
        return None
    text = f"{window.model}/{window.pool}: telemetry is missing; advice is held and nothing is learned"
    return Condition(float(window.start), "warning", None, None, text)
