"""What a refused record looks like, and what to do about it: for messages only, nothing is read by guessing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.auto import AutoCodec
from pipeline.events.codecs.base import Codec, RawRecord, parsed_json
from pipeline.events.codecs.registry import AUTO
from pipeline.events.request_event import RejectReason

__all__ = ["described"]

_ANY = AutoCodec()
_MARK = "; looks like "
#: First bytes of what is no text.
_MAGIC = (
    (b"\x1f\x8b", "a gzip file; send JSON and set compression on the producer (compression.type)"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; send JSON and set compression on the producer (compression.type)"),
    (b"\x04\x22\x4d\x18", "an lz4 file; send JSON and set compression on the producer (compression.type)"),
    (b"# HELP ", "a Prometheus exposition, not events"),
    (b"# TYPE ", "a Prometheus exposition, not events"),
    (b"{'", "a Python object written by str(); write it by json.dumps"),
)
#: Names under which log collectors keep a line.
_LINES = ("log", "message", "msg", "MESSAGE")
_MOST_VALUES = 64  # of an envelope that are looked at
_MOST_DEPTH = 3
_MOST_PREFIX = 80  # characters before the JSON in a line
_MOST_NAME = 32


def described(error: EventRejected, record: RawRecord, codec: str = "native") -> EventRejected:
    """Return the error with what the record looks like added, where it is not of the format of the reading codec."""
    if error.reason == RejectReason.EMPTY or _MARK in error.detail or _NEXT in error.detail:
        return error
    hint = _hint(record, codec)
    if hint:
        return EventRejected(error.reason, f"{error.detail[:200]}{_MARK}{hint}")
    if error.reason == RejectReason.UNKNOWN_FORMAT and record.is_object():
        return EventRejected(error.reason, f"{error.detail[:200]}{_NEXT}")
    return error


_NEXT = "; if these are finished requests, name their fields in a mapping (codec = 'mapping')"


def _hint(record: RawRecord, reading: str) -> str:
    try:
        parsed = record.json()
    except EventRejected as error:
        return _of_bytes(record, error)
    if isinstance(parsed, str):
        return "JSON encoded twice" if parsed.lstrip()[:1] in ("{", "[", '"') else ""
    codec = _ANY.choose(record)
    if codec is not None:
        return "" if reading in (codec.name, AUTO) else f"{codec.title} (codec = {codec.name!r})"
    if _is_other_span(parsed[0] if isinstance(parsed, list) and parsed else parsed):
        return "spans that are not OTLP (Zipkin, Jaeger, a console exporter); export otlp_proto or otlp_json"
    if isinstance(parsed, list):
        return f"a list of {len(parsed)}; send one event per record"
    return _of_object(parsed) if isinstance(parsed, dict) else ""


def _of_bytes(record: RawRecord, error: EventRejected) -> str:
    """What is not JSON."""
    value = record.value.lstrip()
    for magic, what in _MAGIC:
        if value.startswith(magic):
            return what
    if value[:2] in (b"\xff\xfe", b"\xfe\xff") or value[:64].count(0) > len(value[:64]) * 0.4:
        return "text in UTF-16 or UTF-32; write UTF-8"
    if record.registered:
        return "Avro or Protobuf of a schema registry; only JSON and OTLP are read: convert the topic"
    if "trailing characters" in error.detail and value[:1] == b"{" and _several(value):
        return "several JSON documents in one record; send one per record"
    if "codec can't decode" in error.detail:
        return "text that is not UTF-8"
    if value[:1].isalnum() and value[:_MOST_PREFIX].isascii():
        return "a line of plain text; only JSON is read: have the server log JSON, or parse the line first"
    return ""


def _several(value: bytes) -> bool:
    """Whether the value is JSON objects one after the other."""
    lines = [line.strip()[:1] for line in value.splitlines()[:4] if line.strip()]
    return (len(lines) > 1 and set(lines) == {b"{"}) or b"}{" in value


def _of_object(fields: dict[str, Any]) -> str:
    """Formats that hold no request events, or hold them where no codec looks."""
    if "resource_spans" in fields:
        return "OTLP JSON with the names of the .proto file; write lowerCamelCase (resourceSpans), as the protocol does"
    found = next(_events_inside(fields), None)
    if found is not None:
        path, codec, is_text, prefix = found
        if not is_text and path == "payload" and isinstance(fields.get("schema"), dict):
            return "a Kafka Connect envelope; send its `payload` (value.converter.schemas.enable = false)"
        if not is_text:
            return f"an envelope around {codec.title} (codec = {codec.name!r}); send what is in `{path}` alone"
        before = "; remove what stands before it" if prefix else ""
        return (
            f"an event that is text inside `{path}` ({codec.title}; a log collector wrapped it); parse `{path}` as "
            f"JSON first{before}"
        )
    for name in _LINES:
        line = fields.get(name)
        if isinstance(line, str) and line.lstrip()[:1] == "{":
            return f"an event that is text inside `{name}` (a log collector wrapped it); parse `{name}` as JSON first"
    if isinstance(fields.get("payload"), dict) and isinstance(fields.get("schema"), dict):
        return "a Kafka Connect envelope; send its `payload` (value.converter.schemas.enable = false)"
    if "resourceMetrics" in fields or "resourceLogs" in fields:
        return "OTLP metrics or logs; only traces hold requests"
    if str(fields.get("object", "")).endswith(".chunk"):
        return "one chunk of a streamed OpenAI answer; the request as a whole is needed"
    return ""


def _is_other_span(value: Any) -> bool:
    """Whether something is a span as Zipkin (v2), Jaeger and the SDKs' console exporters write it."""
    if not isinstance(value, dict):
        return False
    inner = value.get("context")
    named = {"traceId", "traceID"} & value.keys() or (isinstance(inner, dict) and "trace_id" in inner)
    return bool(named) and bool({"duration", "end_time", "localEndpoint", "operationName"} & value.keys())


