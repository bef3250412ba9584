"""What the fleet reports about its replicas (``inference.replicas.v1``), by pool and time."""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect_left, bisect_right, insort
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
_RETRY_SECONDS = 5.0


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
    """The newest reports of every pool; asks for the one that held at a time."""

    def __init__(self, keep: int = 256, max_pools: int = 10_000) -> None:
        self._keep = keep
        self._max_pools = max_pools
        self._reports: dict[PoolKey, list[_Report]] = {}  # ascending

    def add(self, status: ReplicaStatus) -> None:
        """Note one report, in any order of time. Beyond the limit the pool whose newest report is oldest goes."""
        key = PoolKey(status.model, status.pool)
        if key not in self._reports and len(self._reports) >= self._max_pools:
            oldest = min(self._reports, key=lambda known: self._reports[known][-1].at)
            if self._reports[oldest][-1].at >= status.at:
                return
            del self._reports[oldest]
        reports = self._reports.setdefault(key, [])
        told = (status.ready, status.queued_requests, status.running_requests, status.requests_total)
        insort(reports, _Report(status.at, status.current, *(-1 if value is None else value for value in told)))
        del reports[: -self._keep]

    def report(
        self, key: PoolKey, since: float, until: float, window: tuple[float, float] | None = None
    ) -> FleetReport | None:
        """Return the newest report not after ``until`` and the changes after ``since`` (epoch seconds); None: none.

        Of more changes than ``MOST_CHANGES`` the newest are told. With the start and the end of a ``window`` the
        requests that the fleet counted in it are told, too.
        """
        reports = self._reports.get(key, [])
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
            async for record in consumer:
                try:
                    self._book.add(decode_status(record.value))
                except CodecError as error:
                    self.rejected += 1
                    _log.warning("%s: %s", self._kafka.replicas_topic, error)
        finally:
            await consumer.stop()
