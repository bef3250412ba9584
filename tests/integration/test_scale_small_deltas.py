"""A topic of deltas that takes small records only: deltas are cut until they fit, and every event counts once."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from pipeline.config.settings import Settings
from pipeline.kafka.topics import LEAST_DELTA_BYTES, topic_specs
from pipeline.testing import request_event
from pipeline.windows.delta import applies, decode
from tests.kafka_servers import consume, produce, stream_settings
from tests.waiting import Patience, scaled

pytestmark = pytest.mark.integration

EVENTS = 3_000


def aggregate(settings: Settings) -> None:
    from pipeline.stream.process.supervisor import run_stage

    raise SystemExit(run_stage(settings, "aggregate"))


def test_deltas_are_cut_until_they_fit(apache_kafka: str, tmp_path: Path) -> None:
    """Apache Kafka only: the embedded broker takes records of any size."""
    settings = stream_settings(apache_kafka, tmp_path, 1, stream={"max_batch_records": 2_000})
    name = f"{settings.kafka.deltas_topic}-small"
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"deltas_topic": name})})
    (spec,) = (spec for spec in topic_specs(settings.kafka) if spec.name == name)
    small = {**spec.config, "max.message.bytes": str(LEAST_DELTA_BYTES)}
    admin = KafkaAdminClient(bootstrap_servers=apache_kafka)
    admin.create_topics(
        {name: {"num_partitions": 1, "replication_factor": 1, "configs": small}}, wait_for_metadata=True
    )
    admin.close()

    async def run() -> None:
        at = time.time() - 30
        events = [request_event(f"e{i}", at + i / 1_000, pool=f"pool-{i}") for i in range(EVENTS)]
        records = [(0, json.dumps(event).encode()) for event in events]
        await produce(apache_kafka, settings.kafka.requests_topic, records)
        process = multiprocessing.get_context("spawn").Process(target=aggregate, args=(settings,))
        process.start()
        try:
            position, counted, largest = None, 0, 0
            patience = Patience(120, f"{EVENTS} events counted", progress=lambda: counted)
            while counted < EVENTS:
                await patience.look()
                assert process.exitcode is None
                await asyncio.sleep(1.0)
                position, counted = None, 0
                for record in await consume(apache_kafka, name):
                    delta = decode(record.value)
                    if applies(position, delta) == "apply":
                        position, counted = delta.through_offset + 1, counted + delta.events
                        largest = max(largest, len(record.value))
        finally:
            process.terminate()
            process.join(scaled(30))
        assert (position, counted) == (EVENTS, EVENTS)
        assert largest <= LEAST_DELTA_BYTES

    asyncio.run(run())
