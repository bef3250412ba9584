"""The controller between two steps: what it writes, shows and publishes when reports of a fleet raise advice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import RevisionInput, StepOutput
from pipeline.errors import ServerUnavailable
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.sinks.live import LiveStateSink
from pipeline.store.store import Store
from pipeline.stream.controller.controller import Controller
from pipeline.windows.types import ClosedWindow
from tests.unit.stream.test_controller_turns import PARTITIONS, START, Feed

MODEL = "model"  # of request_event


class Raising(Advisor):
    """An engine that raises the advice of every pool with a queue by one replica, once per revision."""

    asked: list[RevisionInput]

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.asked = []

    def revise(self, inputs: RevisionInput) -> StepOutput:
        self.asked.append(inputs)
        raising = tuple(r for r in inputs.readings if r.fleet is not None and r.fleet.queued_requests)
        raised = tuple(
            replace(advice, issued_at=float(inputs.as_of), desired=advice.desired + 1, generation=advice.generation + 1)
            for reading in raising
            for advice in self.last.recommendations
            if (advice.model, advice.pool) == reading.key
        )
        return StepOutput(inputs.as_of, recommendations=raised, readings=raising)

    def advise(self, windows: Sequence[ClosedWindow]) -> StepOutput:
        self.last = super().advise(windows)
        return self.last


class Published:
    """A required destination; ``down``: it takes nothing."""

    dropped = 0

    def __init__(self) -> None:
        self.outputs: list[StepOutput] = []
        self.down = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        assert finished
        if self.down:
            raise ServerUnavailable("no broker")
        self.outputs.append(output)


@pytest.fixture
def settings() -> Settings:
    pools = tuple(PoolSettings(model=MODEL, pool=f"p{p}", profile="llama-3.1-8b", accelerator="L40S") for p in (0, 1))
    made = load(None, windows={"allowed_lateness_seconds": 30.0}, kafka={"partitions": PARTITIONS})
    return made.model_copy(update={"pools": pools})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


class Bench:
    """A controller in whose first step every pool has advice; event time is 16 seconds beyond it."""

    def __init__(self, settings: Settings, store: Store, feed: Feed | None = None) -> None:
        self.feed = feed or Feed(settings)
        self.advisor = Raising(settings)
        self.clock = ManualClock(START + 110)
        self.live = LiveState(self.clock, settings.pools, "x")
        self.published = Published()
        self.book = ReplicaBook()
        for at in (40.0, 80.0, 100.0):
            for pool, queued in (("p0", 7 if at > 90 else 0), ("p1", 0)):
                self.book.add(ReplicaStatus(model=MODEL, pool=pool, at=START + at, current=1, queued_requests=queued))
        self.controller = Controller(
            settings,
            self.clock,
            store,
            self.advisor,
            self.live,
            SinkFanout([LiveStateSink(self.live), self.published]),
            PARTITIONS,
            lambda: SimpleNamespace(highwater=lambda tp: self.feed.written[tp.partition]),
            replicas=self.book,
        )
        self.controller.intake._epochs = {TP(settings.kafka.deltas_topic, p): 1 for p in range(PARTITIONS)}

    async def first_step(self) -> None:
        for at in (START + 1, START + 106.5):
            for partition in range(PARTITIONS):
                await self.controller.take(self.feed.batch(partition, at))
        assert [output.as_of for output in self.published.outputs] == [START + 60]


@pytest.mark.slow
def test_what_is_raised_is_written_shown_and_published(settings: Settings, store: Store) -> None:
    async def run() -> None:
        bench = Bench(settings, store)
        await bench.first_step()
        before = bench.live.advised_at()
        await bench.controller.tick()
        await bench.controller.tick()  # nothing new: it is not asked again
        (inputs,) = bench.advisor.asked
        assert (inputs.as_of, inputs.after) == (START + 75, START + 60)
        assert [reading.key.pool for reading in inputs.readings] == ["p0", "p1"]
        _, revision = bench.published.outputs
        (raised,) = revision.recommendations
        assert [reading.key.pool for reading in revision.readings] == ["p0"]
        assert (bench.live.as_of(), before, bench.live.advised_at()) == (START + 60, START + 60, START + 75)
        view = bench.live.pool(MODEL, "p0")
        assert view is not None
        assert view.window is not None
        assert (view.recommendation, view.window.end) == (raised, START + 60)
        counters = bench.live.counters()
        assert (counters.steps, dict(counters.revisions)) == (1, {(MODEL, "p0"): 1, (MODEL, "p1"): 0})
        text = Exporter(bench.live).render().decode()
        assert f'tokentide_recommendation_revisions_total{{model="{MODEL}",pool="p0"}} 1' in text
        assert f'tokentide_recommended_replicas{{model="{MODEL}",pool="p0"}} {raised.desired}' in text
        assert [r["issued_at"] - START for r in store.recommendations(MODEL, "p0", 9)] == [75, 60]
        assert list(store.inputs_since(START + 60)) == [replace(inputs, readings=revision.readings)]
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_nothing_is_written_or_published_where_nothing_changes(settings: Settings, store: Store) -> None:
    async def run() -> None:
        bench = Bench(settings, store)
        bench.book._reports.clear()
        bench.book.add(ReplicaStatus(model=MODEL, pool="p0", at=START + 100, current=1))
        await bench.first_step()
        shown = bench.live.version
        await bench.controller.tick()
        assert len(bench.advisor.asked) == 1
        assert len(bench.published.outputs) == 1
        assert bench.live.version == shown
        assert store.last_advised() == START + 60
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_a_controller_that_is_behind_the_clock_revises_nothing(settings: Settings, store: Store) -> None:
    async def run() -> None:
        bench = Bench(settings, store)
        bench.clock.set(START + 300)
        await bench.first_step()
        await bench.controller.tick()
        assert not bench.advisor.asked
        await bench.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_what_was_written_and_not_published_is_told_after_the_restart(settings: Settings, store: Store) -> None:
    async def run() -> None:
        killed = Bench(settings, store)
        await killed.first_step()
        killed.published.down = True
        with pytest.raises(ServerUnavailable):
            await killed.controller.tick()
        again = Bench(settings, store, killed.feed)
        await again.controller.start()
        (told,) = again.published.outputs
        advised = {advice.pool: advice.issued_at - START for advice in told.recommendations}
        assert (told.as_of, advised) == (START + 60, {"p0": 75, "p1": 60})
        assert (again.live.as_of(), again.live.advised_at()) == (START + 60, START + 75)
        await again.controller.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_what_cannot_be_written_is_not_published_and_ends_the_process(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    async def run() -> None:
        bench = Bench(settings, store)
        await bench.first_step()
        monkeypatch.setattr(store, "record_revision", full)
        with pytest.raises(OSError, match="disk full"):
            await bench.controller.tick()
        assert len(bench.published.outputs) == 1
        assert bench.controller._closer.state() is None, "the engine is ahead of the store"
        await bench.controller.stop()

    asyncio.run(run())
