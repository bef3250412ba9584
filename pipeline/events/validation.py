"""The rules that make a decoded event believable: one place, for every codec and for the batch path.

Whether a record is accepted is a function of the record (value and timestamp), not of when it is read, so that a second
reading decides alike. The one exception is a record whose own timestamp lies in the future.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import EventRejected
from pipeline.events.convert import Converted, convert
from pipeline.events.request_event import MAX_LATENCY_SECONDS, STATUSES, RejectReason, RequestEvent
from pipeline.events.units import looks_like, looks_too_small, of_the_same

__all__ = [
    "CLOCK_TOLERANCE_SECONDS",
    "LATENCY_TOLERANCE",
    "LATENCY_TOLERANCE_SECONDS",
    "EventLimits",
    "check",
    "impossible_timestamps",
    "parse_time",
    "reference_seconds",
    "reference_times",
    "settle",
]

#: An event may complete this long before it arrived: two hosts stamped it. It then took no time at all.
CLOCK_TOLERANCE_SECONDS = 0.5
#: How far ``e2e_seconds`` may be from completion minus arrival: the greater of seconds and a share of itself.
LATENCY_TOLERANCE_SECONDS = 2.0
LATENCY_TOLERANCE = 0.1
#: Kafka's timestamps are epoch milliseconds; one before 2001-09-09 was written in seconds, one after the year 5138 in
#: microseconds or finer: they say nothing.
LEAST_TIMESTAMP_MS = 1_000_000_000_000
MOST_TIMESTAMP_MS = 100_000_000_000_000

#: Fields whose text names what is counted; it is shown, stored and compared as it came. Control characters, line
#: separators and those that turn the direction of writing are refused; letters of every script pass.
KEPT_TEXT = ("event_id", "model", "pool")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

#: Parts of a request's time; none can be longer than the whole.
_PARTS = ("ttft_seconds", "queue_seconds", "prefill_seconds", "decode_seconds")
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?")


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What is believed: record size in bytes, event age and lead in seconds against the reference time."""

    max_bytes: int = 1_048_576
    max_age_seconds: float = 7 * 86_400.0
    max_ahead_seconds: float = 60.0


def reference_seconds(timestamp_ms: int, now: float) -> float:
    """Return the time that a record's event is judged against: its timestamp (epoch ms), at most now.

    A timestamp that cannot be milliseconds (none is written as −1; one in seconds lies in 1970, one in microseconds in
    the year 58,000) is ignored.

    >>> now = 1_800_000_000.0
    >>> reference_seconds(1_700_000_000_000, now), reference_seconds(1_900_000_000_000, now)
    (1700000000.0, 1800000000.0)
    >>> reference_seconds(1_700_000_000, now), reference_seconds(-1, now)
    (1800000000.0, 1800000000.0)
    """
    return min(timestamp_ms / 1000.0, now) if LEAST_TIMESTAMP_MS <= timestamp_ms < MOST_TIMESTAMP_MS else now


def reference_times(timestamps_ms: ArrayLike, now: float) -> NDArray[np.float64]:
    """Return ``reference_seconds`` of each of many timestamps."""
    stamps = np.asarray(timestamps_ms, np.int64)
    possible = (stamps >= LEAST_TIMESTAMP_MS) & (stamps < MOST_TIMESTAMP_MS)
    return np.where(possible, np.minimum(stamps / 1000.0, now), now)


def impossible_timestamps(timestamps_ms: ArrayLike) -> int:
    """Return how many timestamps are there (not negative) and cannot be milliseconds."""
    stamps = np.asarray(timestamps_ms, np.int64)
    return int(np.count_nonzero((stamps >= 0) & ((stamps < LEAST_TIMESTAMP_MS) | (stamps >= MOST_TIMESTAMP_MS))))


def parse_time(value: float | str | None) -> float | None:
    """Return epoch seconds of an epoch number (also as text) or an RFC 3339 text with an offset; None stays None.

    Raises:
        ValueError: a text that is neither.

    >>> parse_time("2026-01-01T00:00:00Z"), parse_time("2026-01-01t00:00:00z"), parse_time("1767225600.5")
    (1767225600.0, 1767225600.0, 1767225600.5)
    """
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return float(value)
        parsed = datetime.fromisoformat(value.upper() if value.isascii() else value)
        if parsed.tzinfo is None:
            raise ValueError("no offset from UTC; add Z")
        return parsed.timestamp()
    return value


def check(event: RequestEvent, reference: float, limits: EventLimits) -> Converted:
    """Check a built event in full: the bounds of its fields, then ``settle``.

    ``reference`` comes from ``reference_seconds``.

    Raises:
        EventRejected: with the first rule that the event breaks.
    """
    converted, unusable = convert(msgspec.structs.asdict(event))
    settled, contradicting = settle(converted, reference, limits)
    return Converted(settled, unusable + contradicting)


