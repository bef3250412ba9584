"""External forecasts and signals from a topic of a real broker to the engine."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from pipeline.clock import WallClock
from pipeline.engine.advisor import Advisor
from pipeline.kafka.topics import ensure_topics
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.controller.app import controller_app
from pipeline.stream.exogenous.topics import ExogenousReader, exogenous_book
from tests.kafka_servers import produce, stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_rows_of_a_topic_count_from_the_time_of_their_records(any_broker: str, tmp_path: Path) -> None:
    topic = f"forecasts-{tmp_path.name}"
    forecast = {"experts": ["default", "external"], "external": {"topic": topic},
                "signals": [{"name": "orders", "topic": topic}]}  # fmt: skip
    settings = stream_settings(any_broker, tmp_path, forecast=forecast)
    assert ensure_topics(settings.kafka, inputs=settings.forecast.exogenous_topics())[topic] == 1
    now = time.time()
    good = {"model": "m", "issued_at": now - 30, "target_at": now + 600, "quantiles": {"0.5": 3.0}}
    rows = [
        good,
        {"signal": "orders", "at": now, "value": 2.0},
        good | {"target_at": now - 1},
        good | {"issued_at": now + 300},
        good | {"quantiles": {"0.1": 5, "0.9": 4}},
        {"signal": "visits", "at": now, "value": 2.0},
    ]

    async def story() -> None:
        records = [(0, json.dumps(row).encode()) for row in rows] + [(0, b"\xff"), (0, None)]
        await produce(settings.kafka, topic, records)
        book = exogenous_book(settings)
        known = Advisor(settings).exogenous
        assert book is not None
        assert known is not None
        reader = ExogenousReader(settings, book)
        await reader.start()
        try:
            assert book.accepted == 2
            assert dict(book.refused) == {
                "after_target": 1, "from_the_future": 1, "not_ascending": 1, "unknown_signal": 1, "malformed": 2
            }  # fmt: skip
            await produce(settings.kafka, topic, [(0, json.dumps(good | {"pool": "chat"}).encode())])
            await eventually(lambda: book.accepted == 3, 20, "a row that comes later is read")
        finally:
            await reader.stop()
        assert book.take(known, now - 60) == ()
        assert len(book.take(known, now + 120)) == 3

    asyncio.run(story())


def test_a_controller_reads_them_and_counts_them(embedded_broker: str, tmp_path: Path) -> None:
    topic = f"signals-{tmp_path.name}"
    settings = stream_settings(embedded_broker, tmp_path, 1, forecast={"signals": [{"name": "orders", "topic": topic}]})

    async def story() -> None:
        ensure_topics(settings.kafka, inputs=settings.forecast.exogenous_topics())
        clock = WallClock()
        live = LiveState(clock, settings.pools, settings.config_hash())
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            app = controller_app(settings, clock, store, Advisor(settings), live, 1)
            app.finalize()
            await app.start()
            try:
                row = json.dumps({"signal": "orders", "at": time.time(), "value": 2.0}).encode()
                await produce(settings.kafka, topic, [(0, row), (0, b"nothing")])
                await eventually(lambda: live.health().exogenous_rows.get("taken") == 1, 60, "the row is counted")
                assert live.health().exogenous_rows["malformed"] == 1
            finally:
                await app.stop()

    asyncio.run(story())
