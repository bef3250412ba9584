"""What the pipeline knows right now, kept in memory for everybody who looks.

The controller writes (``update``, ``set_health``), the exporter, the HTTP API and the board read. Expiry is asked of
the clock on every read: advice that has run out is not shown, however long nothing new came.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from pipeline.advise.model import Alert, StepOutput, TenantDemand
from pipeline.clock import Clock
from pipeline.forecast.model import Forecast, Score
from pipeline.forecast.outlook import Outlook
from pipeline.publish.counters import Counters, Totals
from pipeline.settings import PoolSettings
from pipeline.windows.model import REST, ClosedWindow, PoolKey
from sizing.model import Recommendation

__all__ = ["LiveState", "PipelineHealth", "PoolView", "Snapshot"]

#: Ended alerts kept in memory; older ones are in the store.
RECENT_ALERTS = 200
#: Active alerts kept in memory; far above any sane number of episodes.
MAX_ACTIVE_ALERTS = 10_000
#: How long forecasts and windows of a pool without settings stay visible, seconds after they were made.
DEFAULT_TTL_SECONDS = 300.0
#: A pool without settings that no step has named for so long, in seconds of event time, is forgotten with its counters.
FORGET_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class PipelineHealth:
    """How the pipeline does: readiness, event-time progress, the ledger of records, lag. Written by the controller.

    ``watermark`` and ``last_success`` are epoch seconds. The ledger balances:
    ``records == events + duplicates + sum(dead_letters.values())``. ``lag_records`` is keyed by (topic, partition).
    ``store_write_seconds`` is how long the newest transaction took. ``unknown_model_events`` counts events of models
    for which no pool is configured. ``detail`` says why the pipeline is not ready.
    """

    ready: bool = False
    detail: str = ""
    watermark: float | None = None
    records: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    lost: int = 0
    deltas_applied: int = 0
    deltas_dropped: int = 0
    delta_gaps: int = 0
    lag_records: Mapping[tuple[str, int], int] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    store_write_seconds: float | None = None
    unknown_model_events: int = 0

    @property
    def dead_letters_total(self) -> int:
        """Dead letters of all reasons."""
        return sum(self.dead_letters.values())


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as it looks at one instant; whatever has expired is left out.

    ``forecasts`` is ordered by signal and horizon, ``outlooks`` by signal and grain, ``tenants`` by who sends most.
    ``expired`` is advice that has run out: never to be followed, only
    to tell "expired" from "unknown".
    """

    key: PoolKey
    settings: PoolSettings | None
    window: ClosedWindow | None
    forecasts: tuple[Forecast, ...]
    scores: tuple[Score, ...]
    recommendation: Recommendation | None
    expired: Recommendation | None
    alerts: tuple[Alert, ...]
    outlooks: tuple[Outlook, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one instant (``now``, epoch seconds). ``as_of`` is the end of the newest closed window."""

    now: float
    as_of: int | None
    config_hash: str
    health: PipelineHealth
    pools: tuple[PoolView, ...]
    alerts: tuple[Alert, ...]
    counters: Counters


class _Pool:
    """Mutable state of one pool; guarded by the lock of its LiveState."""

    __slots__ = ("forecasts", "outlooks", "recommendation", "scores", "settings", "tenants", "window")

    def __init__(self, settings: PoolSettings | None) -> None:
        self.settings = settings
        self.window: ClosedWindow | None = None
        self.forecasts: dict[tuple[str, int], Forecast] = {}
        self.scores: dict[tuple[str, int], Score] = {}
        self.outlooks: dict[tuple[str, str], tuple[float, Outlook]] = {}  # with the end of the step that said it
        self.tenants: tuple[float, tuple[TenantDemand, ...]] = (0.0, ())  # with the end of the step that said it
        self.recommendation: Recommendation | None = None

    @property
    def ttl_seconds(self) -> float:
        return self.settings.ttl_seconds if self.settings else DEFAULT_TTL_SECONDS


class LiveState:
    """The latest of everything, safe to write from one thread and read from others."""

    def __init__(self, clock: Clock, pools: Iterable[PoolSettings] = (), config_hash: str = "") -> None:
        self._clock = clock
        self._config_hash = config_hash
        self._lock = threading.Lock()
        self._pools: dict[PoolKey, _Pool] = {PoolKey(p.model, p.pool): _Pool(p) for p in pools}
        self._as_of: int | None = None
        self._health = PipelineHealth()
        self._active: dict[str, Alert] = {}
        self._ended: deque[Alert] = deque(maxlen=RECENT_ALERTS)
        self._totals = Totals()

    def update(self, output: StepOutput) -> None:
        """Take in one step. An older step than the newest seen never replaces newer results."""
        with self._lock:
            self._totals.step(len(output.errors))
            self._as_of = output.as_of if self._as_of is None else max(self._as_of, output.as_of)
            for window in output.windows:
                self._take_window(window)
            for forecast in output.forecasts:
                known = self._pool(PoolKey(forecast.series.model, forecast.series.pool)).forecasts
                slot = (str(forecast.series.signal), forecast.horizon_seconds)
                if slot not in known or known[slot].issued_at <= forecast.issued_at:
                    known[slot] = forecast
            for outlook in output.outlooks:
                said = self._pool(PoolKey(outlook.series.model, outlook.series.pool)).outlooks
                grain = (str(outlook.series.signal), str(outlook.grain))
                if grain not in said or said[grain][0] <= output.as_of:
                    said[grain] = (float(output.as_of), outlook)
            self._take_tenants(output)
            for score in output.scores:
                pool = self._pool(PoolKey(score.series.model, score.series.pool))
                pool.scores[str(score.series.signal), score.horizon_seconds] = score
            for advice in output.recommendations:
                self._take_recommendation(advice)
            for alert in output.alerts:
                self._take_alert(alert)
            self._forget_gone(self._as_of)

    def set_health(self, health: PipelineHealth) -> None:
        """Replace the pipeline's health."""
        with self._lock:
            self._health = health

    def health(self) -> PipelineHealth:
        """Return the health that was set last (never set: not ready)."""
        with self._lock:
            return self._health

    def as_of(self) -> int | None:
        """Return the end of the newest closed window (epoch seconds); None before the first."""
        with self._lock:
            return self._as_of

    def pool(self, model: str, pool: str) -> PoolView | None:
        """Return one pool as it looks now; None when neither settings nor events ever named it."""
        now = self._clock.now()
        with self._lock:
            key = PoolKey(model, pool)
            state = self._pools.get(key)
            return self._view(key, state, now, self._alerts_by_pool().get(key, [])) if state is not None else None

    def snapshot(self) -> Snapshot:
        """Return everything as it looks now; pools are sorted by name, alerts newest first."""
        now = self._clock.now()
        with self._lock:
            alerts = [*self._active.values(), *self._ended]
            alerts.sort(key=lambda alert: (alert.raised_at, alert.alert_id), reverse=True)
            active = self._alerts_by_pool()
            return Snapshot(
                now=now,
                as_of=self._as_of,
                config_hash=self._config_hash,
                health=self._health,
                pools=tuple(self._view(key, self._pools[key], now, active.get(key, [])) for key in sorted(self._pools)),
                alerts=tuple(alerts),
                counters=self._totals.read(),
            )

    def _pool(self, key: PoolKey) -> _Pool:
        if key not in self._pools:
            self._pools[key] = _Pool(None)
        return self._pools[key]

    def _alerts_by_pool(self) -> dict[PoolKey, list[Alert]]:
        grouped: dict[PoolKey, list[Alert]] = {}
        for alert in self._active.values():
            grouped.setdefault(PoolKey(alert.model, alert.pool), []).append(alert)
        return grouped

    def _view(self, key: PoolKey, state: _Pool, now: float, alerts: list[Alert]) -> PoolView:
        oldest = now - state.ttl_seconds
        advice = state.recommendation
        valid = advice is not None and advice.expires_at > now
        forecasts = [f for _, f in sorted(state.forecasts.items()) if f.issued_at > oldest]
        return PoolView(
            key=key,
            settings=state.settings,
            window=state.window if state.window is not None and state.window.end > oldest else None,
            forecasts=tuple(forecasts),
            scores=tuple(score for _, score in sorted(state.scores.items())) if forecasts else (),
            recommendation=advice if valid else None,
            expired=None if valid else advice,
            alerts=tuple(alerts),
            outlooks=tuple(outlook for _, (at, outlook) in sorted(state.outlooks.items()) if at > oldest),
            tenants=_heaviest_first(state.tenants[1]) if state.tenants[0] > oldest else (),
        )

    def _take_tenants(self, output: StepOutput) -> None:
        for key, group in groupby(output.tenants, key=lambda told: PoolKey(told.model, told.pool)):
            pool = self._pool(key)
            if pool.tenants[0] <= output.as_of:
                pool.tenants = (float(output.as_of), tuple(group))

    def _take_window(self, window: ClosedWindow) -> None:
        pool = self._pool(window.key)
        if pool.window is None or window.end >= pool.window.end:
            pool.window = window
        self._totals.take_window(window)

    def _take_recommendation(self, advice: Recommendation) -> None:
        pool = self._pool(PoolKey(advice.model, advice.pool))
        before = pool.recommendation
        if before is not None and advice.issued_at < before.issued_at:
            return
        if before is None or before.generation != advice.generation:
            self._totals.take_change(advice)
        pool.recommendation = advice

    def _take_alert(self, alert: Alert) -> None:
        known = alert.alert_id in self._active or any(a.alert_id == alert.alert_id for a in self._ended)
        if not known:
            self._totals.take_alert(alert)
        if alert.ended_at is None:
            self._active[alert.alert_id] = alert
            while len(self._active) > MAX_ACTIVE_ALERTS:
                self._active.pop(next(iter(self._active)))
        elif alert.alert_id in self._active or not known:
            self._active.pop(alert.alert_id, None)
            self._ended.append(alert)

    def _forget_gone(self, as_of: int) -> None:
        gone = {
            key
            for key, pool in self._pools.items()
            if pool.settings is None and pool.window is not None and pool.window.end + FORGET_SECONDS <= as_of
        }
        for key in gone:
            del self._pools[key]
        if gone:
            self._totals.forget(gone)
            self._active = {name: a for name, a in self._active.items() if PoolKey(a.model, a.pool) not in gone}


def _heaviest_first(tenants: tuple[TenantDemand, ...]) -> tuple[TenantDemand, ...]:
    """The rest comes last."""
    return tuple(
        sorted(tenants, key=lambda told: (told.tenant == REST, -(told.requests_per_second or 0.0), told.tenant))
    )
