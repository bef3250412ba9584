from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Helpers of the tests are modules beside this file; they are no packages (pytest runs with --import-mode=importlib).
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Address of an embedded broker, one per test process."""
    from pipeline.errors import ServerUnavailable
    from pipeline.stream.broker import EmbeddedBroker, find_binary

    try:
        find_binary()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[str]:
    """Address of an Apache Kafka, one per test process; ``KAFKA_BOOTSTRAP`` names a running one instead."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    from kafka_servers import ApacheKafka, KafkaMissingError

    try:
        server = ApacheKafka().__enter__()
    except KafkaMissingError as error:
        pytest.skip(f"Apache Kafka: {error}")
    try:
        yield server.bootstrap
    finally:
        server.__exit__()


@pytest.fixture(params=["embedded", "apache"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """Address of each kind of broker in turn."""
    return str(request.getfixturevalue({"embedded": "embedded_broker", "apache": "apache_kafka"}[request.param]))
