"""Records to read: native events, spans in both encodings, lines of other software. Made here, with no two alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["NOW", "as_collector_writes", "collector_batches", "native_records", "otlp_records", "records_of"]

NOW = 1_767_225_700.0


def native_records(count: int, size: int, shapes: int) -> list[bytes]:
    """Native events of about ``size`` bytes; ``shapes`` different orders of members, in turn."""
    found = []
    for i in range(count):
        event = {
            "event_id": f"req-{i:012d}",
            "model": "llama-3.1-8b-instruct",
            "pool": f"pool-{i % 10}",
            "completed_at": NOW - 60 + i / count * 50,
            "e2e_seconds": 2.5,
            "ttft_seconds": 0.25,
            "input_tokens": 100 + i % 900,
            "output_tokens": 10 + i % 300,
            "status": "ok",
        }
        turn = i % shapes
        event = dict([*event.items()][turn % 9 :] + [*event.items()][: turn % 9]) | ({f"x{turn}": 1} if turn else {})
        text = json.dumps(event, separators=(",", ":"))
        if len(text) < size:
            text = text[:-1] + ',"note":"' + "n" * (size - len(text) - 10) + '"}'
        found.append(text.encode())
    return found


_CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "llama-3.1-8b-instruct",
    "gen_ai.request.stream": True,
    "gen_ai.request.max_tokens": 512,
    "server.address": "vllm-chat",
    "server.port": 8000,
    "tokentide.pool": "chat",
    "gen_ai.response.model": "llama-3.1-8b-instruct",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 1840,
    "gen_ai.usage.output_tokens": 233,
    "gen_ai.usage.cache_read.input_tokens": 512,
    "gen_ai.response.time_to_first_chunk": 0.31,
}
_HTTP: dict[str, Any] = {
    "http.request.method": "POST",
    "url.path": "/v1/chat/completions",
    "http.response.status_code": 200,
}
_RESOURCE: dict[str, Any] = {
    "telemetry.sdk.language": "python",
    "service.name": "gateway",
    "service.instance.id": "gw-1",
}


def otlp_records(count: int) -> tuple[list[bytes], list[bytes]]:
    """The same batches of two spans as JSON and as protobuf."""
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    as_json, as_proto = [], []
    for i in range(count):
        start = int((NOW - 60) * 1e9) + i * 1_000_000
        spans = (
            (f"{2 * i:016x}", f"{2 * i + 1:016x}", "chat", 3, _CHAT | {"gen_ai.usage.input_tokens": 1_000 + i}),
            (f"{2 * i + 1:016x}", "", "POST /v1/chat/completions", 2, _HTTP),
        )
        proto = TracesData()
        group = proto.resource_spans.add()
        _fill(group.resource.attributes, _RESOURCE)
        scope = group.scope_spans.add()
        written = []
        for span_id, parent, name, kind, attributes in spans:
            end = start + 6_400_000_000
            written.append(
                {
                    "traceId": f"{i:032x}",
                    "spanId": span_id,
                    "parentSpanId": parent,
                    "flags": 256,
                    "name": name,
                    "kind": kind,
                    "startTimeUnixNano": str(start),
                    "endTimeUnixNano": str(end),
                    "attributes": [{"key": key, "value": _json_value(value)} for key, value in attributes.items()],
                    "status": {},
                }
            )
            span = scope.spans.add(
                trace_id=bytes.fromhex(f"{i:032x}"),
                span_id=bytes.fromhex(span_id),
                parent_span_id=bytes.fromhex(parent),
                name=name,
                kind=kind,
                start_time_unix_nano=start,
                end_time_unix_nano=end,
            )
            _fill(span.attributes, attributes)
        resource = {"attributes": [{"key": key, "value": _json_value(value)} for key, value in _RESOURCE.items()]}
        batch = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "x"}, "spans": written}]}]}
        as_json.append(json.dumps(batch, separators=(",", ":")).encode())
        as_proto.append(proto.SerializeToString())
    return as_json, as_proto


def collector_batches(count: int, requests: int) -> list[bytes]:
    """OTLP protobuf as a collector under load writes it: ``requests`` of many models and lengths in each record, with
    the conversation in an attribute and an HTTP span beside each."""
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    records = []
    for number in range(0, count * requests, requests):
        proto = TracesData()
        group = proto.resource_spans.add()
        _fill(group.resource.attributes, _RESOURCE | {"service.instance.id": f"gw-{number // requests % 4}"})
        spans = group.scope_spans.add().spans
        for i in range(number, number + requests):
            model = f"model-{i % 7 * 'x'}-{i % 7}"
            chat = _CHAT | {
                "gen_ai.request.model": model,
                "gen_ai.response.model": model,
                "gen_ai.request.stream": i % 3 > 0,
                "gen_ai.request.max_tokens": 64 << i % 5,
                "gen_ai.input.messages": "lorem ipsum " * (1 + i % 37),
                "tokentide.pool": ("chat", "batch")[i % 2],
                "gen_ai.response.id": f"chatcmpl-{i * 7919:x}",
                "gen_ai.usage.input_tokens": 1 + i * 7919 % 30_000,
                "gen_ai.usage.output_tokens": 1 + i * 104_729 % 900,
                "gen_ai.usage.cache_read.input_tokens": i % 2,
                "gen_ai.response.time_to_first_chunk": 0.05 + i % 1_009 / 1_000,
            }
            start = int((NOW - 60) * 1e9) + i * 1_000_003
            for span_id, name, kind, attributes in ((1, f"chat {model}", 3, chat), (2, "POST", 2, _HTTP)):
                span = spans.add(
                    trace_id=f"{i:016x}".encode(),
                    span_id=f"{2 * i + span_id:08x}".encode(),
                    parent_span_id=b"" if span_id == 2 else f"{2 * i + 2:08x}".encode(),
                    name=name,
                    kind=kind,
                    start_time_unix_nano=start,
                    end_time_unix_nano=start + 2_000_000_000 + i % 977 * 7_000_000,
                )
                _fill(span.attributes, attributes)
        records.append(as_collector_writes(proto))
    return records


def as_collector_writes(message: Any) -> bytes:
    """A message with the fields of each message in descending order, which is how the OpenTelemetry Collector 0.165
    writes OTLP (SDKs write them in ascending order)."""
    written = bytearray()
    for field, value in reversed(message.ListFields()):
        for one in value if isinstance(value, Sequence) and not isinstance(value, bytes | str) else (value,):
            if field.message_type is None:
                alone = type(message)()
                setattr(alone, field.name, one)
                written += alone.SerializeToString()
            else:
                content = as_collector_writes(one)
                written += _varint(field.number << 3 | 2) + _varint(len(content)) + content
    return bytes(written)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def _fill(attributes: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        kind = {bool: "bool_value", int: "int_value", float: "double_value"}.get(type(value), "string_value")
        setattr(attributes.add(key=key).value, kind, value)


def records_of(codec: str, count: int) -> list[bytes]:
    """Lines as the software writes them, from the tests' golden files with times and counts that differ."""
    from pathlib import Path

    files = {
        "litellm": "litellm-success",
        "envoy_ai_gateway": "envoy-ok",
        "sglang": "sglang-ok",
        "dynamo": "dynamo-request-end",
        "openai_usage": "openai-usage-with-duration",
    }
    path = Path(__file__).parents[2] / "tests" / "data" / "codecs" / f"{files[codec]}.json"
    record = json.loads(path.read_text(encoding="utf-8"))["record"]
    return [json.dumps(record | {"n": i, "id": f"id-{i}"}, separators=(",", ":")).encode() for i in range(count)]
