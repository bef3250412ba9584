"""Deltas on the wire, and the rule by which a log of deltas means one state whoever wrote it.

The state of a source partition is a position. A delta is applied if and only if it begins at the position; one that
begins below it repeats something and is dropped whole, one that begins above it leaves a gap and is refused. So two
aggregators that believe they own a partition cannot count an event twice: whichever record comes first in the log of
deltas wins, and every reader of that log agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from pipeline.errors import CodecError
from pipeline.windows import histogram
from pipeline.windows.bridged import is_bridged
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, MEASURES, Delta

__all__ = [
    "SCHEMA",
    "Verdict",
    "applies",
    "covered_position",
    "decode",
    "encode",
    "first_needed",
    "validate",
    "validate_outline",
]

SCHEMA = "tokentide.window-delta.v2"
#: What aggregators before v2 wrote: the same, but without what v2 counts besides, and without the newest measures.
SCHEMA_V1 = "tokentide.window-delta.v1"
_MEASURES_V1 = 17

Verdict = Literal["apply", "drop", "gap"]

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Delta)
_MAX_COUNT = (1 << 63) - 1
_MAX_RECORDS = 100_000_000  # per delta; far above any batch, also of records with several events each
_MAX_SECONDS = 1e11  # about the year 5138
_MAX_TEXT = 4_096
_MAX_NAMES = 1_024
_MAX_KEY_TEXT = 65_536  # a dozen dimensions of 256 characters, each written as up to 8
_COUNTER_LIMITS = (_MAX_RECORDS, _MAX_RECORDS, _MAX_RECORDS, _MAX_COUNT)


def encode(delta: Delta) -> bytes:
    """Return the delta as JSON (``schemas/window-delta.v2.schema.json``)."""
    return _ENCODER.encode(delta)


def decode(value: bytes | None) -> Delta:
    """Return the delta in one record of the delta topic, of version 1 or 2, as version 2 and validated in full.

    Raises:
        CodecError: these bytes are no delta that can be applied safely.
    """
    if not value:
        raise CodecError("a delta record without a value")
    try:
        delta = _DECODER.decode(value)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not a delta: {str(error)[:200]}") from error
    if delta.schema == SCHEMA_V1:
        _upgrade(delta)
    validate(delta)
    return delta


def _upgrade(delta: Delta) -> None:
    """Make version 2 of version 1, in which every record gave one event or a dead letter and all tokens were known."""
    delta.schema = SCHEMA
    delta.event_records = delta.events + delta.duplicates
    delta.latency_statuses = "all"
    if len(delta.rows.measures) == _MEASURES_V1:
        delta.rows.measures += [[0] * len(delta.rows.window) for _ in MEASURES[_MEASURES_V1:]]


def validate(delta: Delta) -> None:
    """Check everything that applying a delta relies on.

    Raises:
        CodecError: it names the first thing that does not hold.
    """
    _require(delta, (*_outline(delta), *_contents(delta)))


def validate_outline(delta: Delta) -> None:
    """Check what input from outside decides (texts, times, offsets, counters): a fraction of the cost of ``validate``.

    Raises:
        CodecError: it names the first thing that does not hold.
    """
    _require(delta, _outline(delta))


#: Whether something holds, and what it is.
_Checks = tuple[tuple[bool, str], ...]


def _require(delta: Delta, checks: _Checks) -> None:
    for holds, what in checks:
        if not holds:
            raise CodecError(f"delta of {delta.topic[:64]}[{delta.partition}]: {what}")


def _outline(delta: Delta) -> _Checks:
    rows = delta.rows
    counters = (delta.records, delta.events, delta.duplicates, delta.lost)
    others = (delta.event_records, delta.ignored, delta.ignored_parts, delta.reused_ids)
    named = (delta.refused_parts, delta.unknown, delta.codecs)
    return (
        (delta.schema == SCHEMA, f"schema {delta.schema[:64]!r}"),
        (delta.base_seconds == BASE_SECONDS, f"base windows of {delta.base_seconds} s"),
        (0 <= delta.partition < 1 << 31 and 0 < len(delta.topic) <= _MAX_TEXT, "topic or partition"),
        (0 <= delta.from_offset <= delta.through_offset + 1 <= _MAX_COUNT, "offset range"),
        (-1 <= delta.base_delta_offset <= _MAX_COUNT, "base_delta_offset"),
        (
            all(0 <= count <= limit for count, limit in zip(counters, _COUNTER_LIMITS, strict=True)),
            "a counter is negative or too large",
        ),
        (all(0 <= count <= _MAX_RECORDS for count in others), "a counter is negative or too large"),
        (
            all(len(counts) <= _MAX_NAMES and all(_is_text(name) for name in counts) for counts in named)
            and all(0 <= count <= _MAX_RECORDS for counts in named for count in counts.values()),
            "a counter by name",
        ),
        (
            delta.records == delta.ignored + len(delta.dead_letters) + delta.event_records,
            "the counters do not balance",
        ),
        (delta.records + delta.lost <= delta.through_offset + 1 - delta.from_offset, "more records than offsets"),
        (all(0 <= w <= _MAX_SECONDS and w % BASE_SECONDS == 0 for w in set(rows.window)), "a window off the grid"),
        (_within(rows.max_completed_ms, 0, int(_MAX_SECONDS * 1000)), "max_completed_ms"),
        (delta.max_event_at is None or 0.0 <= delta.max_event_at <= _MAX_SECONDS, "max_event_at"),
        (
            len(delta.clock_offsets) <= _MAX_NAMES
            and all(_is_text(name) and abs(n) <= _MAX_SECONDS for name, n in delta.clock_offsets.items()),
            "clock_offsets",
        ),
        (all(_is_text(part, _MAX_KEY_TEXT) for key in delta.keys for part in key), "a key's text"),
        (all(_is_text(d.reason) and _is_text(d.detail) for d in delta.dead_letters), "a dead letter's text"),
        (
            all(delta.from_offset <= d.offset <= delta.through_offset for d in delta.dead_letters),
            "a dead letter's offset",
        ),
    )


def _contents(delta: Delta) -> _Checks:
    rows, cells = delta.rows, delta.histograms
    n = len(rows.window)
    return (
        (len(rows.measures) == len(MEASURES), f"{len(rows.measures)} measures, not {len(MEASURES)}"),
        (all(len(c) == n for c in (rows.key, rows.max_completed_ms, *rows.measures)), "row columns differ in length"),
        (_within(rows.key, 0, len(delta.keys) - 1), "a row without a key"),
        (all(_within(c, 0, _MAX_COUNT) for c in rows.measures), "a measure is negative or too large"),
        (sum(rows.measures[0]) == delta.events if rows.measures else False, "rows do not add up to the events"),
        (len(set(zip(rows.window, rows.key, strict=False))) == n, "a window and key occur twice"),
        (all(len(c) == len(cells.row) for c in (cells.metric, cells.bucket, cells.n)), "histogram columns differ"),
        (_within(cells.row, 0, n - 1), "a histogram without a row"),
        (_within(cells.metric, 0, len(HISTOGRAMS) - 1), "an unknown histogram"),
        (_within(cells.n, 1, _MAX_RECORDS), "a histogram count"),
        (_buckets_fit(cells.bucket), "a histogram bucket"),
    )


def applies(position: int | None, delta: Delta) -> Verdict:
    """Say what a delta does to a source partition at ``position`` (next offset wanted; None: nothing known yet).

    A bridge leaves no gaps: the numbers between two of its deltas were never used, and nothing could be read again.
    """
    if position is None or delta.from_offset == position:
        return "apply"
    if delta.from_offset < position:
        return "drop"
    return "apply" if is_bridged(delta.topic) else "gap"


def first_needed(tail: Sequence[tuple[int, Delta | None]]) -> int:
    """Return the delta offset from which ``covered_position`` has to see the log, given at least its newest records."""
    for _, delta in reversed(tail):
        if delta is not None:
            return delta.base_delta_offset + 1
    return 0


def covered_position(tail: Sequence[tuple[int, Delta | None]]) -> int | None:
    """Return the source position that a log of deltas has reached, from its newest records alone.

    ``tail`` holds the newest records of one delta partition as (delta offset, delta), ascending without holes; None
    stands for a record that is no delta, which every reader skips. The newest delta claims that after the record at its
    ``base_delta_offset`` the position was its ``from_offset``; the rule does the rest. A log without deltas gives None;
    the writer that starts it claims nothing: its ``base_delta_offset`` is −1, even when records that are no deltas lie
    before it.

    Raises:
        CodecError: records from ``first_needed(tail)`` on are missing.
    """
    if not tail:
        return None
    offsets = [offset for offset, _ in tail]
    if any(b != a + 1 for a, b in pairwise(offsets)):
        raise CodecError(f"the delta log's tail from {offsets[0]} to {offsets[-1]} has holes")
    newest = next((delta for _, delta in reversed(tail) if delta is not None), None)
    needed = first_needed(tail)
    if offsets[0] > needed:
        raise CodecError(f"the delta log's tail begins at {offsets[0]}; it is needed from {needed}")
    # Before the first record of the log there is no position, whatever a writer took for its start.
    position = newest.from_offset if newest is not None and newest.base_delta_offset >= 0 else None
    for offset, delta in tail:
        if offset >= needed and delta is not None and applies(position, delta) == "apply":
            position = delta.through_offset + 1
    return position


def _within(column: Sequence[int], low: int, high: int) -> bool:
    return not column or (min(column) >= low and max(column) <= high)


def _buckets_fit(buckets: Sequence[int]) -> bool:
    return all(histogram.MIN_BUCKET <= b <= histogram.MAX_BUCKET or b == histogram.ZERO_BUCKET for b in set(buckets))


def _is_text(text: str, most: int = _MAX_TEXT) -> bool:
    return len(text) <= most and (text.isascii() or not any(0xD800 <= ord(c) <= 0xDFFF for c in text))
