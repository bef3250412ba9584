"""Results on a real broker: every record once, in order of its pool, in the partition that Kafka would choose."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from kafka import KafkaAdminClient

from pipeline.config.settings import load
from pipeline.engine.types import StepOutput
from pipeline.forecast.types import Forecast, SeriesKey, Signal
from pipeline.kafka.embedded_broker import EmbeddedBroker
from pipeline.publish.json import to_json
from pipeline.sinks.kafka import KafkaSink
from pipeline.testing import closed_window
from tests.waiting import scaled

pytestmark = pytest.mark.integration

PARTITIONS = 3
POOLS = [f"pool-{i:03d}" for i in range(120)]


def step(as_of: int) -> StepOutput:
    windows = tuple(closed_window(as_of - 60, 60, model="m", pool=pool) for pool in POOLS)
    forecasts = tuple(
        Forecast(SeriesKey("m", pool, signal), float(as_of), horizon, tuple(map(float, range(8))))
        for pool in POOLS
        for signal in Signal
        for horizon in (60, 300, 900, 1800, 3600)
    )
    return StepOutput(as_of, windows, forecasts)


def test_a_large_step_arrives_whole_and_where_kafka_would_put_it() -> None:
    with EmbeddedBroker(start_timeout_seconds=scaled(20.0)) as broker:
        settings = load(None, kafka={"bootstrap": broker.bootstrap})
        topics = {settings.kafka.windows_topic: 1, settings.kafka.forecasts_topic: PARTITIONS}
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics(
            {name: {"num_partitions": n, "replication_factor": 1} for name, n in topics.items()}, wait_for_metadata=True
        )
        admin.close()
        outputs = [step(1_700_000_040), step(1_700_000_100)]

        async def run() -> list[tuple[str, int, bytes, bytes]]:
            publisher = KafkaSink(settings)
            await publisher.start()
            for output in outputs:
                await publisher.publish(output)
            await publisher.stop()
            consumer = AIOKafkaConsumer(
                *topics, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
            )
            await consumer.start()
            wanted = sum(len(o.windows) + len(o.forecasts) for o in outputs)
            found = []
            while len(found) < wanted:
                for records in (await asyncio.wait_for(consumer.getmany(timeout_ms=1_000), scaled(60))).values():
                    found += [(r.topic, r.partition, r.key, r.value) for r in records]
            assert not await consumer.getmany(timeout_ms=300)
            await consumer.stop()
            return found

        found = asyncio.run(run())
    whole, partitioner = list(range(PARTITIONS)), DefaultPartitioner()
    assert len({partition for topic, partition, *_ in found if topic == settings.kafka.forecasts_topic}) == PARTITIONS
    for topic, partition, key, _ in found:
        if topic == settings.kafka.forecasts_topic:
            assert partition == partitioner(key, whole, whole)
    for pool in POOLS:
        key = f"m|{pool}".encode()
        expected = [to_json(f) for o in outputs for f in o.forecasts if f.series.pool == pool]
        assert [v for t, _, k, v in found if k == key and t == settings.kafka.forecasts_topic] == expected
        windows = [json.loads(v)["end"] for t, _, k, v in found if k == key and t == settings.kafka.windows_topic]
        assert windows == [o.as_of for o in outputs]
