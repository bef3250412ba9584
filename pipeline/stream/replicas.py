"""What the fleet reports about its replicas (``inference.replicas.v1``), by pool and time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from bisect import bisect_right, insort
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.errors import CodecError
from pipeline.settings import Settings
from pipeline.stream.app import servers
from pipeline.windows.model import PoolKey

__all__ = ["ReplicaBook", "ReplicaReader", "ReplicaStatus", "decode_status"]

_log = logging.getLogger(__name__)

SCHEMA = "tokentide.replica.status.v1"
_MAX_REPLICAS = 1_000_000
_MAX_TEXT = 256
_RETRY_SECONDS = 5.0


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """At ``at`` (epoch seconds) a pool had ``current`` replicas, ``ready`` of them serving (None: unknown)."""

    model: str
    at: float
    current: int
    schema: str = SCHEMA
    pool: str = "default"
    ready: int | None = None


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
    if status.schema != SCHEMA:
        raise CodecError(f"replica status of schema {status.schema[:64]!r}")
    if not (0 < len(status.model) <= _MAX_TEXT and 0 < len(status.pool) <= _MAX_TEXT):
        raise CodecError("replica status with an empty or overlong model or pool")
    if not (math.isfinite(status.at) and 0 <= status.at < 1e11) or any(not 0 <= n <= _MAX_REPLICAS for n in counts):
        raise CodecError("replica status with an impossible time or number")
    return status


class ReplicaBook:
    """The newest reports of every pool; asks for the one that held at a time."""

    def __init__(self, keep: int = 256, max_pools: int = 10_000) -> None:
        self._keep = keep
        self._max_pools = max_pools
        self._reports: dict[PoolKey, list[tuple[float, int, int]]] = {}  # (at, current, ready or -1), ascending

    def add(self, status: ReplicaStatus) -> None:
        """Note one report, in any order of time. Beyond the limit the pool whose newest report is oldest goes."""
        key = PoolKey(status.model, status.pool)
        if key not in self._reports and len(self._reports) >= self._max_pools:
            oldest = min(self._reports, key=lambda known: self._reports[known][-1][0])
            if self._reports[oldest][-1][0] >= status.at:
                return
            del self._reports[oldest]
        reports = self._reports.setdefault(key, [])
        insort(reports, (status.at, status.current, -1 if status.ready is None else status.ready))
        del reports[: -self._keep]

    def at(self, key: PoolKey, time: float) -> tuple[int | None, int | None]:
        """Return (current, ready) of the newest report not after ``time`` (epoch seconds); None: not reported."""
        reports = self._reports.get(key, [])
        index = bisect_right(reports, (time, math.inf, math.inf)) - 1
        if index < 0:
            return None, None
        _, current, ready = reports[index]
        return current, None if ready < 0 else ready


class ReplicaReader:
    """Keeps a ``ReplicaBook`` up to date from the topic, outside every consumer group; a resource of the controller.

    Reports are an aid: when the topic cannot be read, that is logged, tried again, and the pipeline goes on.
    """

    def __init__(self, settings: Settings, book: ReplicaBook) -> None:
        self._kafka = settings.kafka
        self._book = book
        self._task: asyncio.Task[None] | None = None
        self.rejected = 0

    async def start(self) -> None:
        """Begin to read, from the start of what the topic keeps."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                _log.warning("%s cannot be read: %r", self._kafka.replicas_topic, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            self._kafka.replicas_topic,
            bootstrap_servers=servers(self._kafka.bootstrap),
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
