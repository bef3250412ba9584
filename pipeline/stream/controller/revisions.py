"""When advice may be revised between two steps, and what fleets have reported by then.

A window closes ``windows.allowed_lateness_seconds`` after its end, and the next one ``windows.grain_seconds`` later.
Reports of fleets come several times in between: every ``advise.revise_every_seconds`` of event time the newest ones are
passed to the engine, which may raise advice by them (docs/adr/0064). Event time is that by which windows close. A
process that catches up makes no revision: it has windows to close, and its reports are of the past.
"""

from __future__ import annotations

from pipeline.config.settings import Settings
from pipeline.engine.types import Reading, RevisionInput
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.store.store import Store
from pipeline.stream.controller.fleet_told import fleet_told
from pipeline.windows.types import PoolKey

__all__ = ["Revisions"]


class Revisions:
    """Says which revision is due; each at most once, and of several that are due the newest only."""

    def __init__(self, settings: Settings, store: Store, replicas: ReplicaBook) -> None:
        self._every = settings.advise.revise_every_seconds
        self._grain = settings.windows.grain_seconds
        self._lateness = settings.windows.allowed_lateness_seconds
        self._max_age = settings.advise.replica_report_max_age_seconds
        self._pools = sorted(PoolKey(pool.model, pool.pool) for pool in settings.pools)
        self._store = store
        self._replicas = replicas
        self._asked: int | None = None  # the newest revision that was due

    def due(self, reached: float | None, now: float) -> RevisionInput | None:
        """Return the revision that is due now that event time is at ``reached`` (epoch seconds); None: none is.

        None is while the next window may close, nor where event time is a window or more behind the clock, ``now``.
        Before the first step revisions are counted from the start of the first window that is open; without an event
        there is none.
        """
        if not self._every or reached is None or not self._pools or now - reached >= self._grain:
            return None
        anchor = self._store.first_open_window()
        if anchor is None:
            return None
        elapsed = reached - self._lateness - anchor
        if not self._every <= elapsed < self._grain:
            return None
        as_of = anchor + int(elapsed // self._every * self._every)
        known = [at for at in (self._asked, self._store.last_advised(), anchor) if at is not None]
        if as_of <= max(known):
            return None
        self._asked = as_of
        readings = self._readings(anchor, as_of)
        return RevisionInput(as_of, self._store.last_closed(), readings) if readings else None

    def _readings(self, anchor: int, as_of: int) -> tuple[Reading, ...]:
        """What is known of the pools that have settings and whose fleet reports; the others' advice stays anyway."""
        window = (anchor - self._grain, anchor)
        since, until = anchor + self._lateness - self._grain, as_of + self._lateness
        told = ((key, fleet_told(self._replicas, key, window, since, until, self._max_age)) for key in self._pools)
        return tuple(Reading(key, *reported) for key, reported in told if reported.current_replicas is not None)
