"""OTLP protobuf spans and their attributes: the bytes of a ``KeyValue`` to a name and a plain value.

Exporters repeat the same few attributes in every span, so what short ones say is remembered (a bounded number). Of one
that is not read only the name is looked at, and remembered: prompts and answers are neither decoded nor kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Any

from google.protobuf.message import DecodeError

from pipeline.events.codecs.base import epoch_nanoseconds
from pipeline.events.codecs.otlp_messages import KEY_VALUE
from pipeline.events.codecs.otlp_spans import SpanRecord
from pipeline.events.protobuf_columns import varint

__all__ = ["plain_attributes", "span_record"]

_REMEMBERED = 4_096
_MOST_REMEMBERED_BYTES = 128
_MOST_SHORT = 127  # bytes whose number is written in one byte
_KEY, _VALUE = 0x0A, 0x12  # fields of KeyValue
_STRING, _BOOL, _INT, _DOUBLE = 0x0A, 0x10, 0x18, 0x21  # fields of AnyValue
_DOUBLE_AT = Struct("<d").unpack_from


def plain_attributes(attributes: Iterable[bytes], wanted: frozenset[str]) -> dict[str, Any]:
    """Return the wanted attributes as plain values; of one that comes twice the last counts.

    Raises:
        DecodeError: a wanted attribute, or the name of any, is broken.
    """
    found: dict[str, Any] = {}
    read, unread = _keys_of(wanted)
    for raw in attributes:
        key = b""
        if len(raw) > 1 and raw[1] <= _MOST_SHORT:
            after = 2 + raw[1]
            key = raw[:after] if raw[0] == _KEY else raw[after:] if raw[0] == _VALUE else b""
            if key in unread:
                continue
        short = key in read and len(raw) <= _MOST_REMEMBERED_BYTES
        name, value = _remembered(raw, wanted) if short else _read(raw, wanted)
        if name not in wanted:
            if _is_key(key) and key not in read and len(unread) < _REMEMBERED:
                unread.add(key)
        elif value is not None:
            found[name] = value
    return found


@lru_cache(maxsize=8)
def _keys_of(wanted: frozenset[str]) -> tuple[frozenset[bytes], set[bytes]]:
    """The bytes of the keys that are wanted, and of those that were seen and are not."""
    names = [name.encode() for name in wanted]
    return frozenset(bytes((_KEY, len(name))) + name for name in names if len(name) <= _MOST_SHORT), set()


def _is_key(raw: bytes) -> bool:
    """Whether this is the key of an attribute, from end to end; where it lies so ``_read`` looks at no more than it."""
    return len(raw) > 1 and raw[0] == _KEY and raw[1] == len(raw) - 2 <= _MOST_SHORT


def span_record(span: Any, attributes: dict[str, Any], resource: dict[str, Any]) -> SpanRecord:
    """Return a parsed span with its wanted attributes, and those of its resource."""
    status = span.status if span.HasField("status") else None
    return SpanRecord(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        epoch_nanoseconds(span.start_time_unix_nano),
        epoch_nanoseconds(span.end_time_unix_nano),
        attributes,
        resource,
        _first_token(span.events),
        0 if status is None else status.code,
        "" if status is None else status.message,
    )


def _first_token(events: Any) -> float | None:
    return next((epoch_nanoseconds(event.time_unix_nano) for event in events if "first_token" in event.name), None)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(raw: bytes, wanted: frozenset[str]) -> tuple[str, Any]:
    return _read(raw, wanted)


def _read(raw: bytes, wanted: frozenset[str]) -> tuple[str, Any]:
    """The name and the plain value of one attribute; None: it has none, or the attribute is not wanted.

    Key and value come in either order: SDKs write the key first, the collector the value.
    """
    try:
        # Lengths of keys below 128 are one byte; all else, and what ends somewhere else than it says, is for the full
        # parser.
        if raw[0] == _KEY and raw[1] < 128:
            after = 2 + raw[1]
            name, value = raw[2:after].decode(), None
            if name in wanted and raw[after] == _VALUE and raw[after + 1] == len(raw) - after - 2 < 128:
                value = raw[after + 2 :]
        elif raw[0] == _VALUE and (found := _behind_the_value(raw)) is not None:
            start, after = found
            name, value = raw[after + 2 :].decode(), raw[start:after]
        else:
            return _parsed(raw)
        if name not in wanted:
            return name, None
        plain = _short(value) if value else None
        return _parsed(raw) if plain is None else (name, plain)
    except IndexError:
        return _parsed(raw)
    except UnicodeDecodeError as error:
        raise DecodeError("an attribute is not UTF-8") from error


def _behind_the_value(raw: bytes) -> tuple[int, int] | None:
    """Where the value begins, and the key behind it that is all the rest; None: it is not so."""
    length, start = varint(raw, 1)
    after = start + length
    if start < 0 or after + 1 >= len(raw) or raw[after] != _KEY or raw[after + 1] != len(raw) - after - 2:
        return None
    return (start, after) if raw[after + 1] < 128 else None


def _short(value: bytes) -> Any:
    """The plain value of an ``AnyValue`` of few bytes; None: it is none of those."""
    kind = value[0]
    if kind == _STRING and value[1] == len(value) - 2 < 128:
        return value[2:].decode()
    if kind == _BOOL and len(value) == 2 and value[1] < 2:
        return value[1] == 1
    if kind == _INT:
        return _small(value, 1)
    return _DOUBLE_AT(value, 1)[0] if kind == _DOUBLE and len(value) == 9 else None


def _small(raw: bytes, at: int) -> int | None:
    """The one number of at most four bytes that is all there is from a position to the end; None: it is no such one."""
    last = len(raw) - 1
    if not at <= last < at + 4 or raw[last] >= 0x80:
        return None
    number = 0
    for shift, byte in enumerate(raw[at:]):
        if byte < 0x80 and at + shift != last:
            return None
        number |= (byte & 0x7F) << (7 * shift)
    return number


def _parsed(raw: bytes) -> tuple[str, Any]:
    attribute = KEY_VALUE.FromString(raw)
    kind = attribute.value.WhichOneof("value")
    if kind == "array_value":
        return attribute.key, [inner.string_value for inner in attribute.value.array_value.values[:4]]
    return attribute.key, None if kind is None else getattr(attribute.value, kind)
