"""Deltas are stored while a step is computed; those with rows of the window being closed wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepInput, StepOutput
from pipeline.clock import ManualClock
from pipeline.errors import StoreError
from pipeline.events.check import EventLimits
from pipeline.publish.state import LiveState
from pipeline.settings import Settings, load
from pipeline.store.store import Store
from pipeline.stream.batch import RecordBatch
from pipeline.stream.controller import MAX_WAITING_BATCHES, Controller
from pipeline.stream.intake import MAX_HELD_BATCHES, MAX_TOGETHER_BYTES
from pipeline.testing import request_event
from pipeline.windows.aggregate import PartitionAggregator
from pipeline.windows.delta import encode
from pipeline.windows.model import Delta

START = 1_700_000_040.0  # the start of a minute
PARTITIONS = 2


class Feed:
    """Makes the delta log of every partition, one delta per call."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folders = [
            PartitionAggregator(settings.kafka.requests_topic, p, "a", EventLimits(), 0) for p in range(PARTITIONS)
        ]
        self.read = [0] * PARTITIONS
        self.written = [0] * PARTITIONS

    def batch(self, partition: int, *times: float) -> RecordBatch:
        """One delta of events that arrive at these times, as the controller gets it."""
        import json

        begin = self.read[partition]
        values = [json.dumps(request_event(f"{partition}-{begin + i}", at)).encode() for i, at in enumerate(times)]
        end = begin + len(values)
        delta: Delta | None
        delta, _ = self.folders[partition].fold(
            values, range(begin, end), [-1] * len(values), begin, end, max(times) + 5
        )
        assert delta is not None
        offset = self.written[partition]
        delta.base_delta_offset = offset - 1
        self.read[partition], self.written[partition] = end, offset + 1
        batch = RecordBatch(TP(self.settings.kafka.deltas_topic, partition), offset)
        batch.next_offset = offset + 1
        batch.values, batch.timestamps, batch._offsets, batch.epoch = [encode(delta)], [-1], [offset], 1
        return batch


class GatedAdvisor(Advisor):
    """Waits in a step until let; an ordinary engine otherwise."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()

    def step(self, inputs: StepInput) -> StepOutput:
        self.inside.set()
        assert self.gate.wait(20)
        return super().step(inputs)


class Published:
    def __init__(self) -> None:
        self.ends: list[int] = []

    async def publish(self, output: StepOutput) -> None:
        self.ends.append(output.as_of)


@pytest.fixture
def settings() -> Settings:
    return load(None, windows={"allowed_lateness_seconds": 30.0}, kafka={"partitions": PARTITIONS})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


class Bench:
    """A controller that has closed its first window, and the step of the second one under way."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.feed = Feed(settings)
        self.store = store
        self.advisor = GatedAdvisor(settings)
        self.published = Published()
        clock = ManualClock(START + 100)
        self.controller = Controller(
            settings,
            clock,
            store,
            self.advisor,
            LiveState(clock, (), "x"),
            self.published,  # type: ignore[arg-type]
            PARTITIONS,
            lambda: SimpleNamespace(highwater=lambda tp: self.feed.written[tp.partition]),
        )
        self.controller.intake._epochs = {TP(settings.kafka.deltas_topic, p): 1 for p in range(PARTITIONS)}

    async def take(self, partition: int, *times: float) -> None:
        await asyncio.wait_for(self.controller.take(self.feed.batch(partition, *times)), 20)

    async def begin_second(self) -> asyncio.Task[None]:
        for at in (START + 1, START + 95):
            for partition in range(PARTITIONS):
                await self.take(partition, at)
        await self.controller.close_due()
        assert self.published.ends == [START + 60]
        self.advisor.gate.clear()
        self.advisor.inside.clear()
        for partition in range(PARTITIONS):
            await self.take(partition, START + 155)  # makes one window due; nobody waits for it
        closing = asyncio.create_task(self.controller.tick())
        await asyncio.to_thread(self.advisor.inside.wait, 20)
        return closing

    def requests(self) -> int:
        return sum(window.requests for window in self.store.window_sums(0, int(START) + 10_000))

    def late(self) -> int:
        return sum(row["late"] for row in self.store.ledger())


