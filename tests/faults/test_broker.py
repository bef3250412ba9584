"""The broker restarts, dies, stalls; topics grow, vanish and lose their oldest records. On a broker of its own each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from pipeline.config.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.kafka.fetch import FETCH_WAIT_MILLISECONDS
from pipeline.testing import Oracle
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import (
    START_SECONDS,
    Fleet,
    all_stored,
    assert_exact,
    exact,
    fault_settings,
    feeding,
    get,
    ready,
    stored,
    topic_ends,
    topic_records,
    truth,
)
from tests.kafka_servers import ApacheKafka, KafkaMissingError
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]


@pytest.fixture
def broker() -> Iterator[ApacheKafka]:
    """Apache Kafka: the embedded broker keeps nothing over a restart, cannot add partitions nor delete records, and
    never says that an offset is out of range."""
    try:
        server = ApacheKafka().__enter__()
    except KafkaMissingError as error:
        pytest.skip(f"Apache Kafka: {error}")
    try:
        yield server
    finally:
        server.__exit__()


@pytest.mark.parametrize("how", ["restart", "kill -9"])
def test_a_broker_that_goes_away_loses_and_repeats_nothing(broker: ApacheKafka, tmp_path: Path, how: str) -> None:
    async def run() -> None:
        settings = fault_settings(broker.bootstrap, tmp_path)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 5)

        async def hurt() -> None:
            await eventually(lambda: ready(settings), START_SECONDS, "ready at first")
            for away_seconds in (4.0, 8.0):
                await eventually(lambda: ready(settings), READY_SECONDS, "ready")
                await asyncio.to_thread(broker.stop if how == "restart" else broker.kill)
                await asyncio.sleep(away_seconds)
                await asyncio.to_thread(broker.start)
                took = await eventually(
                    more_than(settings, await stored(settings)), READY_SECONDS, "events are stored again"
                )
                print(f"{how}, {away_seconds:g} s away: stored again after {took:.1f} s")

        async with exact(fleet, feed, orderly=True):
            fleet.start("all")
            await feeding(feed, hurt)

    asyncio.run(run())


def more_than(settings: Settings, records: int) -> Callable[[], Awaitable[bool]]:
    async def more() -> bool:
        return await stored(settings) > records

    return more


def test_a_broker_that_stalls_closes_no_window_falsely(broker: ApacheKafka, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(broker.bootstrap, tmp_path)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 6, delay_seconds=2.0)

        async def hurt() -> None:
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            broker.pause()
            try:
                await asyncio.sleep(20.0)  # longer than a session, and than the allowed lateness
                await eventually(partial(not_ready, settings), READY_SECONDS, "who hears nothing must say so")
            finally:
                broker.resume()
            await eventually(lambda: ready(settings), READY_SECONDS, "ready again")

        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control")
            await feeding(feed, hurt)
            await all_stored(settings)
            assert await stored(settings, "late") == 0, "a window was closed before its events could come"

    asyncio.run(run())


async def not_ready(settings: Settings) -> bool:
    return (await get(settings, "/readyz"))[0] == 503


def admin(broker: ApacheKafka) -> Any:
    return KafkaAdminClient(bootstrap_servers=broker.bootstrap)


def test_partitions_that_were_added_to_requests_alone_are_followed(broker: ApacheKafka, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(broker.bootstrap, tmp_path, 2)
        grown = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 3})})
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 8)
        kafka = admin(broker)
        try:
            fleet.start("aggregate")
            fleet.start("control")
            await feed.send(3_000)
            await all_stored(settings)
            kafka.create_partitions({settings.kafka.requests_topic: 3})
            feed.settings = grown
            await feed.send(3_000)
            assert await fleet.ended("aggregate") == 1, "it cannot write deltas for a partition that has none"
            fleet.start("aggregate")  # it gives the deltas topic as many
            assert await fleet.ended("control") == 1, "one that knows of two partitions starts again"
            assert "grown beyond 2 partitions" in fleet.log("control")
            fleet.start("control")
            await feed.send(3_000)
            await all_stored(grown)
            fleet.stop()
        finally:
            fleet.stop()
            kafka.close()
        await assert_exact(grown, feed)

    asyncio.run(run())


def test_a_topic_deleted_and_made_again_is_refused(broker: ApacheKafka, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(broker.bootstrap, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 9)
        kafka = admin(broker)
        try:
            fleet.start("aggregate")
            fleet.start("control")
            await feed.send(4_000)
            await all_stored(settings)
            before = await truth(settings, feed)
            kafka.delete_topics([settings.kafka.requests_topic])
            await asyncio.sleep(1.0)
            kafka.create_topics({settings.kafka.requests_topic: {"num_partitions": 2, "replication_factor": 1}})
            await feed.send(100)
            assert await fleet.ended("aggregate", 2 * READY_SECONDS) == 1, (
                "its offsets begin again below what is covered"
            )
            fleet.start("aggregate")
            assert await fleet.ended("aggregate") == 1
            assert "the topic was recreated" in fleet.log("aggregate")
            fleet.stop()
        finally:
            fleet.stop()
            kafka.close()
        await assert_exact(settings, feed, oracle=before)

    asyncio.run(run())


@pytest.mark.parametrize("while_it", ["was down", "was reading"])
def test_records_lost_to_retention_are_counted_and_told(broker: ApacheKafka, tmp_path: Path, while_it: str) -> None:
    async def run() -> None:
        settings = fault_settings(broker.bootstrap, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 10)
        kafka = admin(broker)
        topic = settings.kafka.requests_topic
        try:
            fleet.start("aggregate")
            fleet.start("control")
            await feed.send(4_000)
            await all_stored(settings)
            covered = await topic_ends(settings, topic)
            if while_it == "was down":
                await fleet.leave("aggregate")
            else:
                fleet.pause("aggregate")
                # The fetch under way is answered into the sleeper's socket: empty, if nothing is sent until then.
                await asyncio.sleep(10 * FETCH_WAIT_MILLISECONDS / 1000)
            await feed.send(2_000)
            records = await topic_records(settings)
            gone = [end + 500 for end in covered]
            kafka.delete_records({TopicPartition(topic, p): offset for p, offset in enumerate(gone)})
            if while_it == "was down":
                fleet.start("aggregate")
            else:
                fleet.resume("aggregate")
            await all_stored(settings)
            assert "lost to retention" in fleet.log("aggregate")
            fleet.stop()
        finally:
            fleet.stop()
            kafka.close()
        with Store.open(settings.store.path) as store:
            lost = {row["partition"]: row["lost"] for row in store.ledger()}
        assert set(lost.values()) == {500}
        for partition, end in enumerate(gone):
            begin = end - lost[partition]
            records[partition] = [(at, value) for at, value in records[partition] if not begin <= at < end]
        oracle = Oracle.from_log(records, feed.poison, settings.stream.dedupe_horizon_records)
        await assert_exact(settings, feed, oracle=oracle, lost=sum(lost.values()))

    asyncio.run(run())
