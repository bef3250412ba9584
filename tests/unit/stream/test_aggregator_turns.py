"""While one delta is on its way the next batch is folded; what is not written is not acknowledged."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings
from pipeline.errors import ServerUnavailable
from pipeline.stream.aggregator.aggregator import IN_FLIGHT, Aggregator, _Partition
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.testing import request_event
from pipeline.windows.sharding import Chain, ShardChains
from tests.waiting import scaled

NOW = 1_700_000_000.0


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
        await asyncio.wait_for(stopping, scaled(5))
        await feeder
        assert sorted(acknowledged) == [0, 1, 3, 4, 5]

    asyncio.run(run())


class Refusing:
    """A log of deltas that takes nothing, and not at once."""

    def __init__(self) -> None:
        self.asked = 0

    async def append(self, _delta: Any, _chains: Any) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        raise ServerUnavailable("the broker is away")


def test_after_a_failed_delta_only_that_failure_is_told() -> None:
    async def run() -> None:
        tp = TP("requests", 0)
        aggregator = Aggregator(Settings(), ManualClock(NOW + 10), lambda: None)
        log = aggregator._deltas = Refusing()  # type: ignore[assignment]
        aggregator._partitions[tp] = _Partition(1, 0, 0, ShardChains([Chain(0, -1)]), aggregator._new_folder(tp))
        acknowledged: list[int] = []
        failures: list[BaseException] = []

        async def done(number: int) -> None:
            acknowledged.append(number)

        async def failed(error: BaseException) -> None:
            failures.append(error)

        for number in range(3):  # the second and third wait for the first, or come after it
            batch = RecordBatch(tp, number)
            batch.epoch = 1
            batch.next_offset = number + 1
            batch.values = [json.dumps(request_event(f"e{number}", NOW)).encode()]
            batch.timestamps = [int(NOW * 1000)]
            batch._offsets = [number]
            await aggregator.begin(batch, partial(done, number), failed)
        await settle()
        await aggregator.stop()
        assert [str(error) for error in failures] == ["the broker is away"]
        assert (log.asked, acknowledged) == (1, [])

    asyncio.run(run())
