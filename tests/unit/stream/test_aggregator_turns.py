"""While one delta is on its way the next batch is folded; what is not written is not acknowledged."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

from pipeline.clock import ManualClock
from pipeline.settings import Settings
from pipeline.stream.aggregator import IN_FLIGHT, Aggregator


class Slow(Aggregator):
    """Takes batches only when let; notes who began and who ended."""

    def __init__(self) -> None:
        super().__init__(Settings(), ManualClock(0.0), lambda: None)
        self.begun: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}

    async def take(self, batch: Any) -> None:
        self.begun.append(batch.number)
        gate = self.gates[batch.number] = asyncio.Event()
        await gate.wait()
        if batch.number == 2:
            raise RuntimeError("refused")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_batches_overlap_up_to_a_bound_and_end_by_themselves() -> None:
    async def run() -> None:
        slow = Slow()
        acknowledged: list[int] = []
        failures: list[str] = []

        async def done(number: int) -> None:
            acknowledged.append(number)

        async def failed(error: BaseException) -> None:
            failures.append(str(error))

        async def feed() -> None:
            for number in range(IN_FLIGHT + 2):
                await slow.begin(SimpleNamespace(number=number), partial(done, number), failed)  # type: ignore[arg-type]

        feeder = asyncio.create_task(feed())
        await settle()
        assert slow.begun == list(range(IN_FLIGHT)), "no more at once, and in order"
        assert not feeder.done()
        slow.gates[1].set()
        await settle()
        assert acknowledged == [1]
        assert slow.begun == list(range(IN_FLIGHT + 1))
        slow.gates[2].set()
        await settle()
        assert (acknowledged, failures) == ([1], ["refused"]), "a batch that failed is not acknowledged"
        stopping = asyncio.create_task(slow.stop())
        await settle()
        assert not stopping.done(), "it waits for what has begun"
        for gate in slow.gates.values():
            gate.set()
        await asyncio.wait_for(stopping, 5)
        await feeder
        assert sorted(acknowledged) == [0, 1, 3, 4, 5]

    asyncio.run(run())
