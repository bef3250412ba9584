"""Advice for one pool: its forecasters, what its requests look like, its spikes, its controller."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.advise.episodes import Condition, Episode
from pipeline.advise.gaps import GapGuard
from pipeline.advise.lengths import ArrivalDispersion, LengthMoments
from pipeline.advise.model import Alert, AlertKind
from pipeline.advise.spikes import SpikeDetector, forecast_breach
from pipeline.forecast.model import LEVELS, Forecast, Score, SeriesKey, Signal
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
#: A forecast median this much above the level of now is a spike even where capacity would hold.
_SPIKE_RATIO = 1.5
#: Below this a shortfall is slow growth, which scaling follows, and no spike.
_SHORTFALL_RATIO = 1.2
#: Forecast spikes are looked for up to this horizon: further ahead a daily rise looks the same.
_SPIKE_HORIZON_SECONDS = 900
#: An observed spike was foreseen if it was warned of this long before, at most.
_FORESEEN_SECONDS = 2.0 * _SPIKE_HORIZON_SECONDS
_MEDIAN = LEVELS.index(0.5)
_P90 = LEVELS.index(0.9)


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """What one step says about one pool; ``window`` is the one learned, marked as a gap where it was one."""

    window: ClosedWindow
    forecasts: tuple[Forecast, ...]
    scores: tuple[Score, ...]
    recommendation: Recommendation | None
    alerts: tuple[Alert, ...]


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
        self._forecasters = {
            signal: SeriesForecaster(
                SeriesKey(key.model, key.pool, signal),
                horizons_seconds=forecast.horizons_seconds,
                grain_seconds=grain,
                season_seconds=forecast.season_seconds,
                seed=forecast.seed,
            )
            for signal in Signal
        }
        self._gaps = GapGuard(settings.advise.gap_min_expected_requests, settings.advise.gap_accept_seconds)
        self._lengths = LengthMoments()
        self._dispersion = ArrivalDispersion()
        self._spikes = SpikeDetector(settings.advise.false_alerts_per_day, grain)
        self._spike_probability = settings.advise.forecast_alert_probability
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
        self._level: float | None = None
        self._learned = 0
        self._previous_forecast: tuple[Forecast, ...] = ()
        self._warned_at: float | None = None

    def step(self, window: ClosedWindow) -> PoolOutcome:
        """Learn one closed window and say what follows."""
        gap = self._gaps.is_gap(window)
        window = replace(window, gap=gap)
        rates = signal_rates(window)
        issued = {s: f.step(float(window.end), rates[s]) for s, f in self._forecasters.items()}
        if not gap:
            self._learned += 1
            self._lengths.learn(window)
        self._dispersion.learn(None if gap else float(window.requests))
        rate = rates[Signal.REQUESTS]
        current = window.current_replicas if window.current_replicas is not None else self._desired
        recommendation = self._recommend(window, issued, rate, current, gap)
        observed = self._observed_spike(window, rate)
        ahead = None  # what has come is not announced any more
        if observed is None and not gap:
            ahead = self._forecast_spike(issued[Signal.REQUESTS], recommendation, current)
        if ahead is not None and self._episodes[AlertKind.SPIKE_FORECAST].current is None:
            self._warned_at = float(window.end)
        conditions = {
            AlertKind.SPIKE_OBSERVED: observed,
            AlertKind.SPIKE_FORECAST: ahead,
            AlertKind.SLO_INFEASIBLE: _infeasible(window, recommendation),
            AlertKind.TELEMETRY_GAP: _gap(window, gap),
        }
        told = (self._episodes[kind].step(float(window.end), found) for kind, found in conditions.items())
        alerts = tuple(alert for alert in told if alert is not None)
        if rate is not None:
            self._level = rate if self._level is None else 0.7 * self._level + 0.3 * rate
        self._previous_forecast = issued[Signal.REQUESTS]
        return PoolOutcome(
            window=window,
            forecasts=tuple(f for per_signal in issued.values() for f in per_signal),
            scores=tuple(score for forecaster in self._forecasters.values() for score in forecaster.scores()),
            recommendation=recommendation,
            alerts=alerts,
        )

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

    def _observed_spike(self, window: ClosedWindow, rate: float | None) -> Condition | None:
        one_step = next((f for f in self._previous_forecast if f.target_at == window.end), None)
        state = self._spikes.observe(float(window.end), rate, one_step.quantiles if one_step else None)
        if not state.active or rate is None:
            return None
        ratio = state.ratio
        began = float(window.end) if state.started_at is None else state.started_at
        warned = None if self._warned_at is None else began - self._warned_at
        foreseen = warned is not None and 0 <= warned <= _FORESEEN_SECONDS
        return Condition(
            onset_at=float(window.start),
            severity="info" if foreseen else "warning",
            ratio=ratio,
            probability=None,
            message=(
                f"{self.key.model}/{self.key.pool}: demand rose to {rate:.1f} requests/s"
                + (f", {ratio:.1f} times the recent level" if ratio is not None else "")
                + (
                    f"; warned of {warned / 60:.0f} min before"
                    if foreseen and warned
                    else "; no forecast had it coming"
                )
            ),
        )

    def _forecast_spike(
        self,
        requests: tuple[Forecast, ...],
        recommendation: Recommendation | None,
        current: int | None,
    ) -> Condition | None:
        """The nearest horizon at which demand is far above the level of now, or clearly above it and over capacity."""
        if self._learned < _WARM_WINDOWS or not self._level:
            return None
        per_replica = (
            recommendation.evidence.get("capacity_requests_per_second_per_replica") if recommendation else None
        )
        capacity = per_replica * current if per_replica and current else None
        for forecast in requests:
            if forecast.horizon_seconds > _SPIKE_HORIZON_SECONDS:
                break
            probability = forecast_breach(forecast.quantiles, LEVELS, capacity) if capacity else None
            median = forecast.quantiles[_MEDIAN]
            rises = median >= _SPIKE_RATIO * self._level
            breaches = (
                probability is not None
                and probability >= self._spike_probability
                and median >= _SHORTFALL_RATIO * self._level
            )
            if not (rises or breaches):
                continue
            text = (
                f"{self.key.model}/{self.key.pool}: {median:.1f} requests/s expected in "
                f"{forecast.horizon_seconds // 60} min (p90 {forecast.quantiles[_P90]:.1f}), "
                f"{median / self._level:.1f} times the level of now"
            )
            if probability is not None and capacity is not None:
                text += (
                    f"; the {current} replicas in place hold {capacity:.1f} requests/s: P(short) = {probability:.2f}"
                )
            return Condition(
                onset_at=forecast.target_at,
                severity="critical" if breaches and rises else "warning",
                ratio=median / capacity if capacity else median / self._level,
                probability=probability,
                message=text,
            )
        return None


def _infeasible(window: ClosedWindow, recommendation: Recommendation | None) -> Condition | None:
    if recommendation is None or recommendation.constraint is not Constraint.SLO_INFEASIBLE:
        return None
    return Condition(float(window.end), "critical", None, None, recommendation.message)


def _gap(window: ClosedWindow, gap: bool) -> Condition | None:
    if not gap:
        return None
    text = f"{window.model}/{window.pool}: telemetry is missing; advice is held and nothing is learned"
    return Condition(float(window.start), "warning", None, None, text)
