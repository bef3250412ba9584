"""Tokentide's own event: one JSON object per record, as ``schemas/request.v1.schema.json`` describes it.

Bare, or in a CloudEvents envelope: structured (the event is in ``data``) or binary (attributes in ``ce_`` headers).
Unknown fields are ignored, so emitters may add some. The five bytes that a schema registry's serialiser puts before the
JSON (a zero byte and a 4-byte schema id) are skipped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, Headers, RawRecord, parsed_json
from pipeline.events.convert import Converted, convert
from pipeline.events.request_event import SCHEMA, RejectReason, RequestEvent

__all__ = ["COUNTED_FIELDS", "DecodedMany", "NativeCodec", "decode", "decode_many", "encode", "strict"]

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
    "attempt",
    "server_id",
    "status",
    "schema",
)

_DECODER = msgspec.json.Decoder(RequestEvent)
_ENCODER = msgspec.json.Encoder()

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


class NativeCodec:
    """The native event as a ``Codec``; the batch path reads it by ``decode_many`` and in columns instead."""

    name = "native"
    title = "Tokentide request event"

    def recognises(self, record: RawRecord) -> bool:
        """Whether a record, or the data of its CloudEvents envelope, names the schema or has several of the names of a
        native event."""
        if not record.is_object():
            return False
        fields = record.object()
        if "object" in fields:  # an OpenAI answer, which has a model, a status and times as well
            return fields.get("schema") == SCHEMA
        if "specversion" in fields:
            if str(fields.get("type", "")).startswith("tokentide."):
                return True
            try:
                fields = _unwrapped(fields, ())
            except EventRejected:
                return False
        return fields.get("schema") == SCHEMA or (
            len(_OWN_NAMES.intersection(fields)) >= _ENOUGH_NAMES and not isinstance(fields.get("usage"), dict)
        )

    def decode(self, record: RawRecord) -> Decoded:
        """Return the one event of a record as fields.

        Raises:
            EventRejected: it is not a JSON object.
        """
        fields = _unwrapped(record.object(), record.headers)
        return Decoded(({name: value for name, value in fields.items() if name in _NAMES},))


_NAMES = frozenset(RequestEvent.__struct_fields__)
#: Names by which a native event is recognised, also one that lacks some of them.
_OWN_NAMES = frozenset(
    ("event_id", "model", "status", "arrived_at", "completed_at", "e2e_seconds", "input_tokens", "output_tokens")
)
_ENOUGH_NAMES = 3


def decode(value: bytes | None, headers: Headers = ()) -> Converted:
    """Return the event in one record's value; field bounds are enforced, rules across fields are not (see ``check``).

    Raises:
        EventRejected: the bytes are not such an event; ``reason`` says which kind of fault it is.
    """
    record = RawRecord(value, headers)
    try:
        event = _DECODER.decode(record.value)
    except msgspec.ValidationError:
        return convert(_unwrapped(record.object(), headers))
    except RecursionError as error:
        raise EventRejected(RejectReason.MALFORMED, "nested too deeply") from error
    except ValueError:  # msgspec.DecodeError and UnicodeDecodeError
        return convert(_unwrapped(record.object(), headers))
    if event.schema != SCHEMA:
        raise EventRejected(RejectReason.UNKNOWN_SCHEMA, f"schema is {event.schema[:64]!r}, not {SCHEMA!r}")
    return Converted(event, ())


def strict(value: bytes) -> RequestEvent | None:
    """Return the event in one bare record without any conversion; None: the record is no such event as it stands."""
    try:
        event = _DECODER.decode(value)
    except (ValueError, RecursionError):
        return None
    return event if event.schema == SCHEMA else None


class DecodedMany(NamedTuple):
    """Events in order, (position, why) of records that hold none, (position, field) of values that were unusable."""

    events: list[Any]
    refused: list[tuple[int, EventRejected]]
    unknown: list[tuple[int, str]]


def decode_many(
    values: Sequence[bytes | None], *, all_fields: bool, headers: Mapping[int, Headers] | None = None
) -> DecodedMany:
    """Decode a batch as ``decode`` would each value.

    Without ``all_fields`` an event may be an object that has the ``COUNTED_FIELDS`` only. Each value is tried with a
    quick decoder, which refuses whatever is unusual; ``decode`` then says what it is.
    """
    events: list[Any] = []
    refused: list[tuple[int, EventRejected]] = []
    unknown: list[tuple[int, str]] = []
    decoder: Any = _USUAL_DECODER if all_fields else _COUNTED_DECODER
    pending = iter(values)
    while True:
        try:
            events.extend(map(decoder.decode, pending))  # what was decoded before an exception stays in the list
            return DecodedMany(events, refused, unknown)
        except (TypeError, ValueError, RecursionError):
            position = len(events) + len(refused)
        try:
            converted = decode(values[position], headers.get(position, ()) if headers else ())
        except EventRejected as error:
            refused.append((position, error))
        else:
            events.append(converted.event)
            unknown += [(position, name) for name in converted.unknown]
            decoder = _USUAL_DECODER  # the emitter sends more than is counted


def encode(event: RequestEvent) -> bytes:
    """Return the event as one JSON object; fields at their defaults are left out, ``schema`` is always there."""
    return b'{"schema":"' + SCHEMA.encode() + b'",' + _ENCODER.encode(event)[1:]


def _unwrapped(fields: dict[str, Any], headers: Headers) -> dict[str, Any]:
    """The event's own fields: out of a CloudEvents envelope, with its ``id`` for an event that has none.

    https://github.com/cloudevents/spec, kafka-protocol-binding.md 1.0.2, sections 3.2 and 3.3.
    """
    name = next((value for key, value in headers if key == "ce_id" and value), None)
    identity = name.decode("utf-8", "replace") if name else None
    if "specversion" in fields and "event_id" not in fields:
        identity = fields.get("id")
        data = fields.get("data")
        if data is None and isinstance(fields.get("data_base64"), str):
            try:
                data = parsed_json(base64.b64decode(fields["data_base64"], validate=True))
            except binascii.Error as error:
                raise EventRejected(RejectReason.MALFORMED, "data_base64 of the CloudEvent is not base64") from error
        if not isinstance(data, dict):
            raise EventRejected(RejectReason.MISSING_FIELD, "a CloudEvent without a JSON object in `data`")
        fields = data
    if identity and fields.get("event_id") is None:
        fields = fields | {"event_id": identity}
    return fields
