"""OTLP JSON as the OpenTelemetry Collector's Kafka exporter writes it (``encoding: otlp_json``): a batch per record.

Ids are hex, 64-bit integers are text, enumerations numbers (opentelemetry-proto, ``docs/specification.md``, JSON
Protobuf Encoding); numbers for text and names for numbers are taken as well.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord, epoch_nanoseconds
from pipeline.events.codecs.otlp_names import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUEST_NAME, RESOURCE_ATTRIBUTES
from pipeline.events.codecs.otlp_spans import SpanKey, SpanRecord, decoded
from pipeline.events.convert import rejected
from pipeline.events.request_event import RejectReason

__all__ = ["OtlpJsonCodec", "begins_as_otlp_json"]

_KINDS = {"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3}
_LEAST_DIGITS = 18  # of nanoseconds since 1970, for every time after 2001


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False):
    name: str = ""
    timeUnixNano: str | int = 0  # noqa: N815 - the names are the protocol's


class _Status(msgspec.Struct, gc=False):
    code: int | str = 0
    message: str = ""


class _Span(msgspec.Struct, gc=False):
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str | None = ""  # noqa: N815
    name: str = ""
    kind: int | str = 0
    startTimeUnixNano: str | int = 0  # noqa: N815
    endTimeUnixNano: str | int = 0  # noqa: N815
    attributes: list[_Attribute] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Scope(msgspec.Struct, gc=False):
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Attribute] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_Scope] | None = None  # noqa: N815


class _Traces(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans]  # noqa: N815


_DECODER = msgspec.json.Decoder(_Traces)
_NONE: dict[str, Any] = {}


class OtlpJsonCodec:
    """One event per request span."""

    name = "otlp_json"
    title = "OTLP JSON traces"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record begins as a batch of spans does."""
        return begins_as_otlp_json(record.value)

    def decode(self, record: RawRecord) -> Decoded:
        """Return one event per request span; other spans are ignored.

        Raises:
            EventRejected: it is no OTLP JSON.
        """
        try:
            traces = _DECODER.decode(record.value)
        except msgspec.ValidationError as error:
            raise rejected(error) from error
        except RecursionError as error:
            raise EventRejected(RejectReason.MALFORMED, "nested too deeply") from error
        except ValueError:
            traces = _tolerant(record)
        candidates = []
        spans = 0
        for group in traces.resourceSpans:
            resource: dict[str, Any] | None = None
            for scope in group.scopeSpans or ():
                for span in scope.spans or ():
                    spans += 1
                    attributes = _plain(span.attributes, ATTRIBUTES) if span.attributes else _NONE
                    if span.name != REQUEST_NAME and REQUEST_ATTRIBUTES.isdisjoint(attributes):
                        continue
                    if resource is None:
                        resource = _plain(group.resource.attributes, RESOURCE_ATTRIBUTES) if group.resource else _NONE
                    candidates.append(_span(span, attributes, resource))
        return decoded(candidates, spans, lambda: _parents(traces))


def begins_as_otlp_json(value: bytes) -> bool:
    """Whether a value begins as a batch of spans in JSON does."""
    return b'"resourceSpans"' in value[:64]


def _tolerant(record: RawRecord) -> _Traces:
    """Spans in what is JSON only to ``parsed_json``, such as texts that were cut within a character."""
    try:
        return msgspec.convert(record.json(), _Traces)
    except msgspec.ValidationError as error:
        raise rejected(error) from error


def _parents(traces: _Traces) -> dict[SpanKey, str]:
    return {
        (span.traceId, span.spanId): span.parentSpanId or ""
        for group in traces.resourceSpans
        for scope in group.scopeSpans or ()
        for span in scope.spans or ()
    }


def _span(span: _Span, attributes: dict[str, Any], resource: dict[str, Any]) -> SpanRecord:
    status = span.status
    kind = span.kind if isinstance(span.kind, int) else _KINDS.get(span.kind, 0)
    return SpanRecord(
        span.traceId,
        span.spanId,
        span.parentSpanId or "",
        span.name,
        kind,
        epoch_nanoseconds(span.startTimeUnixNano),
        epoch_nanoseconds(span.endTimeUnixNano),
        attributes,
        resource,
        _first_token(span.events) if span.events else None,
        0 if status is None else 2 if status.code in (2, "STATUS_CODE_ERROR") else 0,
        "" if status is None else status.message,
    )


def _first_token(events: list[_Event]) -> float | None:
    return next((epoch_nanoseconds(event.timeUnixNano) for event in events if "first_token" in event.name), None)


def _plain(attributes: list[_Attribute] | None, wanted: frozenset[str]) -> dict[str, Any]:
    """The wanted attributes as plain values; of one that comes twice the last counts."""
    found: dict[str, Any] = {}
    for attribute in attributes or ():
        key = attribute.key
        if key in wanted and attribute.value:
            value = _value(attribute.value)
            if value is not None:
                found[key] = value
    return found


def _value(value: dict[str, Any]) -> Any:
    for kind, plain in value.items():
        if kind == "arrayValue":
            inner = plain.get("values") if isinstance(plain, dict) else None
            return [_value(v) for v in inner[:4] if isinstance(v, dict)] if isinstance(inner, list) else None
        return plain if kind in ("stringValue", "intValue", "doubleValue", "boolValue") else None
    return None
