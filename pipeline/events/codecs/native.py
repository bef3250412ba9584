"""The native codec: one bare JSON object per record, as ``schemas/request.v1.schema.json`` describes it.

Unknown fields are ignored, so emitters may add some. The five bytes that a schema registry's serialiser puts before the
JSON (a zero byte and a 4-byte schema id) are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.model import SCHEMA, RejectReason, RequestEvent

__all__ = ["COUNTED_FIELDS", "decode", "decode_many", "encode", "rejected"]

#: What windows are made of: an event that holds nothing else is decoded into a much smaller object.
COUNTED_FIELDS = (
    "event_id",
    "model",
    "pool",
    "arrived_at",
    "completed_at",
    "e2e_seconds",
    "ttft_seconds",
    "queue_seconds",
    "tpot_seconds",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "preemptions",
    "status",
    "schema",
)

_DECODER = msgspec.json.Decoder(RequestEvent)
_ENCODER = msgspec.json.Encoder()
_REGISTRY_HEADER_BYTES = 5


_Status = Literal["ok", "error", "cancelled", "rejected", "timeout"]


class _Usual(RequestEvent, gc=False, kw_only=True):
    """An event of the known schema and status: what it accepts, ``RequestEvent`` accepts with the same values.

    Both come as constants then, without a new string for each event.
    """

    status: _Status
    schema: Literal["tokentide.request.completed.v1"] = SCHEMA


#: Times as text are unusual too.
_NARROWED: dict[str, Any] = {
    "status": _Status,
    "schema": Literal["tokentide.request.completed.v1"],
    "arrived_at": float | None,
    "completed_at": float | None,
}
#: The counted fields of ``RequestEvent``; any other field fails, so what passes has all others at their defaults.
_Counted = msgspec.defstruct(
    "_Counted",
    [
        (field.name, _NARROWED.get(field.name, field.type), *([] if field.required else [field.default]))
        for field in msgspec.structs.fields(RequestEvent)
        if field.name in COUNTED_FIELDS
    ],
    kw_only=True,
    gc=False,
    forbid_unknown_fields=True,
)

_USUAL_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Usual)
_COUNTED_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Counted)


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


def decode_many(
    values: Sequence[bytes | None], *, all_fields: bool
) -> tuple[list[RequestEvent], list[tuple[int, EventRejected]]]:
    """Decode a batch as ``decode`` would each value; returns the events in order and (position, why) of the others.

    Without ``all_fields`` an event may be an object that has the ``COUNTED_FIELDS`` only. Each value is tried with a
    quick decoder, which refuses whatever is unusual; ``decode`` then says what it is.
    """
    events: list[Any] = []
    refused: list[tuple[int, EventRejected]] = []
    decoder: Any = _USUAL_DECODER if all_fields else _COUNTED_DECODER
    pending = iter(values)
    while True:
        try:
            events.extend(map(decoder.decode, pending))  # what was decoded before an exception stays in the list
            return events, refused
        except (TypeError, ValueError, RecursionError):
            position = len(events) + len(refused)
        try:
            events.append(decode(values[position]))
            decoder = _USUAL_DECODER  # the emitter sends more than is counted
        except EventRejected as error:
            refused.append((position, error))


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