def settle(event: RequestEvent, reference: float, limits: EventLimits) -> Converted:
    """Apply the rules across fields to an event within the bounds of its type.

    Returns:
        The event with ``arrived_at``, ``completed_at`` (epoch seconds) and ``e2e_seconds`` all known, without values
        that contradict sound ones; their names are in ``unknown``.

    Raises:
        EventRejected: with the first rule that the event breaks.
    """
    if event.status not in STATUSES:
        raise EventRejected(
            RejectReason.UNKNOWN_STATUS, f"status is {event.status[:32]!r}; expected one of {', '.join(STATUSES)}"
        )
    for name in KEPT_TEXT:
        _check_text(name, getattr(event, name))
    arrived, completed, e2e = _times(event)
    if arrived - CLOCK_TOLERANCE_SECONDS <= completed < arrived:
        completed, e2e = arrived, 0.0
    if completed < arrived:
        unit = looks_like(arrived) or looks_too_small(completed)
        raise EventRejected(RejectReason.INCONSISTENT, f"completed {arrived - completed:.3f} s before it arrived{unit}")
    newest, limit = max(arrived, completed), reference + limits.max_ahead_seconds
    if newest > limit:
        raise EventRejected(
            RejectReason.FROM_FUTURE,
            f"{newest - reference:.0f} s ahead of the record's time{_suspected_unit(event, arrived, completed, limit)}",
        )
    if arrived < reference - limits.max_age_seconds:
        raise EventRejected(
            RejectReason.TOO_OLD,
            f"arrived {reference - arrived:.0f} s before the record's time{looks_too_small(arrived)}",
        )
    if arrived < 0.0:
        raise EventRejected(RejectReason.IMPLAUSIBLE, "arrived before 1970")
    if completed - arrived > MAX_LATENCY_SECONDS:
        raise EventRejected(RejectReason.IMPLAUSIBLE, f"took {completed - arrived:.0f} s")
    if abs(completed - arrived - e2e) > max(LATENCY_TOLERANCE_SECONDS, LATENCY_TOLERANCE * e2e):
        raise EventRejected(
            RejectReason.INCONSISTENT,
            f"e2e_seconds is {e2e:g}, but {completed - arrived:.3f} s lie between arrived_at and completed_at"
            + of_the_same(e2e, completed - arrived),
        )
    changes: dict[str, float | int | None] = {name: None for name in _PARTS if (getattr(event, name) or 0.0) > e2e}
    if _tpot_too_long(event, e2e):
        changes["tpot_seconds"] = None
    changes |= _token_contradictions(event)
    unknown = tuple(changes)
    changes |= {"arrived_at": arrived, "completed_at": completed, "e2e_seconds": e2e}
    return Converted(msgspec.structs.replace(event, **changes), unknown)


def _suspected_unit(event: RequestEvent, arrived: float, completed: float, limit: float) -> str:
    """Which number of an event from the future was probably written in another unit; empty: none."""
    if event.completed_at is None and event.arrived_at is not None and arrived <= limit:
        e2e = event.e2e_seconds or 0.0
        return f"; e2e_seconds {e2e:.15g} looks like milliseconds" if e2e >= 100.0 else ""
    return looks_like(arrived if event.arrived_at is not None and arrived > limit else completed)


def _check_text(name: str, text: str) -> None:
    unsafe = _UNSAFE.search(text)
    if unsafe:
        raise EventRejected(
            RejectReason.IMPLAUSIBLE, f"{name} has the character U+{ord(unsafe[0]):04X} at position {unsafe.start()}"
        )


def _tpot_too_long(event: RequestEvent, e2e: float) -> bool:
    """Whether the time per output token, over all tokens after the first, is more than the whole request took."""
    tpot = event.tpot_seconds
    return tpot is not None and tpot * max((event.output_tokens or 0) - 1, 1) > e2e * (1.0 + LATENCY_TOLERANCE) + 0.01


def _token_contradictions(event: RequestEvent) -> dict[str, None]:
    """Parts of token counts that their whole does not allow, as unknown; cached input beyond the input is refused."""
    unknown: dict[str, None] = {}
    cached, tokens = event.cached_input_tokens, event.input_tokens
    if cached is not None and tokens is None:
        unknown["cached_input_tokens"] = None
    elif cached is not None and tokens is not None and cached > tokens:
        raise EventRejected(
            RejectReason.INCONSISTENT,
            f"cached_input_tokens {cached} exceed input_tokens {tokens}, which have to include them",
        )
    reasoning, output = event.reasoning_output_tokens, event.output_tokens
    if reasoning is not None and reasoning > (-1 if output is None else output):
        unknown["reasoning_output_tokens"] = None
    return unknown


def _times(event: RequestEvent) -> tuple[float, float, float]:
    """Arrival, completion and latency; any two give the third."""
    times: list[float | None] = []
    for name in ("arrived_at", "completed_at"):
        value = getattr(event, name)
        try:
            seconds = parse_time(value)
        except (ValueError, OverflowError) as error:
            why = str(error) if "offset" in str(error) else "expected epoch seconds or an RFC 3339 time"
            raise EventRejected(RejectReason.MALFORMED, f"{name} is {str(value)[:48]!r}: {why}") from error
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
        given = [n for n in ("arrived_at", "completed_at", "e2e_seconds") if getattr(event, n) is not None]
        raise EventRejected(
            RejectReason.MISSING_FIELD,
            "two of arrived_at, completed_at and e2e_seconds are needed to place the event; it has "
            + (given[0] if given else "none"),
        )
    return arrived, completed, completed - arrived if e2e is None else e2e
