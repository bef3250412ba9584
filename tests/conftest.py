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


#: Words of skip reasons that mean: a server that ``make system-deps`` installs is not there.
_SERVERS = ("prometheus", "promtool", "alertmanager", "amtool", "chromium", "kafka", "java", "mvn", "broker")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With REQUIRE_SERVERS=1 a test that is skipped for want of a server fails instead."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if os.environ.get("REQUIRE_SERVERS") != "1" or not report.skipped or not isinstance(report.longrepr, tuple):
        return
    reason = str(report.longrepr[2])
    if any(word in reason.lower() for word in _SERVERS):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_SERVERS=1, but {reason}"
