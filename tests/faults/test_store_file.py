"""The disk is full, the file is somebody else's, the write-ahead log is torn, the snapshot or the file is garbage."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.config.settings import Settings
from pipeline.errors import StoreError
from pipeline.store.store import Store
from pipeline.windows.delta import decode
from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, all_stored, exact, fault_settings, feeding, ready, stored, topic_ends, truth
from tests.faults.sabotage import limit_file_bytes
from tests.kafka_servers import consume
from tests.waiting import eventually, scaled

pytestmark = [pytest.mark.faults, pytest.mark.integration]

DISK_BYTES = 24 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds ``DISK_BYTES``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a tmpfs cannot be mounted without root; test_a_file_that_may_not_grow stands in for it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_controller_and_room_lets_it_go_on_exactly(
    embedded_broker: str, tmp_path: Path, small_disk: Path
) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2, store={"path": small_disk / "store.duckdb"})
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 31)
        ballast = small_disk / "ballast"

        async def hurt() -> None:
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(65_536))
                except OSError:
                    pass  # full
            assert await fleet.ended("control") == 1
            assert "the store could not write" in fleet.log("control")
            fleet.start("control")  # it comes up on the full disk or does not; nothing is damaged by either
            await asyncio.sleep(4.0)
            ballast.unlink()

        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control")
            await feeding(feed, hurt)
            # The life that met the full disk may end at any time yet.
            await all_stored(settings, meanwhile=partial(fleet.revive, "control"))

    asyncio.run(run())


def test_a_file_that_may_not_grow_stops_the_controller_and_the_next_life_is_exact(
    embedded_broker: str, tmp_path: Path
) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 32)
        Store.open(settings.store.path).close()
        limit = settings.store.path.stat().st_size + 100_000  # the write-ahead log gets there first

        async def hurt() -> None:
            assert await fleet.ended("control", 3 * READY_SECONDS) == 1
            assert "the store could not write" in fleet.log("control")
            fleet.start("control")

        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control", partial(limit_file_bytes, limit))
            await feeding(feed, hurt)

    asyncio.run(run())


def _own(path: Path, owned: Any, release: Any) -> None:
    connection = duckdb.connect(str(path))
    owned.set()
    release.wait(600)
    connection.close()


def test_a_file_owned_by_another_process_is_told_and_waited_for(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        Store.open(settings.store.path).close()
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 33)
        context = multiprocessing.get_context("spawn")
        owned, release = context.Event(), context.Event()
        other = context.Process(target=_own, args=(settings.store.path, owned, release), daemon=True)
        other.start()
        assert owned.wait(scaled(READY_SECONDS))

        async def hurt() -> None:
            fleet.start("all")
            await eventually(
                lambda: fleet.log("all").count("owned by another process") >= 2, READY_SECONDS, "told and retried"
            )
            release.set()
            other.join(scaled(30))
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")

        async with exact(fleet, feed, orderly=True):
            try:
                await feeding(feed, hurt, batch=100)
            finally:
                release.set()

    asyncio.run(run())


async def log_of_deltas(settings: Settings) -> list[tuple[int, int, Any]]:
    records = await consume(settings.kafka.bootstrap, settings.kafka.deltas_topic, range(settings.kafka.partitions))
    return [(record.partition, record.offset, decode(record.value)) for record in records]


def test_a_torn_write_ahead_log_opens_or_is_refused_and_the_result_is_exact(
    embedded_broker: str, tmp_path: Path
) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 34)
        wal = Path(f"{settings.store.path}.wal")

        def left_behind() -> bool:
            return wal.exists() and wal.stat().st_size > 1_000

        async def hurt() -> None:
            for life in range(3):
                if life:
                    fleet.start("control")
                await eventually(lambda: ready(settings), READY_SECONDS, "ready")
                await eventually(left_behind, READY_SECONDS, "a write-ahead log", poll_seconds=0.01)
                fleet.kill("control")
            while not left_behind():  # a checkpoint came first
                fleet.start("control")
                await eventually(left_behind, READY_SECONDS, "a write-ahead log", poll_seconds=0.01)
                fleet.kill("control")

        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control")
            await feeding(feed, hurt)
            size = wal.stat().st_size
            oracle = await truth(settings, feed)
            deltas: list[tuple[int, int, Any]] = []
            ends = dict(enumerate(await topic_ends(settings, settings.kafka.requests_topic)))

            async def all_written() -> bool:
                deltas[:] = await log_of_deltas(settings)
                return {partition: delta.through_offset + 1 for partition, _, delta in deltas} == ends

            await eventually(all_written, READY_SECONDS, "the aggregator's last delta", lambda: len(deltas))
            opened = 0
            for number, (cut, flip) in enumerate(
                [(size - 1, None), (size - 17, None), (size * 2 // 3, None), (100, None), (size, size // 2)]
            ):
                path = tmp_path / f"torn-{number}.duckdb"
                shutil.copy2(settings.store.path, path)
                torn = bytearray(wal.read_bytes()[:cut])
                if flip is not None:
                    torn[flip] ^= 0xFF
                Path(f"{path}.wal").write_bytes(torn)
                try:
                    store = Store.open(path)
                    opened += 1
                except StoreError:
                    store = Store.open(tmp_path / f"new-{number}.duckdb")  # the remedy: a new file, from the deltas
                with store:
                    assert not store.apply(deltas).gaps
                    oracle_now = [d for d in oracle.differences(store) if "late" not in d]
                    assert oracle_now == [], f"cut at {cut} of {size}, flip {flip}: {oracle_now[:5]}"
            print(f"{opened} of 5 torn files opened")
            # The controller itself, on a torn log.
            os.truncate(wal, size - 17)
            fleet.start("control")
            if await went_on(fleet, settings) is False:
                assert "cannot open" in fleet.log("control")
                settings.store.path.unlink()
                wal.unlink()
                fleet.start("control")

    asyncio.run(run())


async def went_on(fleet: Fleet, settings: Settings) -> bool:
    """Whether a controller comes up; False: it ended instead."""

    async def decided() -> bool:
        return not fleet.alive("control") or await stored(settings) >= 0

    await eventually(decided, READY_SECONDS, "it comes up or ends")
    if fleet.alive("control"):
        return True
    fleet.members.pop("control")
    return False


def test_a_garbage_file_is_refused_and_a_new_one_is_rebuilt_from_the_deltas(
    embedded_broker: str, tmp_path: Path
) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 35)
        async with exact(fleet, feed):
            fleet.start("aggregate")
            fleet.start("control")
            await feed.send(5_000)
            await all_stored(settings)
            assert await fleet.leave("control") == 0
            with settings.store.path.open("r+b") as file:
                file.write(os.urandom(20_000))
            fleet.start("control")
            assert await fleet.ended("control") == 1
            assert "cannot open" in fleet.log("control")
            settings.store.path.unlink()
            fleet.start("control")
            await feed.send(1_000)

    asyncio.run(run())
