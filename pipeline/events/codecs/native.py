"""The native codec: one bare JSON object per record, as ``schemas/request.v1.schema.json`` describes it.

Unknown fields are ignored, so emitters may add some. The five bytes that a schema registry's serialiser puts before the
JSON (a zero byte and a 4-byte schema id) are skipped.
"""

from __future__ import annotations

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.model import SCHEMA, RejectReason, RequestEvent

__all__ = ["decode", "encode", "rejected"]

_DECODER = msgspec.json.Decoder(RequestEvent)
_ENCODER = msgspec.json.Encoder()
_REGISTRY_HEADER_BYTES = 5


class _SchemaOnly(msgspec.Struct, gc=False):
    schema: str = SCHEMA


_SCHEMA_DECODER = msgspec.json.Decoder(_SchemaOnly)


def decode(value: bytes | None) -> RequestEvent:
    """Return the event in one record's value; field bounds are enforced, rules across fields are not (see ``check``).

    Raises:
        EventRejected: the bytes are not such an event; ``reason`` says which kind of fault it is.
    """
    if not value:
        raise EventRejected(RejectReason.EMPTY, "the record has no value")
    if value[0] == 0:
        value = value[_REGISTRY_HEADER_BYTES:]
    try:
        event = _DECODER.decode(value)
    except msgspec.ValidationError as error:
        _raise_if_foreign(value)
        raise rejected(error) from error
    except RecursionError as error:
        raise EventRejected(RejectReason.MALFORMED, "nested too deeply") from error
    except ValueError as error:  # msgspec.DecodeError and UnicodeDecodeError
        raise EventRejected(RejectReason.MALFORMED, str(error)[:200]) from error
    if event.schema != SCHEMA:
        raise EventRejected(RejectReason.UNKNOWN_SCHEMA, f"schema is {event.schema[:64]!r}, not {SCHEMA!r}")
    return event


def encode(event: RequestEvent) -> bytes:
    """Return the event as one JSON object; fields at their defaults are left out, ``schema`` is always there."""
    return b'{"schema":"' + SCHEMA.encode() + b'",' + _ENCODER.encode(event)[1:]


def rejected(error: msgspec.ValidationError) -> EventRejected:
    """Turn msgspec's word on a field into the reason for a dead letter."""
    text = str(error)
    if "missing required field" in text or "length >= 1" in text:
        reason = RejectReason.MISSING_FIELD
    elif ">= 0" in text:
        reason = RejectReason.NEGATIVE
    elif "Number out of range" in text:
        reason = RejectReason.NOT_FINITE
    elif "<=" in text or "Integer value out of range" in text:
        reason = RejectReason.IMPLAUSIBLE
    else:
        reason = RejectReason.WRONG_TYPE
    return EventRejected(reason, text[:200])


def _raise_if_foreign(value: bytes) -> None:
    """Another schema explains a missing or odd field better than the field itself does."""
    try:
        schema = _SCHEMA_DECODER.decode(value).schema
    except (ValueError, RecursionError):
        return
    if schema != SCHEMA:
        raise EventRejected(RejectReason.UNKNOWN_SCHEMA, f"schema is {schema[:64]!r}, not {SCHEMA!r}")
