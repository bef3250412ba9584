"""How fast can events be produced? Compares three ways on one embedded broker: python -m benchmarks.replay.producers"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer

from pipeline.config.settings import KafkaSettings
from pipeline.demo.fleet import events
from pipeline.demo.scenario import scenario
from pipeline.kafka.embedded_broker import EmbeddedBroker
from pipeline.kafka.topics import ensure_topics
from pipeline.replay.producer import BatchProducer

TOPIC = "inference.requests.v1"
Records = list[tuple[bytes, bytes, int]]


def make_records(count: int) -> Records:
    fleet = scenario("demo", 1_795_000_020.0)
    found: Records = []
    for chunk in events(fleet, fleet.live_start, fleet.live_start + 86_400):
        for completed, event in chunk:
            found.append((f"{event.model}|{event.pool}".encode(), msgspec.json.encode(event), int(completed * 1000)))
        if len(found) >= count:
            return found[:count]
    return found


def with_kafka_python(bootstrap: str, records: Records) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, batch_size=131_072)
    for key, value, at in records:
        producer.send(TOPIC, key=key, value=value, timestamp_ms=at)
    producer.flush()
    producer.close()


def with_aiokafka_send(bootstrap: str, records: Records) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, max_batch_size=131_072)
        await producer.start()
        for key, value, at in records:
            await producer.send(TOPIC, key=key, value=value, timestamp_ms=at)
        await producer.stop()

    asyncio.run(run())


def with_batches(bootstrap: str, records: Records) -> None:
    async def run() -> None:
        async with BatchProducer(KafkaSettings(bootstrap=bootstrap)) as producer:
            for key, value, at in records:
                await producer.add(TOPIC, key, value, at)

    asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    records = make_records(parser.parse_args().events)
    print(f"{len(records):,} events of {sum(len(v) for _, v, _ in records) / len(records):.0f} bytes, 12 partitions")
    ways: list[tuple[str, Callable[[str, Records], None]]] = [
        ("kafka-python send", with_kafka_python),
        ("aiokafka send", with_aiokafka_send),
        ("pipeline.replay.producer", with_batches),
    ]
    with EmbeddedBroker() as broker:
        ensure_topics(KafkaSettings(bootstrap=broker.bootstrap))
        for name, send in ways:
            wall, cpu = time.perf_counter(), time.process_time()
            send(broker.bootstrap, records)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"{name:26} {len(records) / wall:10,.0f} events/s {cpu / len(records) * 1e6:7.1f} µs CPU per event")


if __name__ == "__main__":
    main()
