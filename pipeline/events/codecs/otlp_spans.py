"""OpenTelemetry spans to request events, whatever their encoding: which spans are requests, and what they say.

Names: the GenAI conventions (semantic-conventions v1.41.0, ``docs/gen-ai``), their deprecated token names, those of
vLLM's ``llm_request`` span (``vllm/tracing/utils.py``, 0.32), which SGLang uses as well, OpenLLMetry's before them
(``llm.``), LiteLLM's call types as operation, Vercel's AI SDK, and OpenInference (``openinference-semantic-conventions``;
Arize Phoenix). Only the attributes named here are read: prompts and answers never leave the record.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.events.codecs.base import Decoded, Fields
from pipeline.events.codecs.values import count, milliseconds, number, status_of_error, status_of_http, text
from pipeline.events.validation import LATENCY_TOLERANCE, LATENCY_TOLERANCE_SECONDS

__all__ = [
    "ATTRIBUTES",
    "CLIENT",
    "REQUEST_ATTRIBUTES",
    "REQUEST_NAME",
    "RESOURCE_ATTRIBUTES",
    "SERVER",
    "SpanKey",
    "SpanRecord",
    "decoded",
]

#: SpanKind of the protocol.
SERVER, CLIENT = 2, 3
_ERROR = 2  # StatusCode
_CLOCKS_SECONDS = 0.5  # by which a client's and a server's clock may differ
_MOST_CALLERS = 64  # clients' spans of one trace that are looked at for a server's
_SPAN_KIND = "openinference.span.kind"
_OPERATIONS = ("gen_ai.operation.name", "llm.request.type", _SPAN_KIND)
_EMBEDDINGS = frozenset({"embeddings", "embedding", "aembedding", "ai.embed.doembed", "ai.embedmany.doembed"})
#: Operations that are one request to a model, in lower case. LiteLLM writes its call types, asynchronous ones with an a.
_REQUESTS = _EMBEDDINGS | {
    *(
        "chat",
        "text_completion",
        "generate_content",
        "completion",
        "completions",
        "chat_completion",
        "chat.completions",
    ),
    *("responses", "messages", "anthropic_messages", "generate", "generate_content_stream", "llm"),
    *("acompletion", "atext_completion", "aresponses", "agenerate_content", "agenerate_content_stream"),
    *(
        "ai.generatetext.dogenerate",
        "ai.streamtext.dostream",
        "ai.generateobject.dogenerate",
        "ai.streamobject.dostream",
    ),
}
REQUEST_NAME = "llm_request"
#: A request span has one of these attributes, or the name.
REQUEST_ATTRIBUTES = frozenset({*_OPERATIONS, "gen_ai.request.model", "gen_ai.response.model"})

#: Event field to the attributes that have it; the first that is there counts.
_COUNTS = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cached_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cached_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "reasoning_output_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "max_output_tokens": ("gen_ai.request.max_tokens",),
    "n": ("gen_ai.request.n", "gen_ai.request.choice.count"),
    "http_status": ("http.response.status_code", "http.status_code"),
    "attempt": ("http.request.resend_count",),
}
_SECONDS = {
    "ttft_seconds": (
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
        "gen_ai.latency.time_to_first_token",
    ),
    "e2e_seconds": ("gen_ai.latency.e2e",),
    "queue_seconds": ("gen_ai.latency.time_in_queue",),
    "prefill_seconds": ("gen_ai.latency.time_in_model_prefill",),
    "decode_seconds": ("gen_ai.latency.time_in_model_decode",),
}
_MILLISECONDS = {"ttft_seconds": ("ai.response.msToFirstChunk",)}
_TEXTS = {
    "model": (
        "gen_ai.request.model",
        "gen_ai.response.model",
        "llm.model_name",
        "embedding.model_name",
        "llm.request.model",
    ),
    "pool": ("tokentide.pool",),
    "tenant": ("tokentide.tenant",),
    "workload": ("tokentide.workload",),
    "request_id": ("gen_ai.response.id", "gen_ai.request.id"),
    "operation": _OPERATIONS,
    "engine": ("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    "error_type": ("error.type",),
}
_OTHERS = ("gen_ai.request.stream", "llm.is_streaming", "gen_ai.response.finish_reasons")
_RESOURCE_TEXTS = {
    "model": ("tokentide.model",),
    "pool": ("tokentide.pool",),
    "region": ("cloud.region",),
    "cluster": ("k8s.cluster.name",),
    "namespace": ("k8s.namespace.name",),
}
_POOL_OF_SERVER = "k8s.deployment.name"


def _by_attribute(*tables: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, int]]:
    """Attribute to (event field, rank among the attributes of that field)."""
    return {
        attribute: (field, rank)
        for table in tables
        for field, attributes in table.items()
        for rank, attribute in enumerate(attributes)
    }


#: Every attribute of a span that is read; decoders skip all others.
ATTRIBUTES = frozenset({*_by_attribute(_COUNTS, _SECONDS, _MILLISECONDS, _TEXTS), *_OTHERS})
#: Every attribute of a resource that is read.
RESOURCE_ATTRIBUTES = frozenset(
    {*_by_attribute(_RESOURCE_TEXTS), _POOL_OF_SERVER, "service.name", "service.instance.id"}
)
#: Attribute to the event's field, its rank among the attributes of that field, and what reads its value.
_FIELDS: dict[str, tuple[str, int, Callable[[Any], Any] | None]] = {
    attribute: (*place, read)
    for table, read in ((_TEXTS, None), (_COUNTS, count), (_MILLISECONDS, milliseconds), (_SECONDS, number))
    for attribute, place in _by_attribute(table).items()
}


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
        return operation in _REQUESTS
    if span.name == REQUEST_NAME:
        return True
    return ("gen_ai.request.model" in attributes or "gen_ai.response.model" in attributes) and (
        "gen_ai.system" in attributes or not _USAGE.isdisjoint(attributes)
    )


_USAGE = frozenset({*_COUNTS["input_tokens"], *_COUNTS["output_tokens"]})


def _operation(attributes: Mapping[str, Any]) -> str:
    """The operation in lower case; empty: none is named that says anything."""
    for name in _OPERATIONS:
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
        place = _FIELDS.get(name)
        if place is None:
            continue
        field, rank, read = place
        if ranks.get(field, rank) < rank or (read is None and (value is None or value == "")):
            continue
        found = value if read is None else read(value)
        if found is not None:
            ranks[field] = rank
            fields[field] = found
    if "ttft_seconds" not in fields and span.first_token_at is not None and span.started_at is not None:
        fields["ttft_seconds"] = span.first_token_at - span.started_at
    _drop_contradiction(fields)
    _add_others(fields, attributes)
    if resource:
        _add_resource(fields, resource, span)
    fields["status"] = _status(span, fields)
    if _operation(attributes) in _EMBEDDINGS:
        fields.setdefault("output_tokens", 0)
    return fields


def _drop_contradiction(fields: dict[str, Any]) -> None:
    """A span's own times are what is believed: a latency that contradicts them (vLLM has told its host's uptime) is none."""
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
    for field, names in _RESOURCE_TEXTS.items():
        value = resource.get(names[0])
        if value is not None and field not in fields:
            fields[field] = value
    if span.kind == CLIENT:
        return
    if "pool" not in fields and resource.get(_POOL_OF_SERVER):
        fields["pool"] = resource[_POOL_OF_SERVER]
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
