"""From ``announce`` to a forecast that moves, through a real broker; live, after a restart, and learned again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.kafka.producer import new_producer
from pipeline.store.store import Store
from pipeline.stream.controller.calendar_topic import CalendarBook, CalendarReader, announce, read_calendar
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.windows.types import MEASURES, DeltaRows, HistogramRows, WindowKey
from tests.kafka_servers import consume, stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration

START = 1_790_000_400 // 3600 * 3600
STEPS = 45


def fill(store: Store) -> None:
    """Steady demand of two pools: 600 requests in each window of a minute."""
    keys = [WindowKey("llama", "chat", ""), WindowKey("llama", "batch", "")]
    windows = [START + 60 * minute for minute in range(STEPS) for _ in keys]
    measures = [[600 if name in ("requests", "ok") else 0] * len(windows) for name in MEASURES]
    rows = DeltaRows(windows, [0, 1] * STEPS, measures, [int(at * 1000) for at in windows])
    store.backfill(keys, rows, HistogramRows([], [], [], []))


def launch(**changes: object) -> CalendarRecord:
    at = START + 40 * 60.0
    record = CalendarRecord(
        "launch-1", "launch", at, at + 7200.0, expected_size=3.0, scope=Scope(pool="chat"), announced_at=START + 1000.0
    )
    return replace(record, **changes)


async def live(settings: Settings, steps: int) -> list[StepOutput]:
    """One life of a controller's reader and closer: the topic is read, then windows are closed."""
    book = CalendarBook()
    reader = CalendarReader(settings, book)
    await reader.start()
    try:
        assert book.complete
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook(), book)
            closer.restore()
            found = [closer.close_next(START + 1e9) for _ in range(steps)]
        return [output for output in found if output is not None]
    finally:
        await reader.stop()


async def spoil(settings: Settings, *values: bytes) -> None:
    """Put records on the topic that are no events."""
    producer = new_producer(settings, "test")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(settings.kafka.calendar_topic, value, key=b"k")
    finally:
        await producer.stop()


def medians(outputs: list[StepOutput], pool: str) -> dict[int, float]:
    """Half an hour ahead, by step."""
    return {
        o.as_of: f.quantiles[3]
        for o in outputs
        for f in o.forecasts
        if (f.series.pool, f.series.signal, f.horizon_seconds) == (pool, "requests_per_second", 1800)
    }


def test_an_announcement_moves_the_forecast_and_a_restart_changes_nothing(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, kafka={"calendar_topic": f"calendar-{tmp_path.name}"})
    whole = settings.model_copy(update={"store": settings.store.model_copy(update={"path": tmp_path / "whole.duckdb"})})
    for one in (settings, whole):
        with Store.open(one.store.path, one.store, one.windows) as store:
            fill(store)

    async def story() -> None:
        await announce(settings, [CalendarChange(launch()), CalendarChange(launch(id="other", kind="webinar"))])
        await announce(settings, [CalendarChange(launch(id="other", kind="webinar"), removed=True)])
        await spoil(settings, b"{}", b"\xff not json")
        found = await read_calendar(settings)
        assert list(found.records()) == ["launch-1"]
        assert found.rejected == 2

        steady = await live(whole, STEPS)
        chat, batch = medians(steady, "chat"), medians(steady, "batch")
        before, after = START + 960, START + 1020  # the steps on either side of the announcement
        assert chat[before] == pytest.approx(10.0, rel=0.02)
        # Half an hour after this step the launch has not begun; a few steps later it has.
        assert chat[after + 720] > 2.5 * batch[after + 720] > 0
        assert all(value == pytest.approx(10.0, rel=0.02) for value in batch.values())

        parts = await live(settings, 25)
        parts += await live(settings, 3)
        parts += await live(settings, STEPS - 28)
        assert [o.as_of for o in parts] == [o.as_of for o in steady]
        assert [o.forecasts for o in parts] == [o.forecasts for o in steady]
        assert [o.calendar for o in parts] == [o.calendar for o in steady]
        assert sum(len(o.calendar) for o in steady) == 1

        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            again = Advisor(settings)
            learned = [again.step(inputs) for inputs in store.closed_since(-1)]
        assert [o.forecasts for o in learned] == [o.forecasts for o in steady]

    asyncio.run(story())


def test_an_event_that_was_taken_back_is_forgotten(embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, kafka={"calendar_topic": f"calendar-{tmp_path.name}"})
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        fill(store)

    async def story() -> None:
        await announce(settings, [CalendarChange(launch())])
        first = await live(settings, 38)
        await announce(settings, [CalendarChange(launch(), removed=True)])
        second = await live(settings, 5)
        chat = medians(first + second, "chat")
        assert chat[first[-1].as_of] > 25.0
        assert chat[second[0].as_of] < 15.0
        assert [c.removed for o in second for c in o.calendar] == [True]

    asyncio.run(story())


def test_what_comes_while_the_controller_runs_is_taken(embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, kafka={"calendar_topic": f"calendar-{tmp_path.name}"})

    async def story() -> None:
        book = CalendarBook()
        reader = CalendarReader(settings, book)
        await reader.start()
        try:
            assert book.complete
            assert book.records() == {}
            await announce(settings, [CalendarChange(launch())])
            await eventually(lambda: "launch-1" in book.records(), 20, "the event is read")
            await announce(settings, [CalendarChange(launch(), removed=True)])
            await eventually(lambda: not book.records(), 20, "the withdrawal is read")
            assert len(await consume(settings.kafka.bootstrap, settings.kafka.calendar_topic)) == 2
        finally:
            await reader.stop()

    asyncio.run(story())
