"""A consumer that is alive but stuck is noticed and restarted exactly; and nobody listens where strangers can come."""

from __future__ import annotations

import asyncio
import os
import re
from functools import partial
from pathlib import Path

import pytest

from tests.faults.feed import READY_SECONDS, Feed
from tests.faults.harness import Fleet, exact, fault_settings, feeding, ready
from tests.faults.sabotage import impatient_watchdog, stuck_consumer
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

STALL_SECONDS = 6.0


@pytest.mark.parametrize("stage", ["aggregate", "control"])
def test_a_stuck_consumer_is_restarted_exactly(apache_kafka: str, tmp_path: Path, stage: str) -> None:
    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path, 2)
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 51)

        async def hurt() -> None:
            fleet.start(stage, partial(impatient_watchdog, STALL_SECONDS), partial(stuck_consumer, 20))
            fleet.start("control" if stage == "aggregate" else "aggregate")
            assert await fleet.ended(stage, 2 * READY_SECONDS) == 1
            assert "no progress for 6 s although records wait" in fleet.log(stage)
            fleet.start(stage)

        async with exact(fleet, feed):
            await feeding(feed, hurt)

    asyncio.run(run())


def listening(pid: int) -> set[tuple[str, int]]:
    """(address in hexadecimal, port) of every TCP socket on which a process listens."""
    own = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        except OSError:
            continue
        if found:
            own.add(found[1])
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in own:
                address, port = fields[1].split(":")
                sockets.add((address, int(port, 16)))
    return sockets


def test_nobody_listens_on_a_public_address_by_default(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = fault_settings(embedded_broker, tmp_path, 2)
        fleet = Fleet(settings, tmp_path)
        try:
            fleet.start("aggregate")
            fleet.start("control")
            await eventually(lambda: ready(settings), READY_SECONDS, "ready")
            assert listening(fleet.pid("aggregate")) == set(), "Faust's own web server would be on 0.0.0.0:6066"
            assert listening(fleet.pid("control")) == {("0100007F", settings.publish.port)}  # 127.0.0.1
        finally:
            fleet.stop()

    asyncio.run(run())
