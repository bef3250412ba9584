"""A consumer that is slower than its producers: memory stays bounded, and the lag goes back to nothing."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from tests.faults.feed import POISON, READY_SECONDS, Feed
from tests.faults.harness import Fleet, all_stored, exact, fault_settings, get
from tests.faults.sabotage import slow_agent
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.integration]

MIB = 1024 * 1024
#: What a process may grow by: prefetched answers, batches in hand, and freed memory that is kept for the next ones.
MOST_GROWTH = 220 * MIB


def resident_bytes(pid: int) -> int:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_a_burst_beyond_what_it_can_take_is_worked_off_in_bounded_memory(apache_kafka: str, tmp_path: Path) -> None:
    """A real broker, since the embedded one decides by itself how much a fetch returns."""

    async def run() -> None:
        settings = fault_settings(apache_kafka, tmp_path, 2, stream={"queued_batches": 2, "max_batch_records": 500})
        fleet, feed = Fleet(settings, tmp_path), Feed(settings, 71)
        peak = {"aggregate": 0, "control": 0}

        async def watch() -> None:
            while True:
                for name, highest in peak.items():
                    peak[name] = max(highest, resident_bytes(fleet.pid(name)))
                await asyncio.sleep(0.2)

        async with exact(fleet, feed):
            # 5,000 records/s at most, which the burst exceeds.
            fleet.start("aggregate", partial(slow_agent, 0.1))
            fleet.start("control")
            await feed.send(1_000)
            await all_stored(settings)
            calm = {name: resident_bytes(fleet.pid(name)) for name in peak}
            watching = asyncio.create_task(watch())
            for _ in range(150):
                # About 3 kB each, 450 MB in all: none of it may pile up in the process.
                await feed.write([(p, pad(v)) for p, v in feed.records(1_000) if v not in POISON])
            took = await all_stored(settings, 2 * READY_SECONDS)
            watching.cancel()
            print(f"worked off {took:.1f} s after the last event; peak {peak}, calm {calm}")
            for name, highest in peak.items():
                assert highest - calm[name] < MOST_GROWTH, f"{name} grew by {(highest - calm[name]) / MIB:.0f} MiB"
            await eventually(partial(nothing_waits, settings), READY_SECONDS, "the lag is back at nothing")

    asyncio.run(run())


async def nothing_waits(settings: Settings) -> bool:
    """Whether no delta waits; a heartbeat may lie there for a moment."""
    status, body = await get(settings, "/v1/status")
    return status == 200 and sum(row["records"] for row in body["lag_records"]) == 0


def pad(value: bytes | None) -> bytes:
    """The same event with fields that nobody knows, about 3 kB in all."""
    event = json.loads(value or b"")
    event["comment"] = "x" * 2_700
    return json.dumps(event).encode()
