"""The emitters of ``examples/emitters``: what vLLM's plugin emits, and that a broken Kafka never breaks a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.unit.examples.support import EMITTERS, SCHEMA, Collected, finished, stat_logger


def test_a_finished_request_of_vllm_has_tokens_times_and_status(emitter: Callable[[str], Any]) -> None:
    fields = emitter("vllm_events").request_fields(finished(), 1_795_983_432.5)
    assert fields["ttft_seconds"] == pytest.approx(0.5)  # end to end less decoding, not queue plus prefill
    assert (fields["input_tokens"], fields["output_tokens"], fields["cached_input_tokens"]) == (100, 16, 64)
    assert fields["status"] == "ok"
    event = emitter("event").finished_event({"event_id": "1", "model": "m", "pool": "p", **fields}, {})
    assert not list(SCHEMA.iter_errors(event))


@pytest.mark.parametrize(
    ("reason", "status"),
    [("stop", "ok"), ("length", "ok"), ("abort", "cancelled"), ("error", "error"), ("FinishReason", "error")],
)
def test_finish_reasons_become_statuses(emitter: Callable[[str], Any], reason: str, status: str) -> None:
    assert emitter("vllm_events").request_fields(finished(finish_reason=reason), 1.0)["status"] == status


def test_an_uptime_instead_of_a_prefill_time_is_unknown(emitter: Callable[[str], Any]) -> None:
    fields = emitter("vllm_events").request_fields(finished(prefill_time=400_000.0), 1.0)
    assert fields["prefill_seconds"] is None
    assert fields["queue_seconds"] is None
    assert fields["ttft_seconds"] == pytest.approx(0.5)


def test_a_version_of_vllm_without_a_field_still_emits(emitter: Callable[[str], Any]) -> None:
    few = SimpleNamespace(finish_reason="stop", e2e_latency=1.0, num_prompt_tokens=5, num_generation_tokens=7)
    fields = emitter("vllm_events").request_fields(few, 10.0)
    event = emitter("event").finished_event({"event_id": "1", "model": "m", "pool": "p", **fields}, {})
    assert event["input_tokens"] == 5
    assert "ttft_seconds" not in event
    assert "cached_input_tokens" not in event


@pytest.mark.parametrize(
    ("request_id", "keys"),
    [("chatcmpl-ab-c", ("ab-c",)), ("cmpl-abc-0", ("abc", "abc-0")), ("resp_1", ()), (None, ())],
)
def test_engine_ids_lead_back_to_request_ids(
    emitter: Callable[[str], Any], request_id: str | None, keys: tuple[str, ...]
) -> None:
    assert emitter("vllm_events").request_key(request_id) == keys


def test_the_stat_logger_emits_each_finished_request_once(
    emitter: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Collected()
    logger = stat_logger(emitter, sink, monkeypatch)
    stats = SimpleNamespace(finished_requests=[finished(), finished()], iteration_timestamp=1_795_983_432.5)
    logger.record(None, stats, engine_idx=1)
    assert len({event["event_id"] for event in sink.events}) == 2
    for event in sink.events:
        assert not list(SCHEMA.iter_errors(event))
        assert (event["model"], event["pool"], event["accelerators_per_replica"]) == ("llama", "chat", 2)


def test_the_stat_logger_never_raises(emitter: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    logger = stat_logger(emitter, Collected(), monkeypatch)
    logger.record(None, SimpleNamespace(finished_requests=3, iteration_timestamp="yesterday"))
    logger.record(None, None)


class FakeProducer:
    def __init__(self, *, breaks: bool = False) -> None:
        self.records: list[tuple[str, dict[str, Any], bytes]] = []
        self.breaks = breaks

    def send(self, topic: str, value: bytes, key: bytes, timestamp_ms: int) -> Any:
        if self.breaks:
            raise OSError("broker is away")
        self.records.append((topic, json.loads(value), key))
        return SimpleNamespace(add_errback=lambda callback: None)

    def flush(self, timeout: float) -> None:
        pass


EVENT = {"model": "m", "pool": "p", "completed_at": 1.0}


def config(emitter: Callable[[str], Any], **environment: str) -> Any:
    return emitter("config").EmitterConfig.from_environment({"TOKENTIDE_KAFKA": "localhost:1"} | environment)


def test_the_sink_sends_what_was_put_and_keys_by_pool(emitter: Callable[[str], Any]) -> None:
    producer = FakeProducer()
    sink = emitter("sink").KafkaSink(config(emitter), lambda _: producer)
    sink.put(EVENT)
    sink.close()
    assert producer.records == [("inference.requests.v1", EVENT, b"m|p")]
    assert sink.dropped == 0


def test_a_broken_producer_costs_events_and_is_counted(emitter: Callable[[str], Any]) -> None:
    sink = emitter("sink").KafkaSink(config(emitter), lambda _: FakeProducer(breaks=True))
    sink.put(EVENT)
    sink.close()
    assert sink.dropped == 1


def test_put_does_not_wait_for_a_broker_that_is_away(
    emitter: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = emitter("sink")
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    away = True
    producer = FakeProducer()

    def connect(_: Any) -> Any:
        if away:
            raise OSError("no brokers")
        return producer

    sink = module.KafkaSink(config(emitter), connect)
    for _ in range(5):
        sink.put(EVENT)
    assert sink.dropped == 3  # returned at once, five times
    away = False
    while len(producer.records) < 2:
        time.sleep(0.01)
    sink.close()


def test_settings_come_from_the_environment(emitter: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    found = config(
        emitter,
        TOKENTIDE_POOL="chat",
        TOKENTIDE_REGION="eu",
        TOKENTIDE_TENANT_HEADER="X-Tenant",
        TOKENTIDE_KAFKA_SASL_PASSWORD_FILE=str(tmp_path / "password"),
    )
    assert (found.pool, found.labels, found.tenant_header) == ("chat", {"region": "eu"}, "x-tenant")
    assert found.security["sasl_plain_password"] == "hunter2"
    assert "hunter2" not in repr(found)
    assert emitter("config").EmitterConfig.from_environment({}) is None


@pytest.mark.parametrize("name", sorted(str(path.relative_to(EMITTERS)) for path in EMITTERS.rglob("*.yaml")))
def test_configurations_are_valid_yaml_and_read_the_broker_from_the_environment(name: str) -> None:
    text = (EMITTERS / name).read_text()
    assert yaml.safe_load(text)
    assert "litellm" in name or "KAFKA_BROKERS" in text
