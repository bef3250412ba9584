"""What the fleet reports about its replicas (``inference.replicas.v1``), by pool and time."""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from heapq import nsmallest
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.config.settings import Settings
from pipeline.errors import CodecError
from pipeline.fleet.background import Background
from pipeline.kafka.security import aiokafka_options, explain
from pipeline.windows.fleet import NEWEST_SECONDS, CountedRequests, FleetReport, ReplicaCount
from pipeline.windows.types import PoolKey

__all__ = ["ReplicaBook", "ReplicaReader", "ReplicaStatus", "decode_status"]

_log = logging.getLogger(__name__)

SCHEMA = "tokentide.replica.status.v1"
_MAX_REPLICAS = 1_000_000
_MAX_REQUESTS, _MAX_TOTAL = 1_000_000_000, 1 << 62
_MAX_TEXT = 256
#: Reports with other replicas than the one before that a window carries.
MOST_CHANGES = 32
#: Reports that are closer are thinned out where there are too many of them to remember.
_SPARSE_SECONDS = 5.0
_RETRY_SECONDS = 5.0
#: Others that use the event loop have a turn after so many records.
_TURN_RECORDS = 200


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """At ``at`` (epoch seconds) a pool had ``current`` replicas, ``ready`` of them serving (None: unknown).

    ``queued_requests`` waited for a replica, ``running_requests`` were being served, in the whole pool (None: unknown).
    ``requests_total`` have come to it since any beginning; a count that falls has begun anew.
    """

    model: str
    at: float
    current: int
    schema: str = SCHEMA
    pool: str = "default"
    ready: int | None = None
    queued_requests: int | None = None
    running_requests: int | None = None
    requests_total: int | None = None


_DECODER = msgspec.json.Decoder(ReplicaStatus)


def decode_status(value: bytes | None) -> ReplicaStatus:
    """Read one record of the topic.

    Raises:
        CodecError: it is no replica status that can be believed.
    """
    try:
        status = _DECODER.decode(value or b"")
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not a replica status: {str(error)[:200]}") from error
    counts = [n for n in (status.current, status.ready) if n is not None]
    requests = [n for n in (status.queued_requests, status.running_requests) if n is not None]
    if status.schema != SCHEMA:
        raise CodecError(f"replica status of schema {status.schema[:64]!r}")
    if not (0 < len(status.model) <= _MAX_TEXT and 0 < len(status.pool) <= _MAX_TEXT):
        raise CodecError("replica status with an empty or overlong model or pool")
    if not (math.isfinite(status.at) and 0 <= status.at < 1e11) or any(not 0 <= n <= _MAX_REPLICAS for n in counts):
        raise CodecError("replica status with an impossible time or number")
    if any(not 0 <= n <= _MAX_REQUESTS for n in requests) or not 0 <= (status.requests_total or 0) <= _MAX_TOTAL:
        raise CodecError("replica status with an impossible number of requests")
    return status


class _Report(NamedTuple):
    """One report; −1: not told."""

    at: float
    current: int
    ready: int
    queued_requests: int
    running_requests: int
    requests_total: int

    @property
    def in_flight(self) -> int | None:
        """Requests that run and wait; None: not told."""
        return None if self.running_requests < 0 else self.running_requests + max(self.queued_requests, 0)


