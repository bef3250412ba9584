"""The rules that make a decoded event believable: one place, for every codec and for the batch path.

Whether a record is accepted is a function of the record (value and timestamp), not of when it is read, so that a second
reading decides alike. The one exception is a record whose own timestamp lies in the future.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.native import rejected
from pipeline.events.model import MAX_LATENCY_SECONDS, STATUSES, RejectReason, RequestEvent

__all__ = ["EventLimits", "check", "check_relations", "parse_time", "reference_seconds"]

#: Fields whose text names what is counted; it is shown, stored and compared as it came.
KEPT_TEXT = ("event_id", "model", "pool")

_FLOATS = ("e2e_seconds", "ttft_seconds", "queue_seconds", "prefill_seconds", "decode_seconds", "tpot_seconds")


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What is believed: record size in bytes, event age and lead in seconds against the reference time."""

    max_bytes: int = 1_048_576
    max_age_seconds: float = 7 * 86_400.0
    max_ahead_seconds: float = 60.0


def reference_seconds(timestamp_ms: int, now: float) -> float:
    """Return the time that a record's event is judged against: its timestamp (epoch ms; negative: none), at most now.

    >>> reference_seconds(5_000, now=60.0), reference_seconds(90_000, now=60.0), reference_seconds(-1, now=60.0)
    (5.0, 60.0, 60.0)
    """
    return min(timestamp_ms / 1000.0, now) if timestamp_ms >= 0 else now


def parse_time(value: float | str | None) -> float | None:
    """Return epoch seconds of an epoch number or an RFC 3339 text (with an offset); None stays None.

    Raises:
        ValueError: a text that is neither.

    >>> parse_time("2026-01-01T00:00:00Z")
    1767225600.0
    """
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None:
            raise ValueError("no offset from UTC")
        return parsed.timestamp()
    return value


def check(event: RequestEvent, reference: float, limits: EventLimits) -> tuple[float, float]:
    """Check a decoded or built event in full; return (arrived_at, completed_at) in epoch seconds.

    ``reference`` comes from ``reference_seconds``.

    Raises:
        EventRejected: with the first rule that the event breaks.
    """
    for name in _FLOATS:
        value = getattr(event, name)
        if value is not None and not math.isfinite(value):
            raise EventRejected(RejectReason.NOT_FINITE, f"{name} is {value}")
    try:
        msgspec.convert(msgspec.structs.asdict(event), RequestEvent)  # the bounds that the type itself states
    except msgspec.ValidationError as error:
        raise rejected(error) from error
    return check_relations(event, reference, limits)


def check_relations(event: RequestEvent, reference: float, limits: EventLimits) -> tuple[float, float]:
    """Check what the bounds of single fields cannot say; return (arrived_at, completed_at) in epoch seconds.

    Raises:
        EventRejected: with the first rule that the event breaks.
    """
    if event.status not in STATUSES:
        raise EventRejected(RejectReason.UNKNOWN_STATUS, f"status is {event.status[:32]!r}")
    for name in KEPT_TEXT:
        if not getattr(event, name).isprintable():
            raise EventRejected(RejectReason.IMPLAUSIBLE, f"{name} holds characters that cannot be printed")
    cached = event.cached_input_tokens
    if cached is not None and cached > event.input_tokens:
        raise EventRejected(
            RejectReason.INCONSISTENT, f"cached_input_tokens {cached} exceed input_tokens {event.input_tokens}"
        )
    arrived, completed = _times(event)
    if completed < arrived:
        raise EventRejected(RejectReason.INCONSISTENT, f"completed {arrived - completed:.3f} s before it arrived")
    if max(arrived, completed) > reference + limits.max_ahead_seconds:
        raise EventRejected(
            RejectReason.FROM_FUTURE, f"{max(arrived, completed) - reference:.0f} s ahead of the record's time"
        )
    if arrived < reference - limits.max_age_seconds:
        raise EventRejected(RejectReason.TOO_OLD, f"arrived {reference - arrived:.0f} s before the record's time")
    if arrived < 0.0:
        raise EventRejected(RejectReason.IMPLAUSIBLE, "arrived before 1970")
    if completed - arrived > MAX_LATENCY_SECONDS:
        raise EventRejected(RejectReason.IMPLAUSIBLE, f"took {completed - arrived:.0f} s")
    return arrived, completed


def _times(event: RequestEvent) -> tuple[float, float]:
    times: list[float | None] = []
    for name in ("arrived_at", "completed_at"):
        value = getattr(event, name)
        try:
            seconds = parse_time(value)
        except (ValueError, OverflowError) as error:
            raise EventRejected(RejectReason.MALFORMED, f"{name} {str(value)[:48]!r} is no RFC 3339 time") from error
        if seconds is not None and not math.isfinite(seconds):
            raise EventRejected(RejectReason.NOT_FINITE, f"{name} is {seconds}")
        times.append(seconds)
    arrived, completed = times
    e2e = event.e2e_seconds
    if arrived is None and completed is not None and e2e is not None:
        arrived = completed - e2e
    elif completed is None and arrived is not None and e2e is not None:
        completed = arrived + e2e
    if arrived is None or completed is None:
        raise EventRejected(
            RejectReason.MISSING_FIELD, "two of arrived_at, completed_at and e2e_seconds are needed to place the event"
        )
    return arrived, completed
