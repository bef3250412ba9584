"""The example configurations of the OpenTelemetry Collector, run by a real one against Apache Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from pipeline.events.codecs.base import DecodesTogether, RawRecord
from pipeline.events.codecs.registry import codec_for
from pipeline.kafka.embedded_broker import free_port
from tests.kafka_servers import ApacheKafka
from tests.real.conftest import EMITTERS, eventually, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

SPANS, IN_A_REQUEST, LINES = 256, 8, 20


@pytest.fixture(scope="module")
def collector(real: Path) -> Path:
    program = real / "otel-collector" / "otelcol"
    if not program.exists():
        pytest.skip("no OpenTelemetry Collector was built: Go is not installed")
    return program


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    with ApacheKafka() as server:
        yield server.bootstrap


@contextlib.contextmanager
def collecting(collector: Path, example: str, override: dict[str, Any], kafka: str, folder: Path) -> Iterator[Any]:
    """Run the collector with an example as it stands, but for what ``override`` says (addresses, paths)."""
    (folder / "override.yaml").write_text(json.dumps(override))
    command = [str(collector), "--config", f"file:{EMITTERS / 'otel-collector' / example}"]
    command += ["--config", f"file:{folder / 'override.yaml'}"]
    with running(command, folder / "log", KAFKA_BROKERS=kafka) as process:
        ready = lambda: "Everything is ready" in (folder / "log").read_text()  # noqa: E731
        try:
            eventually("the collector", ready, lambda: process.poll() is None)
        except AssertionError:
            pytest.fail((folder / "log").read_text()[-4000:])
        yield process


def no_metrics(**more: Any) -> dict[str, Any]:
    return {"service": {"telemetry": {"metrics": {"level": "none"}}}} | more


def values(kafka: str, topic: str, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The records of a topic, as soon as there are enough."""

    async def read() -> list[bytes]:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest", group_id=None)
        await consumer.start()
        found: list[bytes] = []
        try:
            while not enough(found):
                found.append((await consumer.getone()).value)
        finally:
            await consumer.stop()
        return found

    return asyncio.run(read())


def create(kafka: str, topic: str) -> None:
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(topic, 2, 1)])
    admin.close()


def span(number: int, now: float) -> dict[str, Any]:
    attributes = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.request.model": {"stringValue": "llama-3.1-8b-instruct"},
        "gen_ai.usage.input_tokens": {"intValue": str(100 + number)},
        "gen_ai.usage.output_tokens": {"intValue": str(10 + number)},
    }
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "chat",
        "kind": 2,
        "startTimeUnixNano": str(int((now - 2) * 1e9)),
        "endTimeUnixNano": str(int(now * 1e9)),
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def test_spans_become_events(collector: Path, kafka: str, tmp_path: Path) -> None:
    topic = "inference.requests.otlp"
    create(kafka, topic)
    port, grpc = free_port(), free_port()
    protocols = {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{port}"}}
    override = no_metrics(receivers={"otlp": {"protocols": protocols}})
    codec = codec_for("otlp_proto", None, None)

    def events(found: list[bytes]) -> list[Any]:
        return [event for value in found for event in codec.decode(RawRecord(value)).events]

    with collecting(collector, "otlp-to-kafka.yaml", override, kafka, tmp_path):
        now = time.time()
        for first in range(0, SPANS, IN_A_REQUEST):
            spans = [span(number, now) for number in range(first, first + IN_A_REQUEST)]
            body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
            url = f"http://127.0.0.1:{port}/v1/traces"
            headers = {"content-type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
                assert answer.status == 200
        records = values(kafka, topic, lambda got: len(events(got)) >= SPANS)
    found = events(records)
    assert sorted(event["input_tokens"] for event in found) == [100 + number for number in range(SPANS)]
    assert sum(event["output_tokens"] for event in found) == sum(10 + number for number in range(SPANS))
    assert {event["model"] for event in found} == {"llama-3.1-8b-instruct"}
    assert len({event["event_id"] for event in found}) == SPANS
    assert isinstance(codec, DecodesTogether)
    together = codec.decode_together(records, ())
    assert together is not None
    assert together.taken.all()
    assert together.columns.input_tokens.tolist() == [event["input_tokens"] for event in found]


def test_lines_of_an_access_log_become_events(collector: Path, kafka: str, tmp_path: Path) -> None:
    topic = "inference.access-log"
    create(kafka, topic)
    log = tmp_path / "access.jsonl"
    log.touch()
    golden = json.loads((Path(__file__).parents[1] / "data" / "codecs" / "envoy-ok.json").read_text())["record"]
    lines = [json.dumps(golden | {"x-request-id": f"r-{number}"}) for number in range(LINES)]
    override = no_metrics(receivers={"file_log": {"include": [str(log)], "poll_interval": "200ms"}})
    with collecting(collector, "access-log-to-kafka.yaml", override, kafka, tmp_path):
        time.sleep(2)  # `start_at: end`: what is there before the first look is left out
        with log.open("a") as file:
            file.writelines(line + "\n" for line in lines)
        found = values(kafka, topic, lambda got: len(got) >= LINES)
    by_id = lambda record: record["x-request-id"]  # noqa: E731
    assert sorted(map(json.loads, found), key=by_id) == sorted(map(json.loads, lines), key=by_id)
    codec = codec_for("envoy_ai_gateway", None, None)
    assert sum(len(codec.decode(RawRecord(value)).events) for value in found) == LINES