class ReplicaBook:
    """The newest reports of every pool; asks for the one that held at a time.

    One thread adds, any thread asks. Of the reports of a pool within a second the newest counts, so that one which
    reports a hundred times a second is remembered for as long as others.

    Args:
        keep: reports of a pool, at most.
        max_pools: beside ``configured``, which always have room.
        configured: pools with settings.
        now: the time, epoch seconds; None: reports of any time are noted.
        max_ahead_seconds: by how much a report may be newer than ``now``.
    """

    def __init__(
        self,
        keep: int = 256,
        max_pools: int = 10_000,
        configured: Collection[PoolKey] = (),
        now: Callable[[], float] | None = None,
        max_ahead_seconds: float = 60.0,
    ) -> None:
        self._keep = keep
        self._max_pools = max_pools
        self._configured = frozenset(configured)
        self._now = now
        self._max_ahead = max_ahead_seconds
        self._reports: dict[PoolKey, list[_Report]] = {}  # ascending, at most one for each second
        self._others = 0  # pools that are not configured
        self._oldest = -math.inf  # where there is no room: none of these pools has reported at a time before it last

    def add(self, status: ReplicaStatus) -> None:
        """Note one report, in any order of time. Beyond the limit the pools whose newest reports are oldest go.

        Raises:
            CodecError: it is of the future; nothing was noted.
        """
        if self._now is not None and not status.at <= self._now() + self._max_ahead:
            raise CodecError(f"replica status of {status.model[:64]!r} that is of the future, {status.at:.0f}")
        key = PoolKey(status.model, status.pool)
        reports = self._reports.get(key)
        if reports is None:
            if key not in self._configured and not self._has_room(status.at):
                return
            reports = self._reports[key] = []
            self._others += key not in self._configured
        told = (status.ready, status.queued_requests, status.running_requests, status.requests_total)
        _note(reports, _Report(status.at, status.current, *(-1 if value is None else value for value in told)))
        if len(reports) > self._keep:
            _thin(reports, self._keep)

    def _has_room(self, at: float) -> bool:
        """Whether one more pool without settings may come, with a report of ``at``; a tenth of the others may go.

        So many at once: looking for the oldest takes as long as for one.
        """
        if self._others < self._max_pools:
            return True
        if at <= self._oldest:
            return False
        newest = {key: reports[-1].at for key, reports in self._reports.items() if key not in self._configured}
        gone = nsmallest(max(1, self._max_pools // 10), newest, key=newest.__getitem__)
        self._oldest = newest[gone[0]]
        if at <= self._oldest:
            return False
        self._oldest = -math.inf
        for key in gone:
            del self._reports[key]
        self._others -= len(gone)
        return True

    def report(
        self, key: PoolKey, since: float, until: float, window: tuple[float, float] | None = None
    ) -> FleetReport | None:
        """Return the newest report not after ``until`` and the changes after ``since`` (epoch seconds); None: none.

        Of more changes than ``MOST_CHANGES`` the newest are told. With the start and the end of a ``window`` the
        requests that the fleet counted in it are told, too.
        """
        reports = self._reports.get(key, []).copy()  # another thread may add
        last = _newest(reports, until)
        if last < 0:
            return None
        first = _newest(reports, since) + 1
        changed = [i for i in range(first, last) if i == 0 or _replicas(reports[i]) != _replicas(reports[i - 1])]
        newest = reports[last]
        return FleetReport(
            newest.at,
            _told(newest.queued_requests),
            _told(newest.running_requests),
            tuple(
                ReplicaCount(reports[i].at, reports[i].current, _told(reports[i].ready))
                for i in (*changed[1 - MOST_CHANGES :], last)
            ),
            None if window is None or newest.requests_total < 0 else _counted(reports, *window, last),
        )


def _note(reports: list[_Report], report: _Report) -> None:
    """Insert a report in the order of time, in place of an older one of the same second."""
    at = bisect_right(reports, report)
    second = math.ceil(report.at)
    if at < len(reports) and math.ceil(reports[at].at) == second:
        return
    if at and math.ceil(reports[at - 1].at) == second:
        reports[at - 1] = report
    else:
        reports.insert(at, report)


def _thin(reports: list[_Report], keep: int) -> None:
    """Leave ``keep`` reports at most: of each ``_SPARSE_SECONDS`` the newest one where they are dense, the newest."""
    if reports[-1].at - reports[0].at < keep * _SPARSE_SECONDS:
        reports[:] = {math.ceil(report.at / _SPARSE_SECONDS): report for report in reports}.values()
    del reports[:-keep]


def _newest(reports: list[_Report], time: float) -> int:
    """The position of the newest report not after ``time``; −1: none."""
    # A report compares as the tuple that it is: one of that very time is less than its time and infinity.
    return bisect_right(reports, (time, math.inf)) - 1


def _next(reports: list[_Report], time: float) -> int:
    """The position of the oldest report not before ``time``; their number: none."""
    return bisect_left(reports, (time,))


def _counted(reports: list[_Report], start: float, end: float, last: int) -> CountedRequests:
    """Requests by the count of the reports up to ``last``: around and inside [start, end], and the newest ones."""
    before, after = _newest(reports, start), _next(reports, end)
    first, final = _next(reports, start), min(_newest(reports, end), last)
    newest_at = reports[last].at
    around = inside = newest = since = None
    inside_seconds = newest_seconds = since_seconds = 0.0
    idle = False
    if before >= 0 and after <= last:
        around = _growth(reports, before, after)
    if first < final:
        inside = _growth(reports, first, final)
        inside_seconds = reports[final].at - reports[first].at
        at_first, at_final = reports[first].in_flight, reports[final].in_flight
        idle = at_final is not None and (at_final == 0 or (at_first is not None and at_final < at_first))
    earlier = _newest(reports, newest_at - NEWEST_SECONDS)
    if earlier >= 0:
        newest, newest_seconds = _growth(reports, earlier, last), newest_at - reports[earlier].at
    if after < last:
        since, since_seconds = _growth(reports, after, last), newest_at - reports[after].at
    return CountedRequests(around, inside, inside_seconds, idle, newest, newest_seconds, since, since_seconds)


def _growth(reports: list[_Report], first: int, last: int) -> int | None:
    """By how much the count grew from one report to another; None: it was not told by each, or began anew."""
    totals = [report.requests_total for report in reports[first : last + 1]]
    # That they ascend from a number that was told is asked of every pool several times between two windows.
    if totals[0] < 0 or totals != sorted(totals):
        return None
    return totals[-1] - totals[0]


def _replicas(report: _Report) -> tuple[int, int]:
    return report.current, report.ready


def _told(value: int) -> int | None:
    return None if value < 0 else value


class ReplicaReader(Background):
    """Keeps a ``ReplicaBook`` up to date from the topic, outside every consumer group; a resource of the controller.

    Reports are an aid: when the topic cannot be read, that is logged, tried again, and the pipeline goes on. The
    built-in fleet (``pipeline.fleet.base.Fleet``): whoever runs the replicas reports them there, and scales by itself.
    """

    can_scale = False

    def __init__(self, settings: Settings, book: ReplicaBook) -> None:
        self._kafka = settings.kafka
        self._book = book
        self.rejected = 0

    async def scale(self, key: PoolKey, replicas: int) -> None:
        """Refuse: a topic of reports changes nothing."""
        raise NotImplementedError(f"reports from Kafka cannot scale {key.model}/{key.pool} to {replicas} replicas")

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                _log.warning("%s cannot be read: %s", self._kafka.replicas_topic, explain(error, self._kafka))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            self._kafka.replicas_topic,
            **aiokafka_options(self._kafka),
            client_id="tokentide-replicas",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            await consumer.start()
            read = 0
            async for record in consumer:
                self._take(record.value)
                read += 1
                if read % _TURN_RECORDS == 0:  # records that have been fetched are given without a pause
                    await asyncio.sleep(0)
        finally:
            await consumer.stop()

    def _take(self, value: bytes | None) -> None:
        try:
            self._book.add(decode_status(value))
        except CodecError as error:
            self.rejected += 1
            if self.rejected & (self.rejected - 1) == 0:  # the first, the second, the fourth …: a flood fills no disk
                _log.warning("%s: %s (%d were refused)", self._kafka.replicas_topic, error, self.rejected)
