"""What the fleet had reported of a pool by a time, in the shape in which a closed window carries it."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.windows.fleet import FleetReport
from pipeline.windows.types import PoolKey

__all__ = ["FleetTold", "fleet_told"]


class FleetTold(NamedTuple):
    """The reports (None: there are none), and the replicas by the newest one (None: not told, or it is too old)."""

    fleet: FleetReport | None
    current_replicas: int | None
    ready_replicas: int | None


def fleet_told(
    book: ReplicaBook,
    key: PoolKey,
    window: tuple[int, int],
    changes_since: float,
    until: float,
    max_age_seconds: float,
) -> FleetTold:
    """Return what was reported up to ``until``, with the requests that the fleet counted in and after a ``window``.

    Args:
        book: all reports.
        key: the pool.
        window: start and end, epoch seconds.
        changes_since: changes of the replicas are told from then on, epoch seconds.
        until: later reports are left out, epoch seconds.
        max_age_seconds: of the newest report at ``until``; the replicas of an older one are unknown.
    """
    report = book.report(key, changes_since, until, window)
    if report is None or until - report.reported_at > max_age_seconds:
        return FleetTold(report, None, None)
    newest = report.counts[-1]
    return FleetTold(report, newest.current, newest.ready)
