"""One request event in the formats of other software, as their writers make them; for feeds of several formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from hashlib import md5
from typing import Any

__all__ = ["DIALECTS", "UNRELATED_SPAN", "in_dialect"]

Event = dict[str, Any]

_HTTP = {"ok": 200, "error": 500, "rejected": 429, "cancelled": 499, "timeout": 504}


def in_dialect(name: str, event: Event) -> bytes:
    """Return a native event as a record of the format ``name``, one of ``DIALECTS``."""
    return DIALECTS[name](event)


def _native(event: Event) -> bytes:
    return json.dumps(event).encode()


def _cloudevent(event: Event) -> bytes:
    envelope = {"specversion": "1.0", "id": event["event_id"], "source": "/fleet", "type": "request.completed"}
    return json.dumps({**envelope, "data": event}).encode()


def _span(event: Event) -> dict[str, Any]:
    start = round(event["arrived_at"] * 1e6) * 1_000
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": event["model"],
        "gen_ai.usage.input_tokens": event["input_tokens"],
        "gen_ai.usage.output_tokens": event["output_tokens"],
        "gen_ai.latency.e2e": event["e2e_seconds"],
        "gen_ai.response.time_to_first_chunk": event["ttft_seconds"],
        "http.response.status_code": _HTTP[event["status"]],
    }
    return {
        "ids": md5(event["event_id"].encode(), usedforsecurity=False).hexdigest(),
        "start": start,
        "end": start + round(event["e2e_seconds"] * 1e6) * 1_000,
        "attributes": attributes,
    }


def _json_value(value: str | int | float) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}


def _json_span(ids: str, name: str, kind: int, start: int, end: int, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "traceId": ids,
        "spanId": md5(f"{ids}{name}".encode(), usedforsecurity=False).hexdigest()[:16],
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": [{"key": key, "value": _json_value(value)} for key, value in attributes.items()],
    }


def _json_spans(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def _otlp_json(event: Event) -> bytes:
    """The request's span, and one of the gateway's own that is no request."""
    span = _span(event)
    return _json_spans(
        _json_span(span["ids"], "chat", 3, span["start"], span["end"], span["attributes"]),
        _json_span(span["ids"], "authorize", 1, span["start"], span["start"], {"http.request.method": "POST"}),
    )


#: A record of spans none of which is a request to a model.
UNRELATED_SPAN = _json_spans(_json_span("5" * 32, "GET /healthz", 2, 10**18, 10**18, {"url.path": "/healthz"}))


@cache
def _messages() -> Any:
    from opentelemetry.proto.trace.v1 import trace_pb2

    return trace_pb2


def _otlp_proto(event: Event) -> bytes:
    found = _span(event)
    traces = _messages().TracesData()
    span = (
        traces.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=bytes.fromhex(found["ids"]),
            span_id=bytes.fromhex(found["ids"])[:8],
            name="chat",
            kind=3,
            start_time_unix_nano=found["start"],
            end_time_unix_nano=found["end"],
        )
    )
    kinds = {str: "string_value", int: "int_value", float: "double_value"}
    for key, value in found["attributes"].items():
        attribute = span.attributes.add(key=key)
        setattr(attribute.value, kinds[type(value)], value)
    return bytes(traces.SerializeToString())


def _openai_usage(event: Event) -> bytes:
    line = {name: event[name] for name in ("model", "status", "arrived_at", "e2e_seconds", "ttft_seconds")}
    usage = {"prompt_tokens": event["input_tokens"], "completion_tokens": event["output_tokens"]}
    return json.dumps({"id": event["event_id"], **line, "usage": usage}).encode()


def _litellm(event: Event) -> bytes:
    """Failures have no usage there, so that they are written as native events."""
    if event["status"] != "ok" or not event["output_tokens"]:
        return _native(event)
    at = lambda seconds: datetime.fromtimestamp(event["arrived_at"] + seconds, UTC).isoformat()  # noqa: E731
    payload = {
        "call_type": "acompletion",
        "litellm_call_id": event["event_id"],
        "model_group": event["model"],
        "startTime": at(0.0),
        "completionStartTime": at(event["ttft_seconds"]),
        "endTime": at(event["e2e_seconds"]),
        "prompt_tokens": event["input_tokens"],
        "completion_tokens": event["output_tokens"],
        "stream": True,
        "status": "success",
    }
    return json.dumps(payload).encode()


#: Name to what writes a record of it. All but the last keep a failed request's tokens.
DIALECTS: dict[str, Callable[[Event], bytes]] = {
    "native": _native,
    "cloudevents": _cloudevent,
    "otlp_json": _otlp_json,
    "otlp_proto": _otlp_proto,
    "openai_usage": _openai_usage,
    "litellm": _litellm,
}
