"""A closed topic read twice, by other processes, in other batches, with kills: the same windows and forecasts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import PoolSettings, Settings
from pipeline.kafka.topics import ensure_topics
from pipeline.store.store import Store
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, all_stored, assert_exact, fault_settings, get, stored
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

TABLES = {
    "windows": "SELECT w.* EXCLUDE (key_id), model, pool FROM windows w JOIN keys USING (key_id) ORDER BY ALL",
    "histograms": "SELECT window_start, model, pool, metric, bucket, sum(n) FROM histograms JOIN keys USING (key_id) "
    "GROUP BY ALL ORDER BY ALL",
    "closed": "SELECT * FROM closed_windows ORDER BY ALL",
    "forecasts": "SELECT * FROM forecasts ORDER BY ALL",
    "recommendations": "SELECT * FROM recommendations ORDER BY ALL",
    "alerts": "SELECT * FROM alerts ORDER BY ALL",
    "steps": "SELECT * FROM steps ORDER BY ALL",
}


def content(settings: Settings) -> dict[str, list[Any]]:
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        return {name: store.cursor().execute(query).fetchall() for name, query in TABLES.items()}


def test_two_replays_of_a_topic_are_equal_to_the_last_bit(embedded_broker: str, tmp_path: Path) -> None:
    pools = (PoolSettings(model="m0", profile="llama-3.1-8b", accelerator="H100-SXM"),)
    first = fault_settings(embedded_broker, tmp_path, 2).model_copy(update={"pools": pools})
    second = fault_settings(embedded_broker, tmp_path, 2, stream={"max_batch_records": 170})
    topics = second.kafka.model_copy(update={"requests_topic": first.kafka.requests_topic})
    second = second.model_copy(update={"kafka": topics, "pools": pools})
    ensure_topics(second.kafka)

    async def replay(settings: Settings, feed: Feed, kills: int) -> None:
        fleet = Fleet(settings, tmp_path)
        try:
            fleet.start("aggregate")
            fleet.start("control")
            for turn in range(kills):
                await eventually(partial_progress(settings, turn), READY_SECONDS, "it moves")
                fleet.restart("control" if turn % 2 else "aggregate")
            await all_stored(settings)

            windows = settings.windows
            open_seconds = windows.grain_seconds + windows.allowed_lateness_seconds

            async def closed() -> bool:
                status, body = await get(settings, "/v1/status")
                if status != 200 or body["watermark"] is None or body["as_of"] is None:
                    return False
                return body["watermark"] >= end and body["as_of"] > body["watermark"] - open_seconds

            await eventually(closed, READY_SECONDS, "event time reaches the end, and all that is due is closed")
            fleet.stop()
        finally:
            fleet.stop()
        await assert_exact(settings, feed, letters=False)

    def partial_progress(settings: Settings, turn: int) -> Any:
        async def moved() -> bool:
            return await stored(settings) > turn * 500

        return moved

    async def run() -> None:
        feed = Feed(first, 61)
        for at in range(0, 600, 10):
            await feed.send(100, at=begin + at)
        await replay(first, feed, kills=0)
        await replay(second, feed, kills=4)

    begin = (time.time() - 2 * 86_400) // 10 * 10  # long past: event time goes by the events alone
    end = begin + 580
    asyncio.run(run())
    one, two = content(first), content(second)
    assert len(one["closed"]) >= 5 * 50
    assert one["forecasts"]
    assert one["recommendations"]
    for table in TABLES:
        assert one[table] == two[table], f"{table} differ"
