"""Bare confluent-kafka (librdkafka): ``consume`` in batches, decode, group in numpy."""

from __future__ import annotations

from confluent_kafka import Consumer

from benchmarks.stream.readers.common import ColumnWindows, Meter, read_task, report


def main() -> None:
    """Read the task's events."""
    task = read_task()
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.min.bytes": 1,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    consumer.subscribe([task.topic])
    meter, windows = Meter(), ColumnWindows()
    while windows.events < task.events:
        values = [message.value() for message in consumer.consume(10_000, 0.5) if message.error() is None]
        if values:
            meter.start()
            windows.add(values)
    measured = meter.stop()
    consumer.close()
    report(measured, windows.totals())


if __name__ == "__main__":
    main()
