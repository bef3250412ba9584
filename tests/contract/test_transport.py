"""What the folding transport promises, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP

from pipeline.config.settings import Settings
from pipeline.stream.kafka.batch import RecordBatch, batch_topic
from pipeline.stream.kafka.faust_app import kafka_app
from tests.kafka_servers import produce, stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration

RECORDS = 4_000
PARTITIONS = 4


class Sink:
    """Takes batches, and remembers the next offset of every partition like a store would."""

    def __init__(self) -> None:
        self.next: dict[int, int] = {}
        self.values: dict[int, list[bytes | None]] = defaultdict(list)
        self.batches: list[RecordBatch] = []
        self.holes = 0

    async def positions(self, epochs: Any) -> dict[TP, int]:
        return {tp: self.next.get(tp.partition, 0) for tp in epochs}

    def take(self, batch: RecordBatch) -> None:
        expected = self.next.get(batch.partition, 0)
        self.holes += batch.first_offset != expected
        self.next[batch.partition] = batch.next_offset
        self.values[batch.partition] += batch.values
        self.batches.append(batch)

    @property
    def records(self) -> int:
        return sum(map(len, self.values.values()))


@asynccontextmanager
async def worker(
    settings: Settings,
    take: Callable[[RecordBatch], Any],
    positions: Any = None,
    instance: str = "one",
    columns: bool = True,
    slow_seconds: float = 0.0,
) -> AsyncIterator[Any]:
    own = settings.stream.model_copy(update={"instance_id": instance})
    app = kafka_app(settings.model_copy(update={"stream": own}), "aggregate")
    app.transport.position_source = positions
    app.transport.reads_columns = columns
    topic = batch_topic(app, settings.kafka.requests_topic, queued_batches=settings.stream.queued_batches)

    @app.agent(topic, name="take")
    async def agent(stream: Any) -> None:
        async for batch in stream:
            if slow_seconds:
                await asyncio.sleep(slow_seconds)
            take(batch)

    app.finalize()
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def numbered(start: int, stop: int) -> list[tuple[int, bytes | None]]:
    return [(i % PARTITIONS, b"%d" % i) for i in range(start, stop)]


async def _continuous(broker: str, folder: Path, columns: bool) -> None:
    settings = stream_settings(broker, folder, PARTITIONS, stream={"max_batch_records": 300})
    await produce(broker, settings.kafka.requests_topic, numbered(0, RECORDS))
    sink = Sink()
    async with worker(settings, sink.take, sink.positions, columns=columns):
        await eventually(lambda: sink.records == RECORDS, 40, f"{RECORDS} records")
    assert sink.holes == 0
    for partition in range(PARTITIONS):
        assert sink.values[partition] == [b"%d" % i for i in range(partition, RECORDS, PARTITIONS)]
    assert max(map(len, sink.batches)) <= 375
    assert len(sink.batches) < RECORDS / 20, "records must be folded into batches"
    assert all(list(batch.timestamps) == sorted(batch.timestamps) for batch in sink.batches)


@pytest.mark.parametrize("columns", [True, False], ids=["columns", "records"])
def test_batches_cover_offsets_without_holes(any_broker: str, tmp_path: Path, columns: bool) -> None:
    asyncio.run(_continuous(any_broker, tmp_path, columns))


def test_starts_where_the_position_source_says(any_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(any_broker, tmp_path, PARTITIONS)
        await produce(any_broker, settings.kafka.requests_topic, numbered(0, RECORDS))
        sink = Sink()
        sink.next = {0: 10, 1: 999, 2: 0, 3: 1000}
        async with worker(settings, sink.take, sink.positions):
            await eventually(lambda: sink.records == 990 + 1 + 1000, 40, "the rest of each partition")
        assert sink.holes == 0
        assert sink.values[1] == [b"%d" % (999 * PARTITIONS + 1)]

    asyncio.run(run())


def test_rewind_reads_again_and_marks_what_was_read_ahead(any_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(any_broker, tmp_path, 1, stream={"max_batch_records": 100})
        await produce(any_broker, settings.kafka.requests_topic, [(0, b"%d" % i) for i in range(2_000)])
        tp = TP(settings.kafka.requests_topic, 0)
        seen: list[RecordBatch] = []
        async with worker(settings, seen.append, Sink().positions) as app:
            await eventually(lambda: sum(map(len, seen)) == 2_000, 40, "the whole log")
            first_epoch = seen[-1].epoch
            count = len(seen)
            epoch = await app.consumer.rewind(tp, 1_500)
            await eventually(lambda: seen[-1].next_offset == 2_000 and len(seen) > count, 20, "the rewound part")
        again = [batch for batch in seen if batch.epoch == epoch]
        assert epoch > first_epoch
        assert again[0].first_offset == 1_500
        assert sum(map(len, again)) == 500

    asyncio.run(run())


def test_second_worker_joins_and_leaves_without_loss_or_repetition(any_broker: str, tmp_path: Path) -> None:
    """Group offsets alone, no position source: commit before revoke keeps a clean rebalance exact."""

    async def run() -> None:
        settings = stream_settings(any_broker, tmp_path, PARTITIONS, stream={"max_batch_records": 200})
        taken: dict[int, list[tuple[int, int]]] = defaultdict(list)

        def take(batch: RecordBatch) -> None:
            taken[batch.partition] += [
                (offset, int(value or 0)) for offset, value in zip(batch.offsets, batch.values, strict=True)
            ]

        total = 0

        async def feed() -> None:
            nonlocal total
            while True:
                await produce(any_broker, settings.kafka.requests_topic, numbered(total, total + 200))
                total += 200
                await asyncio.sleep(0.2)

        feeder = asyncio.create_task(feed())
        async with worker(settings, take, instance="one") as one:
            await eventually(lambda: len(one.consumer.assignment()) == PARTITIONS, 40, "the first assignment")
            async with worker(settings, take, instance="two") as two:
                await eventually(lambda: len(two.consumer.assignment()) == PARTITIONS // 2, 60, "the shared assignment")
                await asyncio.sleep(2.0)
            feeder.cancel()
            # A member that left in order keeps its static place until its session ends.
            await eventually(lambda: len(one.consumer.assignment()) == PARTITIONS, 60, "the assignment back")
            await eventually(lambda: sum(map(len, taken.values())) >= total, 30, "all records")
            await asyncio.sleep(0.5)
        for partition in range(PARTITIONS):
            offsets = [offset for offset, _ in taken[partition]]
            assert sorted(set(offsets)) == list(range(len(set(offsets)))), "an offset is missing"
            assert len(offsets) == len(set(offsets)), "an offset came twice"

    asyncio.run(run())


def test_back_pressure_pauses_and_resumes(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        stream = {"max_batch_records": 50, "queued_batches": 4}
        settings = stream_settings(embedded_broker, tmp_path, PARTITIONS, stream=stream)
        await produce(embedded_broker, settings.kafka.requests_topic, numbered(0, RECORDS))
        sink = Sink()
        async with worker(settings, sink.take, sink.positions, slow_seconds=0.01):
            await eventually(lambda: sink.records == RECORDS, 60, f"{RECORDS} records")
        assert sink.holes == 0

    asyncio.run(run())


def test_commits_only_what_was_acknowledged_in_order(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(embedded_broker, tmp_path, 1)
        async with worker(settings, lambda batch: None, Sink().positions) as app:
            consumer, tp = app.consumer, TP("t", 0)
            consumer._inflight[tp].extend([(99, 100), (110, 111), (249, 250)])
            consumer._acked_index[tp].update({110, 249})
            assert consumer._new_offset(tp) is None, "the first batch is still in flight"
            consumer._acked_index[tp].add(99)
            consumer._acked_index[tp].discard(249)
            assert consumer._new_offset(tp) == 111, "never past a batch in flight, holes or not"
            consumer._acked_index[tp].add(249)
            assert consumer._new_offset(tp) == 250
            assert consumer._new_offset(tp) is None

    asyncio.run(run())


def test_compaction_and_transactions_leave_no_holes(apache_kafka: str, tmp_path: Path) -> None:
    """Markers and aborted records take offsets without being records; the ranges stay continuous over them."""

    async def run() -> None:
        settings = stream_settings(apache_kafka, tmp_path, 1)
        topic = settings.kafka.requests_topic
        producer = AIOKafkaProducer(bootstrap_servers=apache_kafka, transactional_id=f"tx-{topic}")
        await producer.start()
        async with producer.transaction():
            for i in range(5):
                await producer.send(topic, b"kept %d" % i, partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send(topic, b"last", partition=0)
        await producer.stop()
        sink = Sink()
        async with worker(settings, sink.take, sink.positions) as app:
            # read_committed: neither aborted records nor markers are seen.
            await eventually(lambda: sink.next.get(0) == 10, 40, "the end of the log, markers included")
            assert app.consumer.highwater(TP(topic, 0)) == 10
        assert sink.holes == 0
        assert sink.values[0] == [*(b"kept %d" % i for i in range(5)), b"last"]

    asyncio.run(run())
