"""OpenTelemetry spans to request events, whatever their encoding: which spans are requests, and what they say.

``otlp_names`` has the names; no other attributes are read, so that prompts and answers never leave the record.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.events.codecs import otlp_langfuse as langfuse
from pipeline.events.codecs.base import Decoded, Fields
from pipeline.events.codecs.otlp_names import (
    EMBEDDINGS,
    FIELDS,
    OPERATIONS,
    POOL_OF_SERVER,
    REQUEST_NAME,
    REQUESTS,
    RESOURCE_TEXTS,
    USAGE,
)
from pipeline.events.codecs.values import status_of_error, status_of_http, text
from pipeline.events.validation import LATENCY_TOLERANCE, LATENCY_TOLERANCE_SECONDS

__all__ = ["CLIENT", "SERVER", "SpanKey", "SpanRecord", "decoded"]

#: SpanKind of the protocol.
SERVER, CLIENT = 2, 3
_ERROR = 2  # StatusCode
_CLOCKS_SECONDS = 0.5  # by which a client's and a server's clock may differ
_MOST_CALLERS = 64  # clients' spans of one trace that are looked at for a server's

#: Trace id and span id.
SpanKey = tuple[str, str]


class SpanRecord(NamedTuple):
    """One span: ids as hex, times in epoch seconds (None: unknown), and those of its attributes that are read, as plain
    values. ``first_token_at`` is the time of a first-token event; ``status`` the code and message."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    started_at: float | None
    ended_at: float | None
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    first_token_at: float | None = None
    status_code: int = 0
    status_message: str = ""


def decoded(candidates: Sequence[SpanRecord], spans: int, parents: Callable[[], Mapping[SpanKey, str]]) -> Decoded:
    """Return the events in the spans of one record; all other spans are parts that are no requests.

    Args:
        candidates: at least the spans that ``may_be_request``.
        spans: how many spans there are.
        parents: gives the parent of every span; asked only where several requests of one trace are in the record.
    """
    requests = [span for span in candidates if is_request(span)]
    if len(requests) > 1 and len({span.trace_id for span in requests}) < len(requests):
        requests = _without_doubles(requests, parents())
    return Decoded([fields_of(span) for span in requests], spans - len(requests))


def is_request(span: SpanRecord) -> bool:
    """Whether a span stands for one request to a model: by its operation, or, in conventions before there was one, by
    a model and its usage. Agents, tools and workflows are none: the requests that they make have spans of their own."""
    attributes = span.attributes
    operation = _operation(attributes)
    if operation:
        return operation in REQUESTS
    if span.name == REQUEST_NAME:
        return True
    return ("gen_ai.request.model" in attributes or "gen_ai.response.model" in attributes) and (
        "gen_ai.system" in attributes or not USAGE.isdisjoint(attributes)
    )


def _operation(attributes: Mapping[str, Any]) -> str:
    """The operation in lower case; empty: none is named that says anything."""
    for name in OPERATIONS:
        told = attributes.get(name)
        if isinstance(told, str) and told not in ("", "unknown"):
            return told.lower()
    return ""


def _without_doubles(requests: list[SpanRecord], parents: Mapping[SpanKey, str]) -> list[SpanRecord]:
    """Leave out spans around another request span of the same trace: one request, seen by its client and its server.

    What counts is the innermost, since that is where the load was. Where the spans between them are not in the record,
    a server's span within the time of a client's in the same trace is the same request.
    """
    keys = {(span.trace_id, span.span_id) for span in requests}
    outer: dict[SpanKey, bool] = {}  # spans around requests: whether one of them, or around them, is a request
    alone = []  # servers' spans whose client is not among the spans around them
    for span in requests:
        chain = []
        key = (span.trace_id, span.parent_id)
        while key[1] and key not in outer:
            outer[key] = False
            chain.append(key)
            key = (span.trace_id, parents.get(key, ""))
        around = outer.get(key, False)
        for key in reversed(chain):
            around = outer[key] = around or key in keys
        if span.kind == SERVER and not around:
            alone.append(span)
    inner = [span for span in requests if (span.trace_id, span.span_id) not in outer]
    served = _callers(alone, [span for span in inner if span.kind == CLIENT])
    return [span for span in inner if (span.trace_id, span.span_id) not in served]


