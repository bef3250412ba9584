"""Bare aiokafka, read in columns: no ``ConsumerRecord`` per record, decode, group in numpy. No group, no commits.

It takes the wire batches out of the fetch results as they are (CRC checked by aiokafka's own parser settings): the
floor for anything that reads through aiokafka.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from benchmarks.stream.readers.common import ColumnWindows, Meter, read_task, report
from benchmarks.stream.workload import PARTITIONS


def take_values(result: FetchResult) -> list[bytes]:
    """All values that one fetch of one partition holds."""
    part = result._partition_records
    values: list[bytes] = []
    while part._records.has_next():
        wire = part._records.next_batch()
        if part._check_crcs and not wire.validate_crc():
            raise ValueError("a corrupt batch")
        rows = list(wire)
        values += [row.value for row in rows if row.offset >= part.next_fetch_offset]
        part.next_fetch_offset = wire.next_offset
    result._update_position()
    result._partition_records = None
    return values


async def read() -> None:
    """Read the task's events."""
    task = read_task()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=task.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    consumer.assign([TopicPartition(task.topic, p) for p in range(PARTITIONS)])
    fetcher = consumer._fetcher
    meter, windows = Meter(), ColumnWindows()
    while windows.events < task.events:
        if not fetcher._records:
            await asyncio.wait([fetcher._create_fetch_waiter()], timeout=1.0)
        for tp in list(fetcher._records):
            result = fetcher._records.pop(tp)
            if not isinstance(result, FetchResult):
                result.check_raise()
                continue
            if result.check_assignment(tp) and result.has_more():
                meter.start()
                windows.add(take_values(result))
            fetcher._notify(fetcher._wait_consume_future)
        await asyncio.sleep(0)
    measured = meter.stop()
    await consumer.stop()
    report(measured, windows.totals())


if __name__ == "__main__":
    asyncio.run(read())
