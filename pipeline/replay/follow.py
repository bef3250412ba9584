"""Follows what the pipeline publishes while events are sent: how far it has closed windows, what it recommends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ServerUnavailable
from pipeline.kafka.security import aiokafka_options
from pipeline.windows.types import PoolKey

__all__ = ["ClosedWindows", "TopicFollower"]

_log = logging.getLogger(__name__)


#: A pipeline that has closed no window for so many wall seconds is taken to be gone; and one that has closed none yet.
GONE_SECONDS = 60.0
NEVER_CAME_SECONDS = 10.0


class ClosedWindows:
    """How far the pipeline has closed the windows of some pools; fed with records of the windows topic.

    Records of other pools, tombstones and unreadable ones are ignored.

    Args:
        pools: whose windows count.
        as_of: end (epoch seconds) up to which windows were closed before the first record.
        certain: a pipeline is known to run, so that its silence means that it is behind, not that there is none.
        monotonic: wall seconds.
    """

    def __init__(
        self,
        pools: Collection[PoolKey],
        as_of: float,
        *,
        certain: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pools = frozenset(pools)
        self._first = as_of
        self._certain = certain
        self._monotonic = monotonic
        self._moved_at = monotonic()
        self._ends: dict[PoolKey, float] = {}

    @property
    def as_of(self) -> float | None:
        """End (epoch seconds) up to which the windows of all pools seen are closed; None: there is no pipeline."""
        patience = GONE_SECONDS if self._ends else NEVER_CAME_SECONDS
        if not self._certain and self._monotonic() - self._moved_at > patience:
            return None
        return min(self._ends.values(), default=self._first)

    def take(self, value: bytes | None) -> None:
        """Note one record of the windows topic."""
        try:
            record: Any = json.loads(value or b"null")
            key = PoolKey(str(record["model"]), str(record["pool"]))
            end = float(record["start"]) + float(record["grain_seconds"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        if key in self._pools and 0 < end < 4e9:
            self._ends[key] = max(end, self._ends.get(key, end))
            self._moved_at = self._monotonic()


class TopicFollower:
    """Calls ``handle`` with the value of every new record of a topic; use as an async context manager.

    Only records that come after the start count. When the topic cannot be read (any more) that is logged, and
    ``check`` raises it: who can do without the topic does not call it.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, handle: Callable[[bytes | None], None]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._handle = handle
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> TopicFollower:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ServerUnavailable):
            await self._task

    def check(self) -> None:
        """Raise what ended following, if it has ended.

        Raises:
            ServerUnavailable: the topic cannot be read.
        """
        if self._task is not None and self._task.done():
            self._task.result()

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            self._topic, **aiokafka_options(self._kafka), auto_offset_reset="latest", group_id=None
        )
        try:
            await consumer.start()
            async for record in consumer:
                self._handle(record.value)
        except KafkaError as error:
            _log.warning("topic %s cannot be read: %s", self._topic, error)
            raise ServerUnavailable(
                f"topic {self._topic} cannot be read from {self._kafka.bootstrap}: {error}"
            ) from error
        finally:
            await consumer.stop()
