from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.kafka_secured import SecuredListeners
    from tests.kafka_servers import ApacheKafka

from pipeline.kafka import embedded_broker as broker_module
from tests.limited_examples import limit_examples
from tests.waiting import core_slowness, scaled

# How long an example takes, to make or to try, depends on the machine; a hang ends by the timeout. Continuous
# integration tries the same examples at every run, so that a change is judged by what it changed; developers' runs look
# for new ones.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
#: Of `make unit`: with it no property tries more examples than this, whatever it says itself.
QUICK_EXAMPLES = 20
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("tests"), max_examples=QUICK_EXAMPLES)
hypothesis.settings.load_profile("tests")

#: Markers of tests with servers or processes of their own, in the order in which they start: the longest first, so that
#: no worker is left with a long one at the end.
_HEAVY = ("e2e", "faults", "integration")


def pytest_configure(config: pytest.Config) -> None:
    """Share the ports out among the workers: one that a test of another worker will open is as free as any."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        first = broker_module.PORTS.start + int(worker["workerid"].removeprefix("gw"))
        broker_module.PORTS = range(first, broker_module.PORTS.stop, worker["workercount"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long tests first, and give slow machines more time before a hang ends."""
    slowness = core_slowness()
    for item in items:
        own = item.get_closest_marker("timeout")
        seconds = float(own.args[0] if own is not None and own.args else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * slowness), append=False)
    if hypothesis.settings.get_current_profile_name() == "quick":
        for item in items:
            limit_examples(getattr(item, "obj", None), QUICK_EXAMPLES)
    items.sort(key=_order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``: files go to the workers whole, since their tests may share a server; the tests of ``faults`` singly.

    Not ``--dist loadgroup``, which pytest-xdist 3.8 does by changing ids that pytest 9 no longer lets it change.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return piece_of_work(nodeid)

    config.option.loadscopereorder = False  # the order of above
    return Scheduling(config, log)


def piece_of_work(nodeid: str) -> str:
    """Tests with the same one run on the same worker, in order."""
    return nodeid if nodeid.startswith("tests/faults/") else nodeid.partition("::")[0]


def _order(item: pytest.Item) -> int:
    ranks = (*_HEAVY, "slow")
    return next((rank for rank, name in enumerate(ranks) if item.get_closest_marker(name)), len(ranks))


@pytest.fixture(scope="session", autouse=True)
def _one_tree_of_commands() -> Iterator[None]:
    """The runner of Typer builds all commands anew for every call: most of what a test of the command line takes."""
    import typer.testing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
        yield


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Address of an embedded broker, one per test process."""
    from pipeline.errors import ServerUnavailable
    from pipeline.kafka.embedded_broker import EmbeddedBroker, find_binary

    try:
        find_binary()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with EmbeddedBroker(start_timeout_seconds=scaled(20.0)) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def apache_kafka_server() -> Iterator[ApacheKafka]:
    """An Apache Kafka of our own, one per test process."""
    from tests.kafka_servers import ApacheKafka, KafkaMissingError

    try:
        server = ApacheKafka().__enter__()
    except KafkaMissingError as error:
        pytest.skip(f"Apache Kafka: {error}")
    try:
        yield server
    finally:
        server.__exit__()


@pytest.fixture(scope="session")
def apache_kafka(request: pytest.FixtureRequest) -> str:
    """Address of an Apache Kafka, one per test process; ``KAFKA_BOOTSTRAP`` names a running one instead."""
    return os.environ.get("KAFKA_BOOTSTRAP") or request.getfixturevalue("apache_kafka_server").bootstrap


@pytest.fixture(scope="session")
def secured_kafka(apache_kafka_server: ApacheKafka) -> SecuredListeners:
    """The listeners with TLS and SASL of that Apache Kafka."""
    if not apache_kafka_server.secured.available:
        pytest.skip("Apache Kafka with TLS: openssl is not installed")
    return apache_kafka_server.secured


@pytest.fixture(params=["embedded", "apache"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """Address of each kind of broker in turn."""
    return str(request.getfixturevalue({"embedded": "embedded_broker", "apache": "apache_kafka"}[request.param]))


#: Words of skip reasons that mean: a server that ``make system-deps`` installs is not there.
_SERVERS = (
    *("openssl", "prometheus", "promtool", "alertmanager", "amtool", "chromium", "kafka", "java", "mvn", "broker"),
    "npm",
)


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
