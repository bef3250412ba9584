"""Whatever a producer does to its batches (codecs, transactions, retries), over TLS and SCRAM, is stored exactly."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.clock import WallClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.kafka.security import aiokafka_options, kafka_python_options
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.controller.app import controller_app
from pipeline.testing import Oracle, request_event
from tests.kafka_secured import SecuredListeners
from tests.kafka_servers import consume, stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration

EVENTS = 400
CODECS = (None, "gzip", "lz4", "snappy", "zstd")


class Events:
    """Hands out events with ids of their own; each that is handed out counts."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._start = time.time() - 300
        self._next = 0

    def take(self, n: int, counts: bool = True) -> list[bytes]:
        oracle = self._oracle if counts else Oracle()
        self._next += n
        return [
            oracle.event(request_event(f"e{i}", self._start + i * 0.01, input_tokens=i))
            for i in range(self._next - n, self._next)
        ]


async def send(settings: Settings, values: list[bytes], **options: Any) -> None:
    producer = AIOKafkaProducer(**aiokafka_options(settings.kafka), **options)
    await producer.start()
    try:
        topic = settings.kafka.requests_topic
        await asyncio.gather(*[await producer.send(topic, value, partition=i % 2) for i, value in enumerate(values)])
    finally:
        await producer.stop()


async def transactions(settings: Settings, events: Events) -> AIOKafkaProducer:
    """One committed, one aborted, one left open; returns the producer of the open one."""
    producer = AIOKafkaProducer(
        **aiokafka_options(settings.kafka),
        transactional_id=f"tx-{settings.kafka.group_prefix}",
        compression_type="zstd",
    )
    await producer.start()
    topic = settings.kafka.requests_topic
    async with producer.transaction():
        for value in events.take(50):
            await producer.send(topic, value, partition=0)
    await producer.begin_transaction()
    for value in events.take(50, counts=False):
        await producer.send(topic, value, partition=0)
    await producer.flush()
    await producer.abort_transaction()
    await producer.begin_transaction()
    for value in events.take(50):
        await producer.send(topic, value, partition=0)
    await producer.flush()
    return producer


def test_every_producer_is_counted_exactly(secured_kafka: SecuredListeners, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings("", tmp_path, 2, kafka=secured_kafka.sasl("SCRAM-SHA-512"))
        oracle = Oracle()
        events = Events(oracle)
        for codec in CODECS:
            await send(settings, events.take(EVENTS), compression_type=codec)
        await send(settings, events.take(EVENTS), compression_type="zstd", enable_idempotence=True)
        open_producer = await transactions(settings, events)

        clock = WallClock()
        store = Store.open(settings.store.path, settings.store, settings.windows)
        live = LiveState(clock, settings.pools, settings.config_hash())
        control = controller_app(settings, clock, store, Advisor(settings), live, 2)
        aggregate = aggregator_app(settings, clock)
        for app in (control, aggregate):
            app.finalize()
        await asyncio.gather(control.start(), aggregate.start())
        try:
            records = lambda: live.health().records  # noqa: E731
            await eventually(lambda: records() == oracle.records - 50, 60, "all but the open transaction", records)
            await eventually(lambda: live.health().ready, 30, "readiness while a transaction is open")
            await open_producer.commit_transaction()
            await open_producer.stop()
            await eventually(lambda: records() == oracle.records, 30, "the transaction once it is committed", records)
        finally:
            await aggregate.stop()
            await control.stop()
        assert oracle.differences(store) == []
        store.close()
        assert await consume(settings.kafka, settings.kafka.dead_letters_topic) == []

    asyncio.run(run())


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_a_topic_that_the_broker_compresses(secured_kafka: SecuredListeners, tmp_path: Path, codec: str) -> None:
    """``compression.type`` of a topic made by others: what is read back is what was written, deltas included."""
    from kafka import KafkaAdminClient

    from pipeline.kafka.topics import ensure_topics

    settings = stream_settings("", tmp_path, 1, kafka=secured_kafka.sasl("SCRAM-SHA-256"))
    topic = f"made-by-others-{codec}-{settings.kafka.group_prefix}"
    admin = KafkaAdminClient(**kafka_python_options(settings.kafka))
    try:
        admin.create_topics(
            {topic: {"num_partitions": 1, "replication_factor": 1, "configs": {"compression.type": codec}}}
        )
    finally:
        admin.close()
    theirs = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"requests_topic": topic, "create_topics": False})}
    )
    assert ensure_topics(theirs.kafka)[topic] == 1

    async def run() -> None:
        producer = AIOKafkaProducer(**aiokafka_options(settings.kafka))
        await producer.start()
        await asyncio.gather(*[await producer.send(topic, b"value %d" % i * 50, partition=0) for i in range(200)])
        await producer.stop()
        assert [record.value for record in await consume(theirs.kafka, topic)] == [
            b"value %d" % i * 50 for i in range(200)
        ]

    asyncio.run(run())
