"""Deltas are stored while a step is computed; those of windows that have closed already are late at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.events.validation import EventLimits
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.store.store import Store
from pipeline.stream.controller import window_closer as closing
from pipeline.stream.controller.controller import Controller
from pipeline.stream.controller.delta_ingest import MAX_TOGETHER_BYTES
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.testing import request_event
from pipeline.windows.delta import encode
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.types import ClosedWindow, Delta
from tests.waiting import eventually, scaled

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
        values = [
            json.dumps(request_event(f"{partition}-{begin + i}", at, pool=f"p{partition}")).encode()
            for i, at in enumerate(times)
        ]
        end = begin + len(values)
        delta: Delta | None
        delta, _ = self.folders[partition].fold(
            values, range(begin, end), [-1] * len(values), begin, end, max(times) + 5, caught_up=True
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

    def advise(self, windows: Sequence[ClosedWindow]) -> StepOutput:
        self.inside.set()
        assert self.gate.wait(scaled(20))
        return super().advise(windows)


class Published:
    def __init__(self) -> None:
        self.ends: list[int] = []
        self.pools: list[list[str]] = []

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    dropped = 0

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        self.ends.append(output.as_of)
        self.pools.append([window.pool for window in output.windows])


@pytest.fixture
def settings() -> Settings:
    return load(None, windows={"allowed_lateness_seconds": 30.0}, kafka={"partitions": PARTITIONS})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


class Bench:
    """A controller that closes one pool at a time: the first windows are closed, the step of the second is under way.

    Partition n has the pool ``pn``. While the gate is closed, the window of ``p0`` is closed and that of ``p1`` is not.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.feed = Feed(settings)
        self.store = store
        self.advisor = GatedAdvisor(settings)
        self.published = Published()
        clock = ManualClock(START + 1_000)
        self.controller = Controller(
            settings,
            clock,
            store,
            self.advisor,
            LiveState(clock, (), "x"),
            SinkFanout([self.published]),
            PARTITIONS,
            lambda: SimpleNamespace(highwater=lambda tp: self.feed.written[tp.partition]),
        )
        self.controller.intake._epochs = {TP(settings.kafka.deltas_topic, p): 1 for p in range(PARTITIONS)}

    async def take(self, partition: int, *times: float) -> None:
        await asyncio.wait_for(self.controller.take(self.feed.batch(partition, *times)), scaled(20))

    async def begin_second(self) -> asyncio.Task[None]:
        for at in (START + 1, START + 95):
            for partition in range(PARTITIONS):
                await self.take(partition, at)
        await self.controller.close_due()
        assert self.published.ends == [START + 60] * PARTITIONS
        self.advisor.gate.clear()
        self.advisor.inside.clear()
        for partition in range(PARTITIONS):
            await self.take(partition, START + 155)  # makes one window due; nobody waits for it
        closing = asyncio.create_task(self.controller.tick())
        assert await asyncio.to_thread(self.advisor.inside.wait, scaled(20))
        return closing

    def requests(self) -> int:
        return sum(window.requests for window in self.store.window_sums(0, int(START) + 10_000))

    def late(self) -> int:
        return sum(row["late"] for row in self.store.ledger())


@pytest.fixture
def bench(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(closing, "POOLS_PER_PART", 1)
    return Bench(settings, store)


@pytest.mark.slow
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


@pytest.mark.slow
def test_rows_of_a_window_that_has_closed_are_late_while_the_step_is_computed(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        before = bench.requests()
        await bench.take(0, START + 100, START + 158)
        await bench.take(1, START + 101, START + 160)
        assert bench.requests() == before + 4
        assert bench.late() == 1, "p0 has closed, p1 has not"
        bench.advisor.gate.set()
        await closing
        assert bench.requests() == before + 4
        assert bench.late() == 1
        (closed,) = list(bench.store.closed_since(int(START) + 60))
        assert [(w.pool, w.requests) for w in closed.windows] == [("p0", 1), ("p1", 2)], (
            "as they stood when they closed"
        )
        assert bench.store.delta_positions() == dict(enumerate(bench.feed.written))
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_what_is_advised_of_a_step_is_published_before_the_rest_is_closed(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        gate = bench.advisor.gate
        assert bench.published.pools == [["p0"], ["p1"]]
        first, bench.advisor.gate = gate, threading.Event()  # the next part waits
        bench.advisor.inside.clear()
        first.set()
        await asyncio.to_thread(bench.advisor.inside.wait, 20)
        assert bench.published.pools == [["p0"], ["p1"], ["p0"]]
        assert bench.store.last_closed() == START + 60
        bench.advisor.gate.set()
        await closing
        assert bench.published.pools == [["p0"], ["p1"], ["p0"], ["p1"]]
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
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
        kept = bench.store.snapshots()
        assert kept is not None
        assert kept.as_of == START + 120

    asyncio.run(run())


@pytest.mark.slow
def test_an_engine_that_failed_within_a_step_leaves_no_snapshot_of_it(bench: Bench, monkeypatch: Any) -> None:
    def fails(*_: Any) -> Callable[..., Any]:
        raise ZeroDivisionError

    async def run() -> None:
        closing = await bench.begin_second()
        monkeypatch.setattr(Advisor, "advise", fails)
        bench.advisor.gate.set()
        with pytest.raises(ZeroDivisionError):
            await closing
        await bench.controller.stop()
        kept = bench.store.snapshots()
        assert kept is not None
        assert kept.as_of == START + 60

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_restart_shows_the_stored_advice_before_the_engine_is_there(
    settings: Settings, store: Store, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deltas are stored and the watchdog is kept quiet meanwhile; windows close once the engine is there."""

    async def run() -> None:
        for at in (START + 1, START + 95):
            for partition in range(PARTITIONS):
                await bench.take(partition, at)
        await bench.controller.close_due()
        await bench.controller.stop()

        again = Bench(settings, store)
        again.feed = bench.feed
        gate = threading.Event()
        restore = again.controller._closer.restore
        monkeypatch.setattr(
            again.controller._closer, "restore", lambda stopped: gate.wait(scaled(60)) and restore(stopped)
        )
        moved: list[int] = []
        again.controller.moved = lambda: moved.append(1)
        again.controller.intake._epochs = {TP(settings.kafka.deltas_topic, p): 1 for p in range(PARTITIONS)}
        await again.controller.start()
        assert again.published.pools == [["p0", "p1"]], "the whole step, from the store"
        before = again.requests()
        for partition in range(PARTITIONS):
            await again.take(partition, START + 155)
        assert again.requests() == before + PARTITIONS
        closing = asyncio.create_task(again.controller.tick())
        seen = len(moved)
        while len(moved) < seen + 2:
            await asyncio.sleep(0.05)
        assert store.last_closed() == START + 60
        gate.set()
        await closing
        assert store.last_closed() == START + 120
        await again.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_what_has_closed_is_brought_into_memory_for_readers_after_each_step(bench: Bench) -> None:
    async def run() -> None:
        closing = await bench.begin_second()
        bench.advisor.gate.set()
        await closing
        await eventually(lambda: _in_memory(bench.store) == START + 120, 20, "the step is in memory")
        await bench.controller.stop()

    asyncio.run(run())


def _in_memory(store: Store) -> int:
    """How far closed windows are in memory (epoch seconds)."""
    return store._recent.find(*store.pools()[0], int(START), int(START) + 600).until
