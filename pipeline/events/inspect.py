"""What the pipeline makes of one record, in full and in words: for ``tokentide events`` and for tests of codecs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.auto import AutoCodec
from pipeline.events.codecs.base import Codec, Decoded, Headers, RawRecord
from pipeline.events.codecs.hints import described
from pipeline.events.codecs.reading import decode_one
from pipeline.events.convert import TOKENS, convert
from pipeline.events.request_event import RejectReason, RequestEvent
from pipeline.events.validation import EventLimits, reference_seconds, settle

__all__ = ["Inspected", "inspect_record"]

Verdict = Literal["accepted", "refused", "ignored"]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What became of one record.

    ``events`` have all their known fields, times in epoch seconds. ``unknown`` names fields whose values were unusable,
    and token counts that are unknown, over all events. A record of which only a part was refused is accepted;
    ``reason`` and ``detail`` then tell of the first part that was refused.
    """

    verdict: Verdict
    codec: str | None
    events: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    reason: str | None = None
    detail: str | None = None


def inspect_record(
    value: bytes | None,
    codec: Codec,
    limits: EventLimits,
    now: float,
    timestamp_ms: int = -1,
    headers: Headers = (),
) -> Inspected:
    """Return what the pipeline makes of one record; the same as ``decode_batch`` does in bulk.

    Args:
        value: the record's value.
        codec: what reads it; ``auto`` for any.
        limits: what is believed.
        now: epoch seconds; judges records without a timestamp.
        timestamp_ms: the record's own timestamp, epoch milliseconds (negative: none).
        headers: the record's headers.
    """
    name: str | None = None if isinstance(codec, AutoCodec) else codec.name
    if value is not None and len(value) > limits.max_bytes:
        return _refused(
            name, RejectReason.TOO_LARGE, f"{len(value)} bytes, more than {limits.max_bytes} (stream.max_event_bytes)"
        )
    try:
        record = RawRecord(value, headers)
        if isinstance(codec, AutoCodec):
            chosen = codec.choose(record)
            name = chosen.name if chosen is not None else None
        decoded = decode_one(codec, record)
    except EventRejected as error:
        return _refused(name, error.reason, error.detail)
    name = decoded.codec or name
    found, unknown, refusals = _events(decoded, reference_seconds(timestamp_ms, now), limits)
    if not found and refusals:
        first = described(refusals[0], record, name or codec.name)
        return _refused(name, first.reason, first.detail)
    if not found:
        return Inspected("ignored", name, detail=f"no request in it ({decoded.ignored_parts or 1} other parts)")
    refused = refusals[0] if refusals else None
    return Inspected(
        "accepted",
        name,
        [_normalised(event) for event in found],
        unknown,
        str(refused.reason) if refused else None,
        f"{len(refusals)} of {len(decoded.events)} events refused: {refused.detail}" if refused else None,
    )


def _refused(codec: str | None, reason: str, detail: str) -> Inspected:
    return Inspected("refused", codec, reason=str(reason), detail=detail)


def _events(
    decoded: Decoded, reference: float, limits: EventLimits
) -> tuple[list[RequestEvent], list[str], list[EventRejected]]:
    events: list[RequestEvent] = []
    unknown: dict[str, None] = {}
    refusals: list[EventRejected] = []
    for fields in decoded.events:
        try:
            event, unusable = convert(fields)
            event, contradicting = settle(event, reference, limits)
        except EventRejected as error:
            refusals.append(error)
            continue
        events.append(event)
        missing = tuple(name for name in TOKENS if getattr(event, name) is None)
        unknown |= dict.fromkeys((*unusable, *contradicting, *missing))
    return events, sorted(unknown), refusals


def _normalised(event: RequestEvent) -> dict[str, Any]:
    """The event's fields that are known, and always those that every event has."""
    fields = msgspec.structs.asdict(event)
    kept = {"input_tokens", "output_tokens", "pool", "ttft_seconds"}
    return {name: value for name, value in fields.items() if name in kept or value is not None}
