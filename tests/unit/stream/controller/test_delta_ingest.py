from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings, load
from pipeline.errors import TokentideError
from pipeline.store.store import Store
from pipeline.stream.controller.delta_ingest import DeltaIntake
from pipeline.stream.controller.health import HealthBoard
from pipeline.stream.kafka.batch import RecordBatch

TOPIC = "inference.window-deltas.v1"


async def here(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture
def settings() -> Settings:
    return load(None)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


def intake(settings: Settings, store: Store, ends: dict[int, int | None]) -> DeltaIntake:
    clock = ManualClock(1_700_000_000.0)
    consumer = SimpleNamespace(highwater=lambda tp: ends[tp.partition])
    made = DeltaIntake(settings, clock, store, HealthBoard(settings, clock, store), 2, lambda: consumer, here)
    made._epochs = {TP(TOPIC, partition): 1 for partition in ends}
    return made


def batch(partition: int, epoch: int = 1) -> RecordBatch:
    """One record that is no delta."""
    made = RecordBatch(TP(TOPIC, partition), 0)
    made.next_offset, made.values, made.timestamps, made._offsets, made.epoch = 1, [b"?"], [-1], [0], epoch
    return made


def test_what_waits_is_counted_and_unknown_is_one(settings: Settings, store: Store) -> None:
    assert intake(settings, store, {0: 3, 1: None}).lag() == {(TOPIC, 0): 3, (TOPIC, 1): 1}
    assert intake(settings, store, {0: 3, 1: 4}).work() == ({}, 7)


def test_a_partition_that_is_missing_is_work_that_nobody_does(settings: Settings, store: Store) -> None:
    assert intake(settings, store, {0: 3}).work() == ({}, 1)
    nothing = intake(settings, store, {})
    assert not nothing.assigned
    assert nothing.lag() == {}
    assert nothing.reached() is None


def test_batches_of_another_epoch_or_of_a_revoked_partition_are_dropped(settings: Settings, store: Store) -> None:
    async def run() -> None:
        own = intake(settings, store, {0: 1, 1: 1})
        batches = [batch(0, epoch=2), batch(1)]
        for one in batches:
            own.put(one)
        own.forget([TP(TOPIC, 1)])
        await own.store_waiting()
        assert not any(own.waits(one) for one in batches)
        assert store.delta_positions() == {}
        own.put(batch(0))
        await own.store_waiting()
        assert store.delta_positions() == {0: 1}

    asyncio.run(run())


def test_more_partitions_than_at_the_start_are_refused(settings: Settings, store: Store) -> None:
    with pytest.raises(TokentideError, match="beyond 2 partitions"):
        asyncio.run(intake(settings, store, {}).start_partitions({TP(TOPIC, 2): 1}))
