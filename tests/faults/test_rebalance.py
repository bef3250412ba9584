"""Aggregators come, go, die and sleep through a rebalance; a controller sleeps while a rival wants its file."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, exact, fault_settings, feeding, ready, stored
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

SESSION_SECONDS = 6.0  # that of the settings of the tests


def test_two_to_four_aggregators_joining_leaving_and_dying(apache_kafka: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path)
        fleet, feed, rng = Fleet(settings, tmp_path), Feed(settings, 21), random.Random(21)

        async def hurt() -> None:
            for i in (2, 3, 4):
                fleet.start(f"aggregate-{i}")
                await fleet.joined(f"aggregate-{i}")
                await asyncio.sleep(rng.uniform(0.0, 1.0))
            for victim in ("aggregate-2", "aggregate-1"):
                assert await fleet.leave(victim) == 0
                await asyncio.sleep(rng.uniform(0.0, 2.0))
            fleet.start("aggregate-2")
            fleet.restart("aggregate-3")
            await asyncio.sleep(rng.uniform(0.5, 2.5))
            fleet.kill("aggregate-4")  # and never comes back: its session has to end
            fleet.start("aggregate-5")
            for name in ("aggregate-2", "aggregate-3", "aggregate-5"):  # the signal kills one that is starting yet
                await fleet.joined(name)
            await asyncio.sleep(1.0)

        async with exact(fleet, feed, orderly=True):
            fleet.start("aggregate-1")
            fleet.start("control")
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            await feeding(feed, hurt)

    asyncio.run(run())


def test_a_peer_that_was_killed_is_taken_over_when_its_session_ends(apache_kafka: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 22)

        async def hurt() -> None:
            for name in ("aggregate-1", "aggregate-2"):
                await fleet.joined(name)
            fleet.kill("aggregate-2")

        async with exact(fleet, feed):
            for name in ("aggregate-1", "aggregate-2", "control"):
                fleet.start(name)
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            await feeding(feed, hurt)
            assert "aggregate-2" not in fleet.members

    asyncio.run(run())


def test_a_zombie_aggregator_damages_nothing(apache_kafka: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path)
        fleet, feed, rng = Fleet(settings, tmp_path), Feed(settings, 23), random.Random(23)

        async def hurt() -> None:
            for name in ("aggregate-1", "aggregate-2"):
                await fleet.joined(name)
            for zombie, peer in (("aggregate-1", "aggregate-2"), ("aggregate-2", "aggregate-1")):
                await asyncio.sleep(rng.uniform(1.0, 2.0))
                before = fleet.assignments(peer)
                fleet.pause(zombie)
                await asyncio.sleep(SESSION_SECONDS)

                def taken_over(peer: str = peer, before: int = before) -> bool:
                    return fleet.assignments(peer) >= before + settings.kafka.partitions

                await eventually(taken_over, READY_SECONDS, f"{peer} owns every partition")
                await asyncio.sleep(1.0)
                fleet.resume(zombie)
                await asyncio.sleep(3.0)
                await fleet.revive(zombie)

        async with exact(fleet, feed):
            for name in ("aggregate-1", "aggregate-2", "control"):
                fleet.start(name)
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            await feeding(feed, hurt, batch=200, pause_seconds=0.02)  # always in the middle of something

    asyncio.run(run())


def test_a_zombie_controller_keeps_its_file_and_goes_on(apache_kafka: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 24)

        async def hurt() -> None:
            await asyncio.sleep(1.0)
            fleet.pause("control")
            await asyncio.sleep(SESSION_SECONDS + 2.0)
            fleet.start("control-rival")
            assert await fleet.ended("control-rival") == 1
            assert "owned by another process" in fleet.log("control-rival")
            before = await_records
            fleet.resume("control")

            async def on() -> bool:
                return await stored(settings) > before

            await eventually(on, READY_SECONDS, "it goes on")

        async with exact(fleet, feed, orderly=True):
            fleet.start("aggregate")
            fleet.start("control")
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            await_records = await stored(settings)
            await feeding(feed, hurt)

    asyncio.run(run())
