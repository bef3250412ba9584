"""What the pipeline knows right now, kept in memory for everybody who looks.

The controller writes (``update``, ``set_health``), the exporter, the HTTP API and the board read. Expiry is asked of
the clock on every read: advice that has run out is not shown, however long nothing new came.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

from pipeline.alerts.feedback import is_feedback
from pipeline.alerts.types import Alert
from pipeline.clock import Clock, simulated_speed
from pipeline.config.prices import PoolPrice
from pipeline.config.settings import PoolSettings
from pipeline.engine.types import StepOutput
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import Forecast, Score, Signal
from pipeline.publish.counters import Counters, Totals
from pipeline.publish.health import PipelineHealth
from pipeline.publish.pool_state import PoolState
from pipeline.publish.recent_demand import RecentRates
from pipeline.publish.views import Changes, PoolView, Progress, Snapshot
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Recommendation

if TYPE_CHECKING:
    from pipeline.publish.fleet_planner import FleetPlanner

__all__ = ["LiveState"]

RECENT_ALERTS = 200  # ended ones, in memory; older ones are in the store
MAX_ACTIVE_ALERTS = 10_000  # in memory; far above any sane number of episodes
#: A pool without settings that no step has named for so long, in seconds of event time, is forgotten with its counters.
FORGET_SECONDS = 86_400


class LiveState:
    """The latest of everything, safe to write from one thread and read from others."""

    def __init__(self, clock: Clock, pools: Iterable[PoolSettings] = (), config_hash: str = "") -> None:
        self._clock = clock
        self._config_hash = config_hash
        self._lock = threading.Lock()
        self._pools: dict[PoolKey, PoolState] = {PoolKey(p.model, p.pool): PoolState(p) for p in pools}
        self._by_version = dict.fromkeys(self._pools)  # in the order in which they changed last
        self._as_of: int | None = None
        self._advised_at: int | None = None
        self._health = PipelineHealth(ledger_known=False)
        self._progress: Progress | None = None
        self._calendar: tuple[CalendarRecord, ...] = ()
        self._active: dict[str, Alert] = {}
        self._ended: deque[Alert] = deque(maxlen=RECENT_ALERTS)
        self._totals = Totals()
        self._version = 0
        self._keys: frozenset[PoolKey] | None = None  # of ``_pools``
        self.fleet: FleetPlanner | None = None  #: Splits the advice over ``fleet.stock``; None: there is none.

    @property
    def config_hash(self) -> str:
        """The hash of the settings that shape advice."""
        return self._config_hash

    def keys(self) -> frozenset[PoolKey]:
        """Return the names of all pools."""
        with self._lock:
            return self._all_keys()

    @property
    def version(self) -> int:
        """How often anything of a pool has changed; any thread may ask."""
        return self._version

    def now(self) -> float:
        """Return the time of the clock by which things expire, epoch seconds."""
        return self._clock.now()

    def counters(self) -> Counters:
        """Return the totals since the process started."""
        with self._lock:
            return self._totals.read()

    def changes(self, since: int, *, with_counters: bool = False) -> Changes:
        """Return what has changed since ``since``, the version of an earlier call (-1: everything)."""
        now = self._clock.now()
        with self._lock:
            keys = self._all_keys()
            views = self._views(((key, self._pools[key]) for key in self._changed_since(since)), now)
            counters = self._totals.read() if with_counters else None
            return Changes(self._version, now, tuple(views), keys, self._as_of, counters)

    def _changed_since(self, since: int) -> list[PoolKey]:
        """Pools that have changed since a version, the newest first: a part of a step changes few of thousands."""
        newest = takewhile(lambda key: self._pools[key].version > since, reversed(self._by_version))
        return list(newest)

    def views(self, keys: Iterable[PoolKey]) -> list[PoolView]:
        """Return pools as they look now, as far as they are known."""
        now = self._clock.now()
        with self._lock:
            known = ((key, self._pools.get(key)) for key in keys)
            return list(self._views(((key, pool) for key, pool in known if pool is not None), now))

    def update(self, output: StepOutput, *, finished: bool = True) -> None:
        """Take in one step, or a part of one (the last part is ``finished``), or a revision.

        An older step than the newest seen never replaces newer results.
        """
        with self._lock:
            self._version += 1
            if finished:
                newest = max((int(advice.issued_at) for advice in output.recommendations), default=output.as_of)
                self._advised_at = max(self._advised_at or 0, output.as_of, newest)
            if output.readings:
                for advice in output.recommendations:
                    self._totals.take_revision(advice)
            elif finished:
                self._totals.step()
                self._as_of = output.as_of if self._as_of is None else max(self._as_of, output.as_of)
            for window in output.windows:
                self._take_window(window)
            self._take_series(output)
            self._take_tenants(output)
            for card in output.scorecards:
                self._pool(PoolKey(card.model, card.pool)).scorecards[card.span] = card
            for use in output.uses:
                self._pool(PoolKey(use.model, use.pool)).uses[use.span] = use
            for advice in output.recommendations:
                self._take_recommendation(advice)
            for alert in output.alerts:
                self._take_alert(alert)
            if finished and self._as_of is not None:
                self._forget_gone(self._as_of)

    def restore(self, output: StepOutput) -> None:
        """Show a stored step again, before anything else, as far as it has not expired; nothing of it is counted."""
        self.update(output)
        self._totals = Totals()

    def set_prices(self, prices: Mapping[PoolKey, PoolPrice]) -> None:
        """Say what the GPUs of configured pools cost; without it no money is told."""
        with self._lock:
            self._version += 1
            for key in prices.keys() & self._pools.keys():
                self._pool(key).price = prices[key]

    def set_health(self, health: PipelineHealth) -> None:
        """Replace the pipeline's health."""
        with self._lock:
            self._health = health

    def set_progress(self, progress: Progress | None) -> None:
        """Say how far what comes before live operation has got; None: it is over."""
        with self._lock:
            self._progress = progress

    def set_calendar(self, announced: Iterable[CalendarRecord]) -> None:
        """Replace the announced events; marks of alerts, which travel with them, are left out."""
        records = tuple(record for record in announced if not is_feedback(record))
        with self._lock:
            self._calendar = records

    def calendar(self, model: str, pool: str) -> list[CalendarRecord]:
        """Return the announced events that concern a pool, by start."""
        with self._lock:
            records = self._calendar
        return sorted((r for r in records if r.scope.includes(model, pool)), key=lambda r: (r.starts_at, r.id))

    def health(self) -> PipelineHealth:
        """Return the health that was set last (never set: not ready)."""
        with self._lock:
            return self._health

    def as_of(self) -> int | None:
        """Return the end of the newest closed window (epoch seconds); None before the first."""
        with self._lock:
            return self._as_of

    def advised_at(self) -> int | None:
        """Return the time of the newest step or revision (epoch seconds); None before the first."""
        with self._lock:
            return self._advised_at

    def recall_demand(self, rates: Iterable[tuple[str, str, int, float | None]]) -> None:
        """Take request rates of the past that the store kept: (model, pool, start, rate), oldest first.

        Before the first step; pools that are not known yet are left out until a window names them.
        """
        with self._lock:
            for model, pool, start, rate in rates:
                known = self._pools.get(PoolKey(model, pool))
                if known is not None:
                    known.recent.learn(start, rate)

    def recent_demand(self, span: str) -> dict[PoolKey, RecentRates]:
        """Return the request rates of all pools over a span of ``recent_demand.SPANS`` up to the newest window."""
        with self._lock:
            end = float(self._as_of) if self._as_of is not None else self._clock.now()
            return {key: pool.recent.rates(span, end) for key, pool in self._pools.items()}

    def pool(self, model: str, pool: str) -> PoolView | None:
        """Return one pool as it looks now; None when neither settings nor events ever named it."""
        now = self._clock.now()
        with self._lock:
            key = PoolKey(model, pool)
            state = self._pools.get(key)
            return None if state is None else next(self._views([(key, state)], now))

    def alerts(self) -> list[Alert]:
        """Return the alerts that last, and the last ones that ended; newest first."""
        with self._lock:
            return self._alerts()

    def snapshot(self, *, with_pools: bool = True) -> Snapshot:
        """Return everything as it looks now; pools are sorted by name, alerts newest first.

        Views of many pools take a while: without ``with_pools`` there is only their number.
        """
        now = self._clock.now()
        with self._lock:
            alerts = self._alerts()
            pools = sorted(self._pools.items(), key=_name) if with_pools else ()
            return Snapshot(
                now=now,
                as_of=self._as_of,
                advised_at=self._advised_at,
                config_hash=self._config_hash,
                health=self._health,
                pools=tuple(self._views(pools, now)),
                pool_count=len(self._pools),
                alerts=tuple(alerts),
                counters=self._totals.read(),
                speed=simulated_speed(self._clock),
                progress=self._progress,
            )

    def _pool(self, key: PoolKey) -> PoolState:
        """A pool that is about to change."""
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = PoolState(None)
            self._keys = None
        self._changes(key, pool)
        return pool

    def _changes(self, key: PoolKey, pool: PoolState) -> None:
        pool.seen = None
        if pool.version != self._version or key not in self._by_version:
            pool.version = self._version
            self._by_version.pop(key, None)
            self._by_version[key] = None

    def _all_keys(self) -> frozenset[PoolKey]:
        if self._keys is None:
            self._keys = frozenset(self._pools)
        return self._keys

    def _alerts(self) -> list[Alert]:
        alerts = [*self._active.values(), *self._ended]
        alerts.sort(key=lambda alert: (alert.raised_at, alert.alert_id), reverse=True)
        return alerts

    def _alerts_by_pool(self) -> dict[PoolKey, list[Alert]]:
        grouped: dict[PoolKey, list[Alert]] = {}
        for alert in self._active.values():
            grouped.setdefault(PoolKey(alert.model, alert.pool), []).append(alert)
        return grouped

    def _views(self, pools: Iterable[tuple[PoolKey, PoolState]], now: float) -> Iterator[PoolView]:
        """Pools as they look now; made anew where something has changed or expired since the last look."""
        active: dict[PoolKey, list[Alert]] | None = None
        for key, state in pools:
            view = state.seen_at(now)
            if view is None:
                if active is None:
                    active = self._alerts_by_pool()
                view = state.view(key, now, active.get(key, []))
            yield view

    def _take_series(self, output: StepOutput) -> None:
        """Take forecasts, outlooks and scores: dozens of each pool one after another, whose name is looked up once."""
        for key, forecasts in groupby(output.forecasts, key=_of_series):
            known = self._pool(PoolKey(*key)).forecasts
            for forecast in forecasts:
                slot = _slot(forecast.series.signal, forecast.horizon_seconds)
                if slot not in known or known[slot].issued_at <= forecast.issued_at:
                    known[slot] = forecast
        for key, outlooks in groupby(output.outlooks, key=_of_series):
            said = self._pool(PoolKey(*key)).outlooks
            for outlook in outlooks:
                grain = _grain(outlook.series.signal, outlook.grain)
                if grain not in said or said[grain][0] <= output.as_of:
                    said[grain] = (float(output.as_of), outlook)
        for key, scores in groupby(output.scores, key=_of_series):
            pool = self._pool(PoolKey(*key))
            for score in scores:
                pool.scores[_slot(score.series.signal, score.horizon_seconds)] = score

    def _take_tenants(self, output: StepOutput) -> None:
        for key, group in groupby(output.tenants, key=lambda told: PoolKey(told.model, told.pool)):
            pool = self._pool(key)
            if pool.tenants[0] <= output.as_of:
                pool.tenants = (float(output.as_of), tuple(group))

    def _take_window(self, window: ClosedWindow) -> None:
        pool = self._pool(window.key)
        if pool.window is None or window.end >= pool.window.end:
            pool.window = window
        pool.recent.learn(window.start, signal_rates(window)[Signal.REQUESTS])
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
        key = PoolKey(alert.model, alert.pool)
        pool = self._pools.get(key)
        if pool is not None:
            self._changes(key, pool)
        known = alert.alert_id in self._active or any(a.alert_id == alert.alert_id for a in self._ended)
        if not known:
            self._totals.take_alert(alert)
        if alert.ended_at is None:
            self._active[alert.alert_id] = alert
            while len(self._active) > MAX_ACTIVE_ALERTS:
                given_up = self._active.pop(next(iter(self._active)))
                of_pool = PoolKey(given_up.model, given_up.pool)
                if of_pool in self._pools:
                    self._changes(of_pool, self._pools[of_pool])
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
            self._by_version.pop(key, None)
        if gone:
            self._keys = None
            self._totals.forget(gone)
            self._active = {name: a for name, a in self._active.items() if PoolKey(a.model, a.pool) not in gone}


def _of_series(told: Forecast | Outlook | Score) -> tuple[str, str]:
    return told.series.model, told.series.pool


def _name(pool: tuple[PoolKey, PoolState]) -> PoolKey:
    return pool[0]


@lru_cache(maxsize=4096)
def _slot(signal: str, horizon_seconds: int) -> tuple[str, int]:
    """The key of a forecast, one object for all pools."""
    return str(signal), horizon_seconds


@lru_cache(maxsize=4096)
def _grain(signal: str, grain: str) -> tuple[str, str]:
    """The key of an outlook, one object for all pools."""
    return str(signal), str(grain)
