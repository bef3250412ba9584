"""Killed while reports of the fleet raise advice between two windows: what is stored, shown and published agrees."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import RevisionInput, StepInput
from pipeline.store.store import Store
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import START_SECONDS, Fleet, fault_settings, get
from tests.faults.sabotage import REVISION_POINTS, die_at
from tests.kafka_servers import consume
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

POOLS = ("m0", "m1")
GRAIN = 10


def settings_of(bootstrap: str, folder: Path) -> Settings:
    """Windows of ten seconds, with a revision every two."""
    made = fault_settings(bootstrap, folder, 2, advise={"revise_every_seconds": 2})
    pools = tuple(
        PoolSettings(model=model, profile="llama-3.1-8b", accelerator="L4", max_replicas=5_000, lead_time_seconds=30.0)
        for model in POOLS
    )
    return made.model_copy(update={"pools": pools})


async def report(settings: Settings) -> None:
    """Every half second: one replica, and a queue that grows by so much that each report needs more replicas.

    Nothing else of requests: it would contradict the events, so that nothing would be believed.
    """
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    await producer.start()
    began = time.time()
    try:
        while True:
            now = time.time()
            for model in POOLS:
                status = {
                    "schema": "tokentide.replica.status.v1",
                    "model": model,
                    "at": now,
                    "current": 1,
                    "ready": 1,
                    "queued_requests": int(200 * (now - began)),
                }
                await producer.send_and_wait(settings.kafka.replicas_topic, msgspec.json.encode(status))
            await asyncio.sleep(0.5)
    finally:
        await producer.stop()


@contextlib.asynccontextmanager
async def traffic(settings: Settings) -> AsyncIterator[None]:
    """Events and reports, without end."""
    feed = Feed(settings, 5, delay_seconds=1.0, hostile=False)
    tasks = [asyncio.create_task(feed.run(batch=20, pause_seconds=0.2)), asyncio.create_task(report(settings))]
    try:
        yield
    finally:
        feed.stopping = True
        await tasks[0]
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def published(settings: Settings) -> list[dict[str, Any]]:
    topic = settings.kafka.recommendations_topic
    return [msgspec.json.decode(record.value) for record in await consume(settings.kafka.bootstrap, topic)]


async def revisions(settings: Settings, least: int) -> None:
    """Wait until so many more recommendations that revisions made have been published; repeated ones do not count."""

    async def count() -> int:
        return len({(r["model"], r["issued_at"]) for r in await published(settings) if between(r)})

    before = await count()

    async def enough() -> bool:
        return await count() >= before + least

    await eventually(enough, 3 * READY_SECONDS, f"{least} revisions")


def between(advice: dict[str, Any]) -> bool:
    return str(advice["message"]).startswith("between two windows")


async def shown(settings: Settings) -> dict[str, Any]:
    """What the API says of the first pool, once it answers."""
    found: dict[str, Any] = {}

    async def answers() -> bool:
        status, body = await get(settings, f"/v1/recommendations?model={POOLS[0]}")
        rows = body["recommendations"] if status == 200 else []
        found.update(rows[0] if rows else {})
        return bool(rows)

    await eventually(answers, START_SECONDS, "the API shows advice")
    return found


def assert_agrees(settings: Settings, records: list[dict[str, Any]], least: int) -> None:
    """Learn all again from what is stored: the same advice comes of it, which is what was published.

    Among it are so many revisions at ``least``.
    """
    said: dict[tuple[str, float], tuple[Any, ...]] = {}
    advisor = Advisor(settings)
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        kinds: Counter[str] = Counter()
        for inputs in store.inputs_since(-1):
            kinds[type(inputs).__name__] += 1
            output = advisor.step(inputs) if isinstance(inputs, StepInput) else advisor.revise(inputs)
            if isinstance(inputs, RevisionInput):
                assert output.readings == inputs.readings, "each that was kept raised something"
            for advice in output.recommendations:
                said[advice.model, advice.issued_at] = (advice.generation, advice.desired, advice.message)
        stored = {
            (row["model"], row["issued_at"]): (row["generation"], row["desired"], row["message"])
            for model in POOLS
            for row in store.recommendations(model, "default", 10_000)
        }
    assert kinds["RevisionInput"] >= least
    assert kinds["StepInput"] >= 1
    assert stored == said
    told: dict[tuple[str, float], tuple[Any, ...]] = {}
    for record in records:
        place = record["model"], record["issued_at"]
        content = record["generation"], record["desired"], record["message"]
        assert told.setdefault(place, content) == content, "advice that was published twice is the same"
    assert told.keys() <= said.keys(), "nothing was published that is not stored"
    assert all(said[place] == content for place, content in told.items())


def test_killed_at_any_point_what_was_raised_is_learned_again(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = settings_of(embedded_broker, tmp_path)
        fleet, rng = Fleet(settings, tmp_path), random.Random(3)
        try:
            async with traffic(settings):
                fleet.start("aggregate")
                fleet.start("control")
                for _ in range(3):
                    await revisions(settings, 2)
                    await asyncio.sleep(rng.uniform(0.0, 1.0))
                    fleet.restart("control")
                await revisions(settings, 2)
            assert fleet.stop()["control"] == 0
        finally:
            fleet.stop()
        assert fleet.kills == 3
        assert_agrees(settings, await published(settings), least=4)

    asyncio.run(run())


@pytest.mark.parametrize("point", REVISION_POINTS)
def test_killed_between_two_effects_of_a_revision(embedded_broker: str, tmp_path: Path, point: str) -> None:
    """What was stored and not published is shown and published at the start; what was not stored never was."""

    async def run() -> None:
        settings = settings_of(embedded_broker, tmp_path)
        fleet = Fleet(settings, tmp_path)
        try:
            async with traffic(settings):
                fleet.start("aggregate")
                fleet.start("control", partial(die_at, point, 4))
                assert await fleet.ended("control", START_SECONDS) == -9
                with Store.open(settings.store.path, settings.store, settings.windows) as store:
                    last = store.last_output()
                assert last is not None
                newest = {advice.model: advice for advice in last.recommendations}[POOLS[0]]
                fleet.start("control")
                row = await shown(settings)
                assert row["issued_at"] >= newest.issued_at
                assert row["generation"] >= newest.generation
                await revisions(settings, 1)
            fleet.stop()
        finally:
            fleet.stop()
        records = await published(settings)
        assert (newest.model, newest.issued_at) in {(r["model"], r["issued_at"]) for r in records}
        assert_agrees(settings, records, least=2)

    asyncio.run(run())