@pytest.fixture
def bench(settings: Settings, store: Store) -> Bench:
    return Bench(settings, store)


def test_deltas_are_stored_while_a_step_is_computed(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before = bench.requests()
        await bench.take(0, START + 156, START + 157)
        await bench.take(1, START + 2)  # late for the first window, which is recorded: no reason to wait
        assert bench.requests() == before + 3
        assert bench.late() == 1
        assert bench.store.last_closed() == START + 60
        bench.advisor.gate.set()
        await closing
        assert bench.store.last_closed() == START + 120
        await bench.controller.stop()

    asyncio.run(run())


def test_rows_of_the_window_being_closed_wait_and_are_late(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before = bench.requests()
        await bench.take(0, START + 100, START + 158)
        await bench.take(0, START + 159)  # in order, behind the one that waits
        assert bench.requests() == before
        await bench.take(1, START + 160)  # the other partition goes on
        assert bench.requests() == before + 1
        bench.advisor.gate.set()
        await closing
        assert bench.requests() == before + 4
        assert bench.late() == 1
        (closed,) = list(bench.store.closed_since(int(START) + 60))
        assert [window.requests for window in closed.windows] == [2], "as it stood when it closed"
        assert bench.store.delta_positions() == dict(enumerate(bench.feed.written))
        await bench.controller.stop()

    asyncio.run(run())


def test_what_waited_for_a_partition_that_was_taken_away_is_dropped(bench: Bench, settings: Settings) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before, positions = bench.requests(), bench.store.delta_positions()
        await bench.take(0, START + 100)
        bench.controller.intake.forget({TP(settings.kafka.deltas_topic, 0)})
        bench.advisor.gate.set()
        await closing
        assert bench.requests() == before
        assert bench.store.delta_positions() == positions, "who takes it over reads it again"
        await bench.controller.stop()

    asyncio.run(run())


def test_only_so_many_batches_wait_in_memory(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before = bench.requests()
        for _ in range(MAX_HELD_BATCHES):
            await bench.take(0, START + 100)
        one_more = asyncio.create_task(bench.take(0, START + 101))
        done, _ = await asyncio.wait({one_more}, timeout=0.05)
        assert not done
        bench.advisor.gate.set()
        await asyncio.gather(closing, one_more)
        assert bench.requests() == before + MAX_HELD_BATCHES + 1
        assert bench.late() == MAX_HELD_BATCHES + 1
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.parametrize("end", ["stop", "cancel"])
def test_a_step_that_has_begun_is_recorded(bench: Bench, end: str) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        if end == "cancel":
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        stopping = asyncio.create_task(bench.controller.stop())
        await asyncio.sleep(0)
        bench.advisor.gate.set()
        await stopping
        assert bench.store.last_closed() == bench.advisor.as_of == START + 120
        snapshot = bench.store.latest_snapshot()
        assert snapshot is not None
        assert snapshot[0] == START + 120

    asyncio.run(run())


def test_an_engine_that_failed_within_a_step_leaves_no_snapshot(bench: Bench, monkeypatch: Any) -> None:
    def fails(*_: Any) -> Callable[..., Any]:
        raise ZeroDivisionError

    async def run() -> None:
        closing = await bench.begin_second()
        monkeypatch.setattr(Advisor, "step", fails)
        bench.advisor.gate.set()
        with pytest.raises(ZeroDivisionError):
            await closing
        await bench.controller.stop()
        assert bench.store.latest_snapshot() is None

    asyncio.run(run())


class CountedStore:
    """Passes on to a store; remembers the partitions of each transaction, and fails when told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.applied: list[list[int]] = []
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, records: Any) -> Any:
        if self.fails:
            raise StoreError("the disk is full")
        self.applied.append([partition for partition, _, _ in records])
        return self._store.apply(records)


def test_what_waits_is_stored_together(bench: Bench) -> None:
    async def run() -> None:
        counted = bench.controller.intake._store = CountedStore(bench.store)  # type: ignore[assignment]
        acknowledged: list[int] = []

        async def done(number: int) -> None:
            acknowledged.append(number)

        async def failed(error: BaseException) -> None:
            raise AssertionError from error

        async with bench.controller._turn:  # the writer is busy
            for number in range(4):
                batch = bench.feed.batch(number % PARTITIONS, START + 1 + number)
                await bench.controller.begin(batch, partial(done, number), failed)
            await asyncio.sleep(0.01)
            assert (counted.applied, acknowledged) == ([], [])
        await bench.controller._hand.finished()
        assert counted.applied == [[0, 1, 0, 1]], "one transaction, in the order of each partition"
        assert sorted(acknowledged) == [0, 1, 2, 3]
        assert bench.requests() == 4
        await bench.controller.stop()

    asyncio.run(run())


async def _ignore(*_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, [16, 8]), (MAX_TOGETHER_BYTES // 4, 6 * [4]), (MAX_TOGETHER_BYTES + 1, 24 * [1])],
)
def test_what_is_stored_together_is_bounded(bench: Bench, size: int, expected: list[int]) -> None:
    async def run() -> None:
        counted = bench.controller.intake._store = CountedStore(bench.store)  # type: ignore[assignment]
        batches = [bench.feed.batch(number % PARTITIONS, START + 1) for number in range(24)]
        async with bench.controller._turn:  # the writer is busy
            for batch in batches:
                batch.value_bytes = size
                await bench.controller.begin(batch, _ignore, _ignore)
            await asyncio.sleep(0.01)
        await bench.controller._hand.finished()
        assert [len(applied) for applied in counted.applied] == expected
        assert bench.requests() == 24
        assert not any(batch.values for batch in batches), "Faust holds them longer"
        await bench.controller.stop()

    asyncio.run(run())


def test_batches_that_come_at_once_do_not_pass_the_limit_of_those_that_wait(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before = bench.requests()
        async with bench.controller._turn:
            for _ in range(MAX_WAITING_BATCHES):
                await bench.controller.begin(bench.feed.batch(0, START + 100), _ignore, _ignore)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(bench.controller.intake.held) == MAX_HELD_BATCHES
        bench.advisor.gate.set()
        await closing
        await bench.controller._hand.finished()
        assert bench.requests() == before + MAX_WAITING_BATCHES
        await bench.controller.stop()

    asyncio.run(run())


def test_what_waited_for_a_step_is_not_stored_after_a_failure(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before, positions = bench.requests(), bench.store.delta_positions()
        counted = bench.controller.intake._store = CountedStore(bench.store)  # type: ignore[assignment]
        await bench.take(0, START + 100)
        counted.fails = True
        await bench.controller.begin(bench.feed.batch(1, START + 156), _ignore, _ignore)
        await bench.controller._hand.finished()
        counted.fails = False
        bench.advisor.gate.set()
        await closing
        assert bench.store.last_closed() == START + 120, "the step is recorded all the same"
        assert (bench.requests(), bench.store.delta_positions(), counted.applied) == (before, positions, [])
        await bench.controller.stop()

    asyncio.run(run())


def test_nothing_is_acknowledged_when_storing_together_fails(bench: Bench) -> None:
    async def run() -> None:
        counted = bench.controller.intake._store = CountedStore(bench.store)  # type: ignore[assignment]
        counted.fails = True
        failures: list[BaseException] = []

        async def done() -> None:
            raise AssertionError("acknowledged")

        async def failed(error: BaseException) -> None:
            failures.append(error)

        for partition in (0, 1, 0):
            await bench.controller.begin(bench.feed.batch(partition, START + 1), done, failed)
        await bench.controller._hand.finished()
        assert [str(error) for error in failures] == ["the disk is full"]
        assert bench.requests() == 0
        await bench.controller.stop()

    asyncio.run(run())
