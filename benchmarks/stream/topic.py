"""Fills the topics that the readers read, through librdkafka, with an explicit partition per event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.stream.workload import PARTITIONS

__all__ = ["create", "fill"]


def create(bootstrap: str, topics: Iterable[str]) -> None:
    """Create topics of ``PARTITIONS`` partitions whose events are never deleted and whose records may be large."""
    config = {"retention.ms": "-1", "max.message.bytes": str(16 * 1024 * 1024)}
    new = [NewTopic(name, PARTITIONS, 1, config=config) for name in topics]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its futures end with it
    for future in admin.create_topics(new).values():
        future.result(30)


def fill(bootstrap: str, topic: str, records: Iterable[tuple[int, bytes, bytes, int]]) -> None:
    """Write every (partition, key, value, timestamp in ms) and wait until the broker has them.

    Raises:
        KafkaException: one could not be delivered.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.num.messages": 2_000,
            "batch.size": 400_000,
            "queue.buffering.max.kbytes": 262_144,
            "acks": "all",
        }
    )
    failed: list[Any] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    for partition, key, value, timestamp in records:
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=delivered, timestamp=timestamp)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(120)
    if failed:
        raise KafkaException(failed[0])
