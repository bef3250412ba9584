"""OpenTelemetry spans to request events, whatever their encoding: which spans are requests, and what they say.

Names: the GenAI conventions (semantic-conventions v1.41.0, ``docs/gen-ai``), their deprecated token names, and those of
vLLM's ``llm_request`` span (``vllm/tracing/utils.py``, 0.32), which SGLang uses as well. Only the attributes named here
are read: prompts and answers never leave the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.events.codecs.base import Decoded, Fields
from pipeline.events.codecs.values import count, number, status_of_error, status_of_http, text

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
_REQUESTS = frozenset({"chat", "text_completion", "generate_content", "completion", "embeddings"})
REQUEST_NAME = "llm_request"
#: A request span has one of these attributes, or the name.
REQUEST_ATTRIBUTES = frozenset(
    ("gen_ai.operation.name", "llm.request.type", "gen_ai.request.model", "gen_ai.response.model")
)

#: Event field to the attributes that have it; the first that is there counts.
_COUNTS = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cached_tokens",
        "gen_ai.usage.cache_read_input_tokens",
    ),
    "reasoning_output_tokens": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
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
_TEXTS = {
    "model": ("gen_ai.request.model", "gen_ai.response.model"),
    "pool": ("tokentide.pool",),
    "tenant": ("tokentide.tenant",),
    "workload": ("tokentide.workload",),
    "request_id": ("gen_ai.response.id", "gen_ai.request.id"),
    "operation": ("gen_ai.operation.name", "llm.request.type"),
    "engine": ("gen_ai.provider.name", "gen_ai.system"),
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
ATTRIBUTES = frozenset({*_by_attribute(_COUNTS, _SECONDS, _TEXTS), *_OTHERS})
#: Every attribute of a resource that is read.
RESOURCE_ATTRIBUTES = frozenset(
    {*_by_attribute(_RESOURCE_TEXTS), _POOL_OF_SERVER, "service.name", "service.instance.id"}
)
#: Attribute to the event's field, its rank among the attributes of that field, and what reads its value.
_FIELDS: dict[str, tuple[str, int, Callable[[Any], Any] | None]] = {
    attribute: (*place, read)
    for table, read in ((_TEXTS, None), (_COUNTS, count), (_SECONDS, number))
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
    operation = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
    if operation is not None:
        return operation in _REQUESTS
    if span.name == REQUEST_NAME:
        return True
    return ("gen_ai.request.model" in attributes or "gen_ai.response.model" in attributes) and (
        "gen_ai.system" in attributes or not _USAGE.isdisjoint(attributes)
    )


_USAGE = frozenset({*_COUNTS["input_tokens"], *_COUNTS["output_tokens"]})


def _without_doubles(requests: list[SpanRecord], parents: Mapping[SpanKey, str]) -> list[SpanRecord]:
    """Leave out spans around another request span of the same trace: one request, seen by its client and its server.

    What counts is the innermost, since that is where the load was. Where the spans between them are not in the record,
    a server's span within the time of a client's in the same trace is the same request.
    """
    outer: set[SpanKey] = set()
    for span in requests:
        above, left = span.parent_id, len(parents)
        while above and left and (span.trace_id, above) not in outer:
            outer.add((span.trace_id, above))
            above, left = parents.get((span.trace_id, above), ""), left - 1
    servers = [span for span in requests if span.kind == SERVER]
    return [
        span
        for span in requests
        if (span.trace_id, span.span_id) not in outer
        and not (span.kind == CLIENT and any(_within(server, span) for server in servers))
    ]


def _within(server: SpanRecord, client: SpanRecord) -> bool:
    if server.trace_id != client.trace_id or None in (server.started_at, client.started_at, client.ended_at):
        return False
    assert server.started_at is not None
    assert client.started_at is not None
    assert client.ended_at is not None
    return client.started_at - 0.5 <= server.started_at <= client.ended_at + 0.5


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
        ranks[field] = rank
        fields[field] = value if read is None else read(value)
    if "ttft_seconds" not in fields and span.first_token_at is not None and span.started_at is not None:
        fields["ttft_seconds"] = span.first_token_at - span.started_at
    _add_others(fields, attributes)
    if resource:
        _add_resource(fields, resource, span)
    fields["status"] = _status(span, fields)
    if fields.get("operation") == "embeddings":
        fields.setdefault("output_tokens", 0)
    return fields


def _add_others(fields: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    stream = attributes.get("gen_ai.request.stream", attributes.get("llm.is_streaming"))
    if stream is not None:
        fields["stream"] = stream
    reasons = attributes.get("gen_ai.response.finish_reasons")
    if reasons:
        fields["finish_reason"] = reasons if isinstance(reasons, str) else str(reasons[0])


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
