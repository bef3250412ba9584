"""Many records of OTLP protobuf at once: their spans to columns, with the same outcome as one by one.

Spans of one layout (``otlp_layout``) are read together (``otlp_columns``). They fall into classes, which differ in ids,
times and numbers only; what a class says otherwise (the model, the pool, the status …) is asked once, of one of its
spans, in the ordinary way. Spans of rare layouts go that way each. Records in which two requests share a trace, and
whatever else is unusual about a record as a whole, are not taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields as columns_of
from itertools import count
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.byte_columns import Buffer, Text, Words, hash_texts
from pipeline.events.codecs.base import Completed, DecodedTogether, Fields
from pipeline.events.codecs.otlp_attributes import plain_attributes, span_record
from pipeline.events.codecs.otlp_columns import Matched, match
from pipeline.events.codecs.otlp_layout import Layout, learn
from pipeline.events.codecs.otlp_messages import RESOURCE, SPAN
from pipeline.events.codecs.otlp_names import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUEST_NAME, RESOURCE_ATTRIBUTES
from pipeline.events.codecs.otlp_spans import fields_of, is_request
from pipeline.events.columns import EventColumns, complete, from_events, merged
from pipeline.events.convert import Converted, convert
from pipeline.events.protobuf_columns import parts_of
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import LATENCY_TOLERANCE, LATENCY_TOLERANCE_SECONDS

__all__ = ["decode_together"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Spans that are worth reading together, layouts that are looked for in a batch, and spans that are tried as samples.
MIN_SPANS = 64
MAX_LAYOUTS = 16
MAX_SAMPLES = 24
_RESOURCE_SPANS = b"\x0a"
_RESOURCE, _SCOPE_SPANS, _SCHEMA_URL = 0x0A, 0x12, 0x1A
_SPANS = 0x12
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), "<u2")
_COLUMNS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_input_tokens": "cached_input_tokens",
    "reasoning_output_tokens": "reasoning_output_tokens",
    "ttft": "ttft_seconds",
    "e2e": "e2e_seconds",
    "queue": "queue_seconds",
}


def decode_together(
    codec: str, values: Sequence[bytes], dimensions: Sequence[str], completed: Completed | None
) -> DecodedTogether | None:
    """Return what the records say whose spans are read here, as ``base.DecodesTogether`` does."""
    spans = _Spans(values, completed)
    if len(spans.starts) < MIN_SPANS:
        return None
    parts = _by_layout(spans, dimensions)
    if 2 * int(spans.read.sum()) < len(spans.read):  # each way is quicker than both
        return None
    parts += _one_by_one(spans, dimensions)
    _leave_shared_traces(spans)
    columns = merged(parts) if len(parts) != 1 else parts[0]
    columns = columns.take(~spans.left[spans.record[columns.index]])
    places = columns.index
    columns.index = spans.record[places]
    taken = ~spans.left
    requests = np.bincount(spans.record[spans.request], minlength=len(values))
    ignored = np.bincount(spans.record, minlength=len(values)) - requests
    return DecodedTogether(
        codec,
        taken,
        columns,
        spans.events[places],  # type: ignore[arg-type]
        lambda row: spans.converted(int(places[row])).event,
        np.flatnonzero(taken & (requests == 0)).tolist(),
        [(i, int(ignored[i])) for i in np.flatnonzero(taken & (ignored > 0)).tolist()],
        [(i, error) for i, error in spans.refused if taken[i]],
        [(i, name) for i, name in spans.unknown if taken[i]],
    )


class _Spans:
    """The spans of a batch, in order: where they lie, their record and resource, and what is known of them so far.

    ``left`` marks the records that are left to the ordinary way. Of the spans, ``read`` are those of which it is known
    whether they are a ``request``; ``events`` has an event like that of each request, ``trace`` the first bytes of its
    trace id.
    """

    def __init__(self, values: Sequence[bytes], completed: Completed | None) -> None:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.buffer = buffer = Buffer(values, lengths)
        self._completed = completed
        groups = parts_of(buffer, buffer.starts, buffer.ends, _RESOURCE_SPANS)
        self.left = groups.broken | (lengths == 0)
        tags = bytes((_RESOURCE, _SCOPE_SPANS, _SCHEMA_URL))
        self.left[groups.owner[(groups.end - groups.start < 2) | ~self._begin_with(groups.start, tags)]] = True
        inner = parts_of(buffer, groups.start, groups.end, tags)
        self.left[groups.owner[inner.broken]] = True
        scopes = inner.tag == _SCOPE_SPANS
        found = parts_of(buffer, inner.start[scopes], inner.end[scopes], tags)
        self.left[groups.owner[inner.owner[scopes][found.broken]]] = True
        resources = self._resources(inner.owner, inner.start, inner.end, inner.tag == _RESOURCE, groups.owner)
        group = inner.owner[scopes][found.owner]
        spans = (found.tag == _SPANS) & ~self.left[groups.owner[group]]
        self.starts, self.ends = found.start[spans], found.end[spans]
        self.record = groups.owner[group[spans]]
        self.resource = resources[group[spans]]
        self.read = np.zeros(len(self.starts), np.bool_)
        self.request = np.zeros(len(self.starts), np.bool_)
        self.events = np.empty(len(self.starts), object)
        self.trace = np.zeros(len(self.starts), np.uint64)
        self.refused: list[tuple[int, EventRejected]] = []
        self.unknown: list[tuple[int, str]] = []

    def _begin_with(self, at: Ints, tags: bytes) -> Bools:
        first = (self.buffer.at(at)[0] & np.uint64(0xFF)).astype(np.uint8)
        return np.isin(first, np.frombuffer(tags, np.uint8))

    def _resources(self, group: Ints, start: Ints, end: Ints, is_resource: Bools, record: Ints) -> Ints:
        """The place of each group's resource in ``self._known``; records that have two in a group, or a broken one, are
        left."""
        group, start, end = group[is_resource], start[is_resource], end[is_resource]
        found = np.zeros(len(record), np.int64)
        self.left[record[np.bincount(group, minlength=len(record)) > 1]] = True
        codes: defaultdict[bytes, int] = defaultdict(count().__next__)
        codes[b""] = 0
        data = self.buffer.data
        if len(group):
            raw = [data[first:last] for first, last in zip(start.tolist(), end.tolist(), strict=True)]
            found[group] = list(map(codes.__getitem__, raw))
        self._known: list[dict[str, Any]] = []
        for code, value in enumerate(codes):
            try:
                self._known.append(plain_attributes(RESOURCE.FromString(value).attributes, RESOURCE_ATTRIBUTES))
            except DecodeError:
                self._known.append({})
                self.left[record[found == code]] = True
        return found

    def bytes_of(self, place: int) -> bytes:
        """The bytes of a span."""
        return self.buffer.data[self.starts[place] : self.ends[place]]

    def fields(self, place: int) -> Fields | None:
        """What a span says, by the ordinary way; None: it is no request.

        Raises:
            DecodeError: it is broken.
        """
        span = SPAN.FromString(self.bytes_of(place))
        attributes = plain_attributes(span.attributes, ATTRIBUTES)
        if REQUEST_ATTRIBUTES.isdisjoint(attributes) and span.name != REQUEST_NAME:
            return None
        record = span_record(span, attributes, self._known[int(self.resource[place])])
        if not is_request(record):
            return None
        self.trace[place] = int.from_bytes(span.trace_id[:8], "little")
        return fields_of(record) if self._completed is None else self._completed(fields_of(record))

    def converted(self, place: int) -> Converted:
        """The event of a request span, within the bounds of its type."""
        fields = self.fields(place)
        assert fields is not None
        return convert(fields)


def _by_layout(spans: _Spans, dimensions: Sequence[str]) -> list[EventColumns]:
    """Read the spans of common layouts; the columns' ``index`` is the span's place."""
    parts = []
    layouts = 0
    left = np.arange(len(spans.starts))
    for _ in range(MAX_SAMPLES):
        if len(left) < MIN_SPANS or layouts == MAX_LAYOUTS:
            break
        sample = spans.bytes_of(int(left[0]))
        try:
            SPAN.FromString(sample)
        except DecodeError:
            left = left[1:]
            continue
        layout = learn(sample)
        if layout is not None:
            layouts += 1
            matched = match(spans.buffer, left, spans.starts[left], spans.ends[left], layout)
            part = _columns_of(spans, layout, matched, dimensions)
            if part is not None:
                parts.append(part)
        left = left[1:][~spans.read[left[1:]]]
    return parts


def _columns_of(spans: _Spans, layout: Layout, matched: Matched, dimensions: Sequence[str]) -> EventColumns | None:
    """Return what was read of one layout as columns, and note which of its spans are read; None: no request is."""
    buffer = spans.buffer
    times = {name: buffer.at(matched.places[name])[0] for name in ("start", "end")} if len(matched.rows) else {}
    if not times:
        return None
    started, ended = (times[name].astype(np.float64) / 1e9 for name in ("start", "end"))
    good = (times["start"] > 0) & (times["end"] > 0)
    e2e = layout.numbers.get("e2e_seconds")
    if e2e is not None:  # one that contradicts the span's times is unknown
        told = matched.numbers[e2e]
        good &= np.abs(ended - started - told) <= np.maximum(LATENCY_TOLERANCE_SECONDS, LATENCY_TOLERANCE * told)
    kinds, examples, same = _classes(matched, spans.resource[matched.rows], good)
    good &= same
    events: list[RequestEvent] = []
    place_in_events = np.full(len(examples), -1, np.int64)
    known = np.zeros(len(examples), np.bool_)
    for kind, row in enumerate(examples.tolist()):
        try:
            fields = spans.fields(int(matched.rows[row]))
            event, unknown = convert(fields) if fields is not None else (None, ())
        except (DecodeError, EventRejected):
            continue  # each of its spans is judged by itself
        known[kind] = not unknown
        if event is not None and not unknown:
            place_in_events[kind] = len(events)
            events.append(event)
    read = good & known[kinds]
    spans.read[matched.rows[read]] = True
    like = place_in_events[kinds]
    chosen = np.flatnonzero(read & (like >= 0))
    if not len(chosen):
        return None
    rows, like = matched.rows[chosen], like[chosen]
    spans.request[rows] = True
    spans.events[rows] = np.array([*events, None], object)[like]
    trace = buffer.at(matched.places["trace_id"][chosen], 2)
    spans.trace[rows] = trace[0]
    by_class = from_events(events, dimensions)
    columns: dict[str, Any] = {f.name: getattr(by_class, f.name) for f in columns_of(EventColumns)}
    columns |= {name: value[like] for name, value in columns.items() if isinstance(value, np.ndarray)}
    for name, field in _COLUMNS.items():
        if field in layout.numbers:
            columns[name] = matched.numbers[layout.numbers[field]][chosen].astype(columns[name].dtype)
        elif name == "e2e":
            columns[name] = np.full(len(rows), np.nan)
    columns["tpot"] = np.full(len(rows), np.nan)
    columns["arrived_at"], columns["completed_at"] = started[chosen], ended[chosen]
    columns["ids"] = _ids(trace, buffer.at(matched.places["span_id"][chosen]))
    columns["index"] = rows
    return complete(EventColumns(**columns))


def _classes(matched: Matched, resource: Ints, good: Bools) -> tuple[Ints, Ints, Bools]:
    """The class of each row, an example of each, and which rows surely are what the example of their class is."""
    mixed = resource.astype(np.uint64)
    for text in matched.classes.values():
        mixed = mixed * _MIXER + hash_texts(text)[:, 0]
    distinct, kinds = np.unique(mixed, return_inverse=True)
    examples = np.zeros(len(distinct), np.int64)
    examples[kinds] = np.arange(len(kinds))
    examples[kinds[good]] = np.flatnonzero(good)  # one whose numbers are as they should be, where there is one
    like = examples[kinds]
    same = resource == resource[like]
    for text in matched.classes.values():
        same &= text.length == text.length[like]
        for word in text.words:
            same &= word == word[like]
    return kinds, examples, same


def _ids(trace: Words, span: Words) -> Words:
    """Hashes of the event ids: trace id and span id in hex, with a hyphen between them."""
    n = trace.shape[1]
    text = np.zeros((n, 56), np.uint8)
    text[:, :32] = _HEX[np.ascontiguousarray(trace.T).view(np.uint8)].view(np.uint8)
    text[:, 32] = ord("-")
    text[:, 33:49] = _HEX[np.ascontiguousarray(span.T).view(np.uint8)].view(np.uint8)
    words = text.view("<u8")
    return hash_texts(Text(np.full(n, 49), [words[:, i] for i in range(words.shape[1])]))


def _one_by_one(spans: _Spans, dimensions: Sequence[str]) -> list[EventColumns]:
    """Read the spans of rare layouts; records with a broken one are left."""
    events, places = [], []
    for place in np.flatnonzero(~spans.read).tolist():
        record = int(spans.record[place])
        if spans.left[record]:
            continue
        try:
            fields = spans.fields(place)
        except Exception:  # as ``reading.decode_one``: the record will be refused
            spans.left[record] = True
            continue
        if fields is None:
            continue
        spans.request[place] = True
        try:
            event, unknown = convert(fields)
        except EventRejected as error:
            spans.refused.append((record, error))
            continue
        spans.unknown += [(record, name) for name in unknown]
        spans.events[place] = event
        events.append(event)
        places.append(place)
    if not events:
        return []
    columns = from_events(events, dimensions)
    columns.index = np.array(places, np.int64)
    return [columns]


def _leave_shared_traces(spans: _Spans) -> None:
    """Leave records in which two requests may be of one trace: which of them counts depends on their parents."""
    requests = np.flatnonzero(spans.request)
    record, trace = spans.record[requests], spans.trace[requests]
    order = np.lexsort((trace, record))
    twice = (record[order][1:] == record[order][:-1]) & (trace[order][1:] == trace[order][:-1])
    spans.left[record[order][1:][twice]] = True
