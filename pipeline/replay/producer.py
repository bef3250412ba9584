"""Sends records to Kafka in batches built here: the fast way to produce.

Building whole batches skips the per-record future of a producer's ``send``. Measured on one core, 443-byte events, 12
partitions, embedded broker: kafka-python 3.0.12 ``send`` 6,800 records/s, aiokafka 0.14.0 ``send`` 59,000, aiokafka
batches 200,000 (``benchmarks/replay/producers.py`` repeats it).
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ServerUnavailable
from pipeline.kafka.security import aiokafka_options, explain

__all__ = ["BatchProducer"]

_BATCH_BYTES = 131_072
#: Batches on their way to the broker; each is at most ``_BATCH_BYTES``, so this bounds the memory.
_MAX_IN_FLIGHT = 64


class BatchProducer:
    """Sends (key, value, timestamp) records to one or more topics; records of a key stay in order.

    Use as an async context manager; leaving it without an error flushes. Partitions are chosen as Kafka's Java client
    does (murmur2 of the key), so other producers of the same keys agree.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer = AIOKafkaProducer(
            **aiokafka_options(kafka),
            acks="all",
            max_batch_size=_BATCH_BYTES,
            linger_ms=0,
            request_timeout_ms=30_000,
        )
        self._builders: dict[tuple[str, int], Any] = {}
        self._partition_of: dict[tuple[str, bytes], int] = {}
        self._in_flight: list[asyncio.Future[Any]] = []
        self.sent_records = 0
        self.submitted_batches = 0

    async def __aenter__(self) -> BatchProducer:
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            # A producer that did not start still holds sockets and tasks.
            await self._producer.stop()
            raise ServerUnavailable(f"no Kafka at {self._kafka.bootstrap}: {explain(error, self._kafka)}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def add(self, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> None:
        """Queue one record; it is on its way at the latest after ``flush``.

        Raises:
            ServerUnavailable: the broker refused or lost an earlier batch.
        """
        slot = (topic, await self._partition(topic, key))
        builder = self._builders.get(slot)
        if builder is not None and builder.append(timestamp=timestamp_ms, key=key, value=value) is not None:
            return
        if builder is not None:
            await self._submit(slot, builder)
        builder = self._builders[slot] = self._producer.create_batch()
        builder.append(timestamp=timestamp_ms, key=key, value=value)

    async def push(self) -> None:
        """Send what is queued without waiting for the broker's answer."""
        builders, self._builders = self._builders, {}
        for slot, builder in builders.items():
            await self._submit(slot, builder)

    def acknowledged_batches(self) -> int:
        """How many of ``submitted_batches`` the broker has acknowledged, in the order in which they were submitted.

        Raises:
            ServerUnavailable: the broker lost one.
        """
        while self._in_flight and self._in_flight[0].done():
            try:
                self._in_flight.pop(0).result()
            except KafkaError as error:
                raise ServerUnavailable(
                    f"Kafka at {self._kafka.bootstrap} lost a batch: {explain(error, self._kafka)}"
                ) from error
        return self.submitted_batches - len(self._in_flight)

    async def flush(self) -> None:
        """Send what is queued and wait until the broker has acknowledged everything.

        Raises:
            ServerUnavailable: a batch was not acknowledged.
        """
        await self.push()
        await self._settle(0)

    async def _partition(self, topic: str, key: bytes) -> int:
        found = self._partition_of.get((topic, key))
        if found is None:
            try:
                count = len(await self._producer.partitions_for(topic))
            except KafkaError as error:
                raise ServerUnavailable(
                    f"topic {topic} is unavailable at {self._kafka.bootstrap}: {explain(error, self._kafka)}"
                ) from error
            found = (murmur2(key) & 0x7FFFFFFF) % count
            if len(self._partition_of) < 100_000:  # keys are few; a hostile trace must not grow this for ever
                self._partition_of[topic, key] = found
        return found

    async def _submit(self, slot: tuple[str, int], builder: Any) -> None:
        topic, partition = slot
        self.sent_records += builder.record_count()
        try:
            self._in_flight.append(await self._producer.send_batch(builder, topic, partition=partition))
        except KafkaError as error:
            raise ServerUnavailable(
                f"Kafka at {self._kafka.bootstrap} took no batch: {explain(error, self._kafka)}"
            ) from error
        self.submitted_batches += 1
        if len(self._in_flight) >= _MAX_IN_FLIGHT:
            await self._settle(_MAX_IN_FLIGHT // 2)

    async def _settle(self, leave: int) -> None:
        """Wait until at most ``leave`` batches are unacknowledged."""
        while len(self._in_flight) > leave:
            try:
                await self._in_flight.pop(0)
            except KafkaError as error:
                raise ServerUnavailable(
                    f"Kafka at {self._kafka.bootstrap} lost a batch: {explain(error, self._kafka)}"
                ) from error
