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
        Before the first step revisions are due from when event time is at the start of the first window that is open;
        without an event there is none.
        """
        if not self._every or reached is None or not self._pools or now - reached >= self._grain:
            return None
        anchor = self._store.first_open_window()
        if anchor is None:
            return None
        after, elapsed = self._store.last_closed(), reached - self._lateness - anchor
        if not (-self._lateness if after is None else self._every) <= elapsed < self._grain:
            return None
        as_of = anchor + int(elapsed // self._every) * self._every
        if as_of <= max((at for at in (self._asked, self._store.last_advised()) if at is not None), default=-1):
            return None
        self._asked = as_of
        # Before the first step counts are those of the window that will be the first.
        readings = self._readings(anchor if after is None else anchor - self._grain, as_of + self._lateness)
        return RevisionInput(as_of, after, readings) if readings else None

    def _readings(self, start: int, until: float) -> tuple[Reading, ...]:
        """What is known at ``until`` of the pools that have settings and whose fleet reports, for a window."""
        window, since = (start, start + self._grain), until - self._grain
        told = ((key, fleet_told(self._replicas, key, window, since, until, self._max_age)) for key in self._pools)
        return tuple(Reading(key, *reported) for key, reported in told if reported.current_replicas is not None)
