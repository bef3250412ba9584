"""Killed, told to stop, failing: afterwards every window equals what the topic holds."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.config.settings import Settings
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, deltas_written, exact, fault_settings, feeding, stored, topic_ends, truth
from tests.faults.sabotage import POINTS, die_at, raise_in_agent
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = 20


async def moved_on(settings: Settings, stage: str) -> None:
    """Wait until a stage has done some work: a kill before it would hit an idle process."""
    measure = deltas_written if stage == "aggregate" else stored
    before = await measure(settings)

    async def moved() -> bool:
        return await measure(settings) > max(before, 0)

    await eventually(moved, READY_SECONDS, f"{stage} works")


@pytest.mark.parametrize("codec", ["native", "auto"])
def test_killed_at_any_point_the_result_is_exact(apache_kafka: str, tmp_path: Path, codec: str) -> None:
    seed = 11

    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path, stream={"codec": codec})
        rng = random.Random(seed)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, seed, mixed=codec == "auto")
        victims = ["aggregate", "control"] * (KILLS // 2)
        rng.shuffle(victims)

        async def hurt() -> None:
            for victim in victims:
                await moved_on(settings, victim)
                await asyncio.sleep(rng.uniform(0.0, 0.6))
                fleet.restart(victim)

        async with exact(fleet, feed, orderly=True):
            fleet.start("aggregate")
            fleet.start("control")
            await feeding(feed, hurt, at_least=50_000)
        assert fleet.kills == KILLS
        oracle = await truth(settings, feed)
        assert oracle.events >= 50_000
        assert oracle.duplicates
        assert oracle.dead_letters
        assert (oracle.ignored > 0) == (codec == "auto"), "spans that are no requests"

    asyncio.run(run())


@pytest.mark.parametrize("point", POINTS)
def test_killed_between_two_effects_the_result_is_exact(apache_kafka: str, tmp_path: Path, point: str) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 7)
        victim = {"aggregator": "aggregate", "controller": "control"}[point.partition(":")[0]]

        async def hurt() -> None:
            fleet.start(victim, partial(die_at, point, 2))
            fleet.start("control" if victim == "aggregate" else "aggregate")
            assert await fleet.ended(victim) == -9
            fleet.start(victim)

        async with exact(fleet, feed):
            # Old enough that windows close at once, with poison in more than one batch.
            for age in (90, 60, 30):
                await feed.send(2_000, at=time.time() - age)
                await feed.write([(0, b'{"broken')])
            await feeding(feed, hurt)

    asyncio.run(run())


def test_told_to_stop_it_commits_what_it_did_and_reads_nothing_again(apache_kafka: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 2)

        async def hurt() -> None:
            for _ in range(3):
                for stage in ("aggregate", "control"):
                    await moved_on(settings, stage)
                    assert await fleet.leave(stage) == 0
                    fleet.start(stage)

        async with exact(fleet, feed, orderly=True):
            fleet.start("aggregate")
            fleet.start("control")
            await feeding(feed, hurt)
        ends = await topic_ends(settings, settings.kafka.requests_topic)
        assert await committed(settings, "aggregate", settings.kafka.requests_topic) == ends

    asyncio.run(run())


async def committed(settings: Settings, stage: str, topic: str) -> list[int | None]:
    """The offsets that a stage's group has committed."""
    reader = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=f"{settings.kafka.group_prefix}-{stage}",
        enable_auto_commit=False,
    )
    await reader.start()
    try:
        partitions = range(settings.kafka.partitions)
        return [await reader.committed(TopicPartition(topic, partition)) for partition in partitions]
    finally:
        await reader.stop()


@pytest.mark.parametrize("stage", ["aggregate", "control"])
def test_an_agent_that_raises_ends_its_process_and_the_next_life_is_exact(
    apache_kafka: str, tmp_path: Path, stage: str
) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 3)

        async def hurt() -> None:
            fleet.start(stage, partial(raise_in_agent, stage, 3))
            fleet.start("control" if stage == "aggregate" else "aggregate")
            assert await fleet.ended(stage) == 1, "it must not skip the batch and go on"
            assert "ZeroDivisionError" in fleet.log(stage)
            fleet.start(stage)

        async with exact(fleet, feed):
            await feeding(feed, hurt)

    asyncio.run(run())
