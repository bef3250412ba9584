"""Late, out of order, from a server whose clock is wrong; and the pipeline's own clock set forward and back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import Settings
from pipeline.store.store import Store
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, all_stored, exact, fault_settings, get, ready, stored, truth
from tests.faults.sabotage import wall_clock
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

HOUR = 3_600.0


def kept(settings: Settings, until: int) -> dict[str, list[Any]]:
    """Closed windows and forecasts up to ``until``, as they are stored."""
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        queries = {
            "closed_windows": "SELECT * FROM closed_windows WHERE as_of <= ? ORDER BY ALL",
            "forecasts": "SELECT * FROM forecasts WHERE issued_at <= ? ORDER BY ALL",
        }
        return {name: store.cursor().execute(query, [until]).fetchall() for name, query in queries.items()}


def test_late_events_change_the_final_value_are_counted_and_change_no_forecast(
    embedded_broker: str, tmp_path: Path
) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 41, delay_seconds=8.0)
        start = time.time() - 300
        async with exact(fleet, feed):
            for at in range(0, 200, 10):  # out of order inside the lateness
                await feed.send(200, at=start + at)
            fleet.start("aggregate")
            fleet.start("control")
            await all_stored(settings)
            await eventually(partial(closed, settings, start + 200), 2 * READY_SECONDS, "all of them close")
            assert await stored(settings, "late") == 0
            assert await fleet.leave("control") == 0
            with Store.open(settings.store.path) as store:
                until = store.last_closed()
            assert until is not None
            before = kept(settings, until)
            assert before["closed_windows"]
            assert before["forecasts"]
            late = [json.dumps(feed.event(start + 50 + i % 100)).encode() for i in range(300)]
            await feed.write([(i % 2, value) for i, value in enumerate(late)])
            fleet.start("control")
            await all_stored(settings)
            assert await stored(settings, "late") == 300
        assert kept(settings, until) == before

    asyncio.run(run())


async def closed(settings: Settings, until: float = 0.0) -> bool:
    status, body = await get(settings, "/v1/status")
    return status == 200 and body["as_of"] is not None and body["as_of"] >= until


def test_a_server_whose_clock_is_off_does_not_move_the_watermark(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 42)
        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control")
            for age in (90, 60, 30):  # so that windows have closed before the slow server speaks
                await feed.send(300, at=time.time() - age)
            await eventually(partial(closed, settings), READY_SECONDS, "a window closes")
            slow = 0

            def hurt() -> Iterator[tuple[int, bytes | None]]:
                """Made when they are sent: not while the producer connects, which may take long."""
                nonlocal slow
                yield from feed.records(100)
                now = time.time()
                for partition in (0, 1):
                    ahead = json.dumps(feed.event(now + HOUR)).encode()
                    feed.poison[ahead] = "from_future"
                    yield partition, ahead
                    yield partition, json.dumps(feed.event(now - HOUR)).encode()
                    for _ in range(8):
                        yield partition, json.dumps(feed.event(now + 45.0, server_id="fast")).encode()
                    slow += 1

            for _ in range(25):
                await feed.write(hurt())
                await asyncio.sleep(0.8)
            await all_stored(settings)
            status, body = await get(settings, "/v1/status")
            assert status == 200
            assert body["watermark"] <= time.time()
            assert body["watermark"] > time.time() - HOUR / 2, "the slow server holds it back"
            assert await stored(settings, "late") == slow, "the hour-old ones and nothing else"
            (off,) = body["server_clock_offsets"]
            assert off["server"] == "fast"
            assert 35.0 < off["offset_seconds"] <= 46.0
        oracle = await truth(settings, feed)
        assert oracle.dead_letters["from_future"] == slow

    asyncio.run(run())


def test_a_wall_clock_that_jumps_closes_no_window_falsely_and_refuses_no_event(
    embedded_broker: str, tmp_path: Path
) -> None:
    """``time.time`` of both processes jumps; the feed's clock is right all the time."""

    async def run() -> None:
        # Lateness beyond what a busy machine delays an event; the jumps are beyond that by far.
        windows = {"allowed_lateness_seconds": 60.0}
        settings = fault_settings(embedded_broker, tmp_path, 2, windows=windows)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 43, delay_seconds=2.0)
        shift = tmp_path / "shift"
        shift.write_text("0")
        async with exact(fleet, feed):
            for stage in ("aggregate", "control"):
                fleet.start(stage, partial(wall_clock, shift))
            await feed.send(400)
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            for jump in (HOUR, 0.0, -HOUR, 0.0):
                shift.write_text(str(jump))
                await asyncio.sleep(3.0)  # silence: now the clock alone could close windows
                if jump == HOUR:
                    noticed = lambda: "the clock was set forward" in fleet.log("control")  # noqa: E731
                    await eventually(noticed, READY_SECONDS, "the jump is noticed")
                for _ in range(10):
                    await feed.send(200)
                    await asyncio.sleep(0.3)
            await all_stored(settings)
            assert await stored(settings, "late") == 0
            status, body = await get(settings, "/v1/status")
            assert status == 200
            assert "from_future" not in body["ledger"]["dead_letters"]

    asyncio.run(run())
