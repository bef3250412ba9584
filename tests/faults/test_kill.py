"""kill -9 at seeded points while events keep coming; afterwards every window equals what was produced."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from aiokafka import AIOKafkaProducer
from kafka_servers import ApacheKafka, KafkaMissingError, produce, stream_settings

from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.broker import free_port
from pipeline.stream.reader import log_bounds, partition_reader
from pipeline.testing import Oracle, request_event

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(280)]

PARTITIONS = 4
LEAST_EVENTS = 100_000
KILLS_EACH = 3


def stage(settings: Settings, name: str) -> None:
    """One process of the pipeline, as an operator would run it."""
    from pipeline.stream.run import run_stage

    raise SystemExit(run_stage(settings, name))


class Fleet:
    """Both processes, their kills and restarts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._context = multiprocessing.get_context("spawn")
        self.children: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self.children[name] = self._context.Process(target=stage, args=(self.settings, name), daemon=True)
        self.children[name].start()

    def kill(self, name: str) -> None:
        assert self.children[name].exitcode is None, f"{name} ended by itself: {self.children[name].exitcode}"
        self.children[name].kill()
        self.children[name].join()

    def stop(self) -> dict[str, int]:
        for child in self.children.values():
            if child.exitcode is None:
                child.terminate()
        for child in self.children.values():
            child.join(30)
        return {name: child.exitcode for name, child in self.children.items()}


class Feed:
    """Makes events, and produces events without end until told to stop, with retries and poison among them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings = settings
        self._rng = random.Random(seed)
        self.oracle = Oracle()
        self.stopping = False

    def records(self, count: int) -> list[tuple[int, bytes | None]]:
        records: list[tuple[int, bytes | None]] = []
        for _ in range(count):
            i = self.oracle.records
            at = time.time() - self._rng.random() * 5
            tokens = self._rng.randrange(4_000)
            event = request_event(f"e{i}", at, model=f"m{i % 5}", input_tokens=tokens, e2e_seconds=0.5)
            records.append((i % PARTITIONS, self.oracle.event(event)))
            if i % 1_009 == 0:
                records.append((i % PARTITIONS, self.oracle.event(event)))
            if i % 4_001 == 0:
                records.append((i % PARTITIONS, self.oracle.poison(b'{"broken', "malformed")))
        return records

    async def run(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka.bootstrap, linger_ms=5)
        await producer.start()
        pending: list[Any] = []
        while not (self.stopping and self.oracle.events >= LEAST_EVENTS):
            for partition, value in self.records(1_000):
                pending.append(await producer.send(self._settings.kafka.requests_topic, value, partition=partition))
            await asyncio.sleep(0.15)
        await asyncio.gather(*pending)
        await producer.stop()


async def deltas_written(settings: Settings) -> int:
    async with partition_reader(settings.kafka.bootstrap, settings.kafka.deltas_topic, 0) as (reader, tp):
        return (await log_bounds(reader, tp))[1]


async def records_stored(settings: Settings) -> int:
    try:
        async with (
            ClientSession() as session,
            session.get(f"http://127.0.0.1:{settings.publish.port}/v1/status") as answer,
        ):
            return int(json.loads(await answer.text())["ledger"]["records"])
    except (ClientError, OSError, KeyError):
        return -1


async def progress(measure: Any, settings: Settings, more_than: int, what: str) -> None:
    deadline = time.monotonic() + 60
    while await measure(settings) <= more_than:
        assert time.monotonic() < deadline, f"{what} gets nowhere"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("seed", [11])
def test_killed_at_any_point_the_result_is_exact(apache_kafka: str, tmp_path: Path, seed: int) -> None:
    async def run() -> None:
        settings = stream_settings(
            apache_kafka,
            tmp_path,
            PARTITIONS,
            stream={"max_batch_records": 1_000, "dedupe_horizon_records": 3_000},
            store={"snapshot_every_steps": 2},
            windows={"grain_seconds": 10, "allowed_lateness_seconds": 10.0},
            publish={"port": free_port()},
        )
        rng = random.Random(seed)
        fleet, feed = Fleet(settings), Feed(settings, seed)
        try:
            fleet.start("aggregate")
            fleet.start("control")
            feeding = asyncio.create_task(feed.run())
            victims = ["aggregate", "control"] * KILLS_EACH
            rng.shuffle(victims)
            for victim in victims:
                measure = deltas_written if victim == "aggregate" else records_stored
                before = await measure(settings)
                await progress(measure, settings, before, victim)
                await asyncio.sleep(rng.uniform(0.0, 0.6))
                fleet.kill(victim)
                fleet.start(victim)
            feed.stopping = True
            await feeding
            await progress(records_stored, settings, feed.oracle.records - 1, "the pipeline")
            assert fleet.stop() == {"aggregate": 0, "control": 0}
        finally:
            fleet.stop()
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            assert feed.oracle.differences(store) == []
            steps = [as_of for (as_of,) in store.cursor().execute("SELECT as_of FROM steps ORDER BY 1").fetchall()]
            assert steps == list(range(steps[0], steps[-1] + 1, 10)), "every window closed once, in order"

    asyncio.run(run())


def everything(settings: Settings) -> None:
    """Both stages, kept alive."""
    from pipeline.stream.run import run_all

    raise SystemExit(run_all(settings))


def test_a_broker_that_restarts_loses_and_repeats_nothing(tmp_path: Path) -> None:
    try:
        server = ApacheKafka().__enter__()
    except KafkaMissingError as error:
        pytest.skip(f"Apache Kafka: {error}")

    async def run() -> None:
        settings = stream_settings(
            server.bootstrap, tmp_path, PARTITIONS, stream={"max_batch_records": 1_000}, publish={"port": free_port()}
        )
        feed = Feed(settings, seed=5)
        await produce(server.bootstrap, settings.kafka.requests_topic, feed.records(40_000))
        process = multiprocessing.get_context("spawn").Process(target=everything, args=(settings,))
        process.start()
        try:
            await progress(deltas_written, settings, 0, "the aggregator")
            server.stop()
            await asyncio.sleep(4.0)
            server.start()
            await produce(server.bootstrap, settings.kafka.requests_topic, feed.records(10_000))
            await progress(records_stored, settings, feed.oracle.records - 1, "the pipeline")
        finally:
            process.terminate()
            process.join(40)
        assert process.exitcode == 0
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            assert feed.oracle.differences(store) == []

    try:
        asyncio.run(run())
    finally:
        server.__exit__()
