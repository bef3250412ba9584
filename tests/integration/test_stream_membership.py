"""A group that a dead static member keeps waiting, as the embedded broker does for ever, gets going again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from pipeline.stream.kafka.batch import batch_topic
from pipeline.stream.kafka.faust_app import kafka_app
from pipeline.stream.kafka.membership import MembershipGuard
from tests.kafka_servers import stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_a_member_that_gets_no_assignment_is_named_and_gets_one(embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, 3, stream={"instance_id": "new"})
    topic = settings.kafka.requests_topic
    told: list[str] = []

    async def run() -> None:
        app = kafka_app(settings, "aggregate")
        dead = AIOKafkaConsumer(
            topic,
            bootstrap_servers=embedded_broker,
            group_id=app.conf.id,
            group_instance_id="old",
            session_timeout_ms=6_000,
        )
        await dead.start()
        await eventually(lambda: len(dead.assignment()) == 3, 60, "an assignment for the one that will be dead")
        await dead.stop()  # a static member does not leave
        batches = batch_topic(app, topic, queued_batches=2)

        @app.agent(batches)
        async def take(stream: object) -> None:
            async for _ in stream:
                pass

        app.resources.append(MembershipGuard(app, settings.kafka, told.append, limit_seconds=11.0))
        app.finalize()
        starting = asyncio.create_task(app.start())
        try:
            await eventually(lambda: not app.consumer.waits_for_assignment, 120, "an assignment for the living one")
            assert len(app.consumer.assignment()) == 3
        finally:
            await app.stop()
            await asyncio.wait([starting], timeout=10)

    asyncio.run(run())
    assert "has assigned no partitions" in told[0]