def _events_inside(fields: dict[str, Any]) -> Iterator[tuple[str, Codec, bool, bool]]:
    """Where an object holds something that a codec recognises: its path, the codec, whether it is text, and whether
    other text stands before it. The nearest come first, and only so many values are looked at."""
    pending: list[tuple[str, Any, int]] = [("", fields, 0)]
    looked = 0
    while pending and looked < _MOST_VALUES:
        path, value, depth = pending.pop(0)
        looked += 1
        if depth and isinstance(value, dict) and (codec := _reader_of(value)):
            yield path, codec, False, False
        elif isinstance(value, str):
            begin = value.find("{", 0, _MOST_PREFIX)
            codec = _codec_of_text(value[begin:]) if begin >= 0 else None
            if codec is not None:
                yield path, codec, True, bool(value[:begin].strip())
        elif isinstance(value, dict | list) and depth < _MOST_DEPTH:
            inner = value.items() if isinstance(value, dict) else ((f"[{i}]", item) for i, item in enumerate(value[:2]))
            pending += [(_joined(path, str(name)), item, depth + 1) for name, item in inner]


def _codec_of_text(text: str) -> Codec | None:
    try:
        parsed = parsed_json(text.encode("utf-8", "replace"))
    except EventRejected:
        return None
    return _reader_of(parsed) if isinstance(parsed, dict) else None


def _reader_of(fields: dict[str, Any]) -> Codec | None:
    """The codec that recognises an object and can read it: usage within a log line has no times beside it."""
    record = RawRecord(msgspec.json.encode(fields))
    codec = _ANY.choose(record)
    try:
        return codec if codec is not None and codec.decode(record) else None
    except Exception:
        return None


def _joined(path: str, name: str) -> str:
    shown = name[:_MOST_NAME] if name.isprintable() else "?"
    return f"{path}{shown}" if shown.startswith("[") or not path else f"{path}.{shown}"
