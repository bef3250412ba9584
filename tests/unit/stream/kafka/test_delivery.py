"""What reaches the agent when a partition is rewound while a batch waits for room."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.consumer import BatchConsumer

HERE = TP("t", 0)


class Thread:
    """A consumer thread that seeks at once."""

    async def seek_epochs(self, positions: Any) -> None:
        await asyncio.sleep(0)


class BareConsumer(BatchConsumer):
    """Only what delivering and rewinding touch; ``room`` lets the agent take a batch."""

    def __init__(self) -> None:
        self._inflight, self._epochs = defaultdict(list), defaultdict(int)  # type: ignore[assignment]
        for name in ("_gap", "_acked", "_acked_index", "_committed_offset"):
            setattr(self, name, {})
        self._read_offset = defaultdict(lambda: None)
        self._thread = Thread()
        self.app = SimpleNamespace(
            monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None), consumer_generation_id=1
        )
        self.suspend_flow, self._stopped = asyncio.Event(), asyncio.Event()
        self.room = asyncio.Event()
        self.taken: list[tuple[int, int]] = []
        self.callback = self._take

    def highwater(self, tp: TP) -> int | None:
        return None

    async def _take(self, message: Any) -> None:
        await self.room.wait()
        self.taken.append((message.value.first_offset, message.value.epoch))


def batch(first: int, following: int) -> RecordBatch:
    made = RecordBatch(HERE, first)
    made.next_offset = following
    return made


def test_a_batch_from_before_a_rewind_hides_nothing_read_after_it() -> None:
    async def run() -> None:
        consumer = BareConsumer()
        fetcher = SimpleNamespace(_stopped=asyncio.Event())
        waiting = asyncio.create_task(consumer._deliver(fetcher, HERE, batch(1_000, 1_500)))
        await asyncio.sleep(0.01)
        epoch = await consumer.rewind(HERE, 800)
        consumer.room.set()
        await waiting
        await consumer._deliver(fetcher, HERE, batch(800, 1_200))
        await consumer._deliver(fetcher, HERE, batch(1_200, 1_500))
        assert consumer.taken == [(1_000, 0), (800, epoch), (1_200, epoch)]

    asyncio.run(run())
