"""The brokers that the benchmarks run on: the embedded one and Apache Kafka, both started here and stopped again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.kafka.embedded_broker import EmbeddedBroker
from tests.kafka_servers import KAFKA_VERSION, ApacheKafka

__all__ = ["BROKERS", "broker"]

BROKERS = {"embedded": "the embedded broker (Tansu, in memory)", "apache": f"Apache Kafka {KAFKA_VERSION}"}


@contextmanager
def broker(kind: str) -> Iterator[str]:
    """Start a broker; gives its address.

    Raises:
        KafkaMissingError: Apache Kafka cannot be run here; the text says what is missing.
        ServerUnavailable: the embedded broker does not start.
    """
    server = EmbeddedBroker() if kind == "embedded" else ApacheKafka()
    with server:
        yield server.bootstrap
