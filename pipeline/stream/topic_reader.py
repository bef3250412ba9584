"""Topics that a controller reads whole, from their beginning, outside every consumer group."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.config.settings import KafkaSettings
from pipeline.kafka.security import aiokafka_options, explain

__all__ = ["CATCH_UP_SECONDS", "TopicReader", "records_of"]

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
#: How long a controller waits at its start for the topics to be read: without it, it would begin without them.
CATCH_UP_SECONDS = 15.0


async def records_of(kafka: KafkaSettings, topics: Sequence[str], client_id: str) -> Any:
    """The records of topics from their beginning, without end; None once when all that were there have come."""
    consumer: Any = AIOKafkaConsumer(
        *topics,
        **aiokafka_options(kafka),
        client_id=client_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        partitions = consumer.assignment()
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        caught_up = False
        while True:
            if not caught_up:
                # The embedded broker lists an end that is too low; what a fetch says about it is right.
                reached = [
                    ends[tp] <= begins[tp] or await consumer.position(tp) >= max(ends[tp], consumer.highwater(tp) or 0)
                    for tp in partitions
                ]
                if all(reached):
                    caught_up = True
                    yield None
            for found in (await consumer.getmany(timeout_ms=500)).values():
                for record in found:
                    yield record
    finally:
        await consumer.stop()


class TopicReader(ABC):
    """Reads topics as long as it runs; a resource of the controller.

    What it reads is an aid: when a topic cannot be read, that is logged, tried again, and the pipeline goes on with
    what is known.
    """

    def __init__(self, kafka: KafkaSettings, topics: Sequence[str], client_id: str) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._client_id = client_id
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read, and wait until the topics have been read to their end (or a while)."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._run(ready))
        try:
            await asyncio.wait_for(ready.wait(), CATCH_UP_SECONDS)
        except TimeoutError:
            _log.warning("%s cannot be read yet; going on without it", ", ".join(self._topics))

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, ready: asyncio.Event) -> None:
        while True:
            try:
                self._begin()
                async with contextlib.aclosing(records_of(self._kafka, self._topics, self._client_id)) as records:
                    async for record in records:
                        if record is None:
                            self._caught_up()
                            ready.set()
                        else:
                            self._take(record)
            except (KafkaError, OSError) as error:
                _log.warning("%s cannot be read: %s", ", ".join(self._topics), explain(error, self._kafka))
            await asyncio.sleep(_RETRY_SECONDS)

    @abstractmethod
    def _begin(self) -> None:
        """The topics are about to be read from their beginning."""

    @abstractmethod
    def _take(self, record: Any) -> None:
        """Take one record; what cannot be used is no error of the reader."""

    @abstractmethod
    def _caught_up(self) -> None:
        """All that was there at the beginning has been taken."""
