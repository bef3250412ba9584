"""The protobuf messages of OTLP traces, with only what is read of them, and attributes as bytes.

A message and a ``bytes`` field are the same on the wire, so attributes (``KeyValue``) stay bytes until
``otlp_attributes`` looks at them: parsing makes no object for one that nobody reads. Field numbers: opentelemetry-proto
v1, ``trace/v1/trace.proto``, ``common/v1/common.proto``, ``resource/v1/resource.proto``; they never change within v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["KEY_VALUE", "RESOURCE", "SPAN", "TRACES", "resource_of_record", "span_of_record"]

_PACKAGE = "tokentide.otlp"
_TYPES = descriptor_pb2.FieldDescriptorProto

#: Message: (field, number, type, repeated); a type that is no scalar is a message of this table.
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "AnyValue": (
        ("string_value", 1, "STRING", False),
        ("bool_value", 2, "BOOL", False),
        ("int_value", 3, "INT64", False),
        ("double_value", 4, "DOUBLE", False),
        ("array_value", 5, "ArrayValue", False),
    ),
    "ArrayValue": (("values", 1, "AnyValue", True),),
    "KeyValue": (("key", 1, "STRING", False), ("value", 2, "AnyValue", False)),
    "Event": (("time_unix_nano", 1, "FIXED64", False), ("name", 2, "STRING", False)),
    "Status": (("message", 2, "STRING", False), ("code", 3, "INT32", False)),
    "Span": (
        ("trace_id", 1, "BYTES", False),
        ("span_id", 2, "BYTES", False),
        ("parent_span_id", 4, "BYTES", False),
        ("name", 5, "STRING", False),
        ("kind", 6, "INT32", False),
        ("start_time_unix_nano", 7, "FIXED64", False),
        ("end_time_unix_nano", 8, "FIXED64", False),
        ("attributes", 9, "BYTES", True),
        ("events", 11, "Event", True),
        ("status", 15, "Status", False),
    ),
    "ScopeSpans": (("spans", 2, "Span", True),),
    "Resource": (("attributes", 1, "BYTES", True),),
    "ResourceSpans": (("resource", 1, "Resource", False), ("scope_spans", 2, "ScopeSpans", True)),
    "TracesData": (("resource_spans", 1, "ResourceSpans", True),),
}


def _classes(*names: str) -> list[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tokentide/otlp.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "AnyValue":
            message.oneof_decl.add(name="value")
        for field, number, kind, repeated in fields:
            label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
            scalar = getattr(_TYPES, f"TYPE_{kind}", None)
            added = message.field.add(name=field, number=number, label=label, type=scalar or _TYPES.TYPE_MESSAGE)
            if scalar is None:
                added.type_name = f".{_PACKAGE}.{kind}"
            if name == "AnyValue":
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names]


#: A batch of spans (``TracesData`` and ``ExportTraceServiceRequest`` are the same bytes), and parts of it.
TRACES, RESOURCE, SPAN, KEY_VALUE = _classes("TracesData", "Resource", "Span", "KeyValue")

#: The parser refuses what is nested deeper than this, counted from the outermost message.
_MOST_NESTED = 100
_NO_GROUP = bytes(byte for byte in range(256) if byte & 7 != 3)  # all that begins no group (wire type 3)
# Tags, from the inside: a span in its scope's, these in their resource's, those in the record; a resource likewise.
_AROUND_SPAN = (0x12, 0x12, 0x0A)
_AROUND_RESOURCE = (0x0A, 0x0A)


def span_of_record(raw: bytes) -> Any:
    """Return the span that is written so inside a record.

    Raises:
        DecodeError: a record with it would be refused.
    """
    if not _may_be_deep(raw, _AROUND_SPAN):
        return SPAN.FromString(raw)
    return TRACES.FromString(_inside(raw, _AROUND_SPAN)).resource_spans[0].scope_spans[0].spans[0]


def resource_of_record(raw: bytes) -> Any:
    """Return the resource that is written so inside a record.

    Raises:
        DecodeError: a record with it would be refused.
    """
    if not _may_be_deep(raw, _AROUND_RESOURCE):
        return RESOURCE.FromString(raw)
    return TRACES.FromString(_inside(raw, _AROUND_RESOURCE)).resource_spans[0].resource


def _may_be_deep(raw: bytes, around: Sequence[int]) -> bool:
    """Whether a message may be nested too deeply inside a record, and yet not by itself. Only groups, which nobody
    reads, go so deep, and each begins with a byte of its own."""
    return len(raw.translate(None, _NO_GROUP)) >= _MOST_NESTED - 2 * len(around)


def _inside(raw: bytes, tags: Sequence[int]) -> bytes:
    """Put a message into others that hold nothing else."""
    for tag in tags:
        length = len(raw)
        head = bytearray((tag,))
        while length > 0x7F:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        head.append(length)
        raw = bytes(head) + raw
    return raw
