"""Reads a few records of a topic outside every consumer group, for looking at them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import InputError, ServerUnavailable
from pipeline.kafka.security import aiokafka_options

__all__ = ["read_topic"]


def read_topic(kafka: KafkaSettings, topic: str, count: int, seconds: float, *, newest: bool) -> list[Any]:
    """Return up to ``count`` records of a topic, as aiokafka gives them: the last ones, or those that come from now on.

    Args:
        kafka: how to reach the broker.
        topic: its name.
        count: how many records at most, over all partitions.
        seconds: how long to wait for them.
        newest: only records that come from now on.

    Raises:
        InputError: there is no such topic.
        ServerUnavailable: the broker does not answer or refuses.
    """
    return asyncio.run(_read(kafka, topic, count, seconds, newest=newest))


async def _read(kafka: KafkaSettings, topic: str, count: int, seconds: float, *, newest: bool) -> list[Any]:
    consumer = AIOKafkaConsumer(
        **aiokafka_options(kafka), client_id="tokentide-tap", enable_auto_commit=False, auto_offset_reset="latest"
    )
    try:
        await consumer.start()
    except KafkaError as error:
        raise ServerUnavailable(f"{kafka.bootstrap} cannot be reached: {error!r}") from error
    try:
        partitions = await _partitions(consumer, topic)
        tps = [TopicPartition(topic, partition) for partition in partitions]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        begins = await consumer.beginning_offsets(tps)
        for tp in tps:
            consumer.seek(tp, ends[tp] if newest else max(begins[tp], ends[tp] - count))
        left = 0 if newest else sum(ends[tp] - max(begins[tp], ends[tp] - count) for tp in tps)
        records: list[Any] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until and (len(records) < count if newest else len(records) < left):
            for found in (await consumer.getmany(timeout_ms=500)).values():
                records += found
            if not newest and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
                break
        records.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
        return records[:count] if newest else records[-count:]
    except KafkaError as error:
        raise ServerUnavailable(f"{topic} cannot be read: {error!r}") from error
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[int]:
    await consumer._client.force_metadata_update()
    partitions = consumer.partitions_for_topic(topic)
    if not partitions:
        raise InputError(f"there is no topic {topic!r}")
    return sorted(partitions)