def _callers(servers: list[SpanRecord], clients: list[SpanRecord]) -> set[SpanKey]:
    """For each server's span the client's of its trace, around it in time, that began nearest to it: one each."""
    by_trace: dict[str, list[SpanRecord]] = {}
    for client in sorted(clients, key=lambda span: span.started_at or 0.0):
        by_trace.setdefault(client.trace_id, []).append(client)
    served: set[SpanKey] = set()
    for server in servers:
        began = server.started_at or 0.0
        candidates = by_trace.get(server.trace_id, [])
        end = bisect_right(candidates, began + _CLOCKS_SECONDS, key=lambda span: span.started_at or 0.0)
        callers = [
            client
            for client in candidates[max(0, end - _MOST_CALLERS) : end]
            if (client.trace_id, client.span_id) not in served and _within(server, client)
        ]
        if callers:
            caller = min(callers, key=lambda span: abs((span.started_at or 0.0) - began))
            served.add((caller.trace_id, caller.span_id))
    return served


def _within(server: SpanRecord, client: SpanRecord) -> bool:
    if server.started_at is None or client.started_at is None or client.ended_at is None:
        return False
    return client.started_at - _CLOCKS_SECONDS <= server.started_at <= client.ended_at + _CLOCKS_SECONDS


def fields_of(span: SpanRecord) -> Fields:
    """Return the event of a request span."""
    attributes, resource = span.attributes, span.resource
    fields: dict[str, Any] = {
        "event_id": f"{span.trace_id}-{span.span_id}",
        "trace_id": span.trace_id,
        "arrived_at": span.started_at,
        "completed_at": span.ended_at,
        "source": "otlp",
    }
    ranks: dict[str, int] = {}
    for name, value in attributes.items():
        place = FIELDS.get(name)
        if place is None:
            continue
        field, rank, read = place
        if ranks.get(field, rank) < rank or (read is None and (value is None or value == "")):
            continue
        found = value if read is None else read(value)
        if found is not None:
            ranks[field] = rank
            fields[field] = found
    if langfuse.USAGE in attributes:
        fields = langfuse.usage_of(attributes[langfuse.USAGE]) | fields
    if "ttft_seconds" not in fields and span.started_at is not None:
        first = span.first_token_at or langfuse.first_token_at(attributes)
        if first is not None:
            fields["ttft_seconds"] = first - span.started_at
    _drop_contradiction(fields)
    _add_others(fields, attributes)
    if resource:
        _add_resource(fields, resource, span)
    fields["status"] = _status(span, fields)
    if _operation(attributes) in EMBEDDINGS:
        fields.setdefault("output_tokens", 0)
    return fields


def _drop_contradiction(fields: dict[str, Any]) -> None:
    """A span's own times are believed; a latency that contradicts them (vLLM has told its host's uptime) is unknown."""
    started, ended, e2e = fields["arrived_at"], fields["completed_at"], fields.get("e2e_seconds")
    if e2e is None or started is None or ended is None:
        return
    if abs(ended - started - e2e) > max(LATENCY_TOLERANCE_SECONDS, LATENCY_TOLERANCE * e2e):
        fields["e2e_seconds"] = math.nan  # there, and unusable


def _add_others(fields: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    stream = attributes.get("gen_ai.request.stream", attributes.get("llm.is_streaming"))
    if stream is not None:
        fields["stream"] = stream
    reasons = attributes.get("gen_ai.response.finish_reasons")
    if reasons:
        fields["finish_reason"] = str(reasons[0] if isinstance(reasons, list) else reasons)


def _add_resource(fields: dict[str, Any], resource: Mapping[str, Any], span: SpanRecord) -> None:
    for field, names in RESOURCE_TEXTS.items():
        value = resource.get(names[0])
        if value is not None and field not in fields:
            fields[field] = value
    if span.kind == CLIENT:
        return
    if "pool" not in fields and resource.get(POOL_OF_SERVER):
        fields["pool"] = resource[POOL_OF_SERVER]
    fields["server_id"] = resource.get("service.instance.id")
    service = text(resource.get("service.name"))
    if "model" not in fields and service and not service.startswith("unknown_service"):
        fields["model_hint"] = service


def _status(span: SpanRecord, fields: Mapping[str, Any]) -> str:
    code = fields.get("http_status")
    if code is not None and code >= 400:
        return status_of_http(code) or "error"
    error = fields.get("error_type")
    if error is not None or span.status_code == _ERROR:
        return status_of_error((error, span.status_message))
    reason = str(fields.get("finish_reason") or "").lower()
    return "cancelled" if reason.strip('[]"') in ("abort", "cancelled", "canceled") else "ok"
