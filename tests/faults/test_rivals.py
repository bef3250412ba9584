"""Two aggregators that both own every partition, which is what a zombie is; and other ways to disturb the log."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.clock import WallClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.errors import CodecError
from pipeline.events.validation import EventLimits
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.controller.app import controller_app
from pipeline.testing import Oracle, request_event
from pipeline.windows.delta import decode, encode
from pipeline.windows.partition_folder import PartitionAggregator
from tests.faults.feed import READY_SECONDS
from tests.kafka_servers import consume, produce, stream_settings
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

PARTITIONS = 2


def in_group(settings: Settings, name: str) -> Settings:
    """The same topics, another consumer group: its members own every partition too."""
    kafka = settings.kafka.model_copy(update={"group_prefix": f"{settings.kafka.group_prefix}-{name}"})
    return settings.model_copy(update={"kafka": kafka})


def events(oracle: Oracle, rng: random.Random, count: int) -> list[tuple[int, bytes | None]]:
    records: list[tuple[int, bytes | None]] = []
    for _ in range(count):
        i = oracle.records
        event = request_event(f"e{i}", time.time() - rng.random() * 30, model=f"m{i % 3}", input_tokens=i)
        records.append((i % PARTITIONS, oracle.event(event)))
        if i % 101 == 0:
            records.append((i % PARTITIONS, oracle.event(event)))
        if i % 307 == 0:
            records.append((i % PARTITIONS, oracle.poison(b"{", "malformed")))
    return records


async def start(app: Any) -> Any:
    app.finalize()
    await app.start()
    return app


async def log_into(settings: Settings, store: Store) -> None:
    """Apply the whole log of deltas, as a controller would."""
    for record in await consume(settings.kafka.bootstrap, settings.kafka.deltas_topic, range(PARTITIONS)):
        try:
            delta = decode(record.value)
        except CodecError:
            delta = None
        assert not store.apply([(record.partition, record.offset, delta)]).gaps


def test_two_owners_and_garbage_in_the_log_count_everything_once(any_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        stream = {"max_batch_records": 200, "dedupe_horizon_records": 1_000}
        settings = stream_settings(any_broker, tmp_path, PARTITIONS, stream=stream)
        oracle, rng = Oracle(), random.Random(3)
        rivals = [await start(aggregator_app(in_group(settings, name), WallClock())) for name in ("a", "b")]
        for _ in range(40):
            await produce(any_broker, settings.kafka.requests_topic, events(oracle, rng, 200))
            if rng.random() < 0.2:
                await produce(any_broker, settings.kafka.deltas_topic, [(rng.randrange(PARTITIONS), b"no delta")])
        wanted = [0] * PARTITIONS
        for record in await consume(any_broker, settings.kafka.requests_topic, range(PARTITIONS)):
            wanted[record.partition] = record.offset + 1

        def done() -> bool:
            return all(
                {tp.partition: p.position for tp, p in app.aggregator._partitions.items()} == dict(enumerate(wanted))
                for app in rivals
            )

        try:
            await eventually(done, 2 * READY_SECONDS, "both at the end of the log")
        finally:
            for app in rivals:
                await app.stop()
        assert sum(app.aggregator.stats.realigned for app in rivals) > 0, "they must have met"
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            await log_into(settings, store)
            assert oracle.differences(store) == []

    asyncio.run(run())


def test_a_gap_in_the_log_stops_its_partition_loudly(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(embedded_broker, tmp_path, 1)
        oracle = Oracle()
        await produce(
            embedded_broker,
            settings.kafka.requests_topic,
            [(0, oracle.event(request_event(f"e{i}", time.time() - 30))) for i in range(100)],
        )
        aggregator = await start(aggregator_app(settings, WallClock()))
        await eventually(lambda: aggregator.aggregator.stats.events == 100, 40, "the deltas")
        await aggregator.stop()
        folder = PartitionAggregator(settings.kafka.requests_topic, 0, "stranger", EventLimits(), 0)
        beyond = encode(folder.heartbeat(150))
        await produce(embedded_broker, settings.kafka.deltas_topic, [(0, beyond), (0, beyond)])
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            live = LiveState(WallClock(), (), "")
            control = await start(controller_app(settings, WallClock(), store, Advisor(settings), live, 1))
            try:
                await eventually(lambda: live.health().delta_gaps == 1, 40, "the gap is counted")
                await eventually(lambda: "gap" in live.health().detail, 10, "the gap is told")
                assert not live.health().ready
            finally:
                await control.stop()
            assert sum(row["events"] for row in store.ledger()) == 100
            stored = store.delta_positions()[0]
        assert stored < len(await consume(embedded_broker, settings.kafka.deltas_topic)), "not moved past the gap"

    asyncio.run(run())


def test_a_recreated_topic_is_refused(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(embedded_broker, tmp_path, 1)
        await produce(embedded_broker, settings.kafka.requests_topic, [(0, b"{}")])
        aggregator = await start(aggregator_app(settings, WallClock()))
        await eventually(lambda: aggregator.aggregator.stats.records == 1, 40, "one delta")
        await aggregator.stop()
        # A topic that ends before what the deltas say of it, as after it was deleted and made again.
        empty = stream_settings(embedded_broker, tmp_path, 1).kafka.requests_topic
        deltas = [decode(r.value) for r in await consume(embedded_broker, settings.kafka.deltas_topic, [0])]
        (covering,) = [delta for delta in deltas if delta.through_offset >= delta.from_offset]
        of_it = encode(msgspec.structs.replace(covering, topic=empty))
        await produce(embedded_broker, settings.kafka.deltas_topic, [(0, of_it)])
        moved = settings.kafka.model_copy(update={"requests_topic": empty})
        refused = await start(aggregator_app(settings.model_copy(update={"kafka": moved}), WallClock()))
        await eventually(lambda: bool(refused.crashed), 40, "the refusal")
        assert "recreated" in str(refused.crash_reason)
        await refused.stop()

    asyncio.run(run())
