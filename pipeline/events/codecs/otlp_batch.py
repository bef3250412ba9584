"""Many records of OTLP protobuf at once: their spans to columns, with the same outcome as one by one.

Spans of one layout (``otlp_layout``) are read together (``otlp_columns``). They fall into classes, which differ in ids,
times and numbers only; what a class says otherwise (the model, the pool, the status …) is asked once, of one of its
spans, in the ordinary way. Spans of rare layouts go that way each. Records in which two requests share a trace, and
whatever else is unusual about a record as a whole, are not taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields as columns_of
from hashlib import blake2b
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.byte_columns import Text, Words, hash_texts
from pipeline.events.codecs.base import Completed, DecodedTogether
from pipeline.events.codecs.otlp_columns import Matched, match
from pipeline.events.codecs.otlp_layout import Layout, learn
from pipeline.events.codecs.otlp_messages import span_of_record
from pipeline.events.codecs.otlp_split import Spans, short_trace
from pipeline.events.columns import EventColumns, complete, from_events, merged
from pipeline.events.convert import convert
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import LATENCY_TOLERANCE, LATENCY_TOLERANCE_SECONDS

__all__ = ["decode_together"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Spans that are worth reading together, layouts that are looked for in a batch, and spans that are tried as samples.
MIN_SPANS = 128
MAX_LAYOUTS = 16
MAX_SAMPLES = 24
#: The share of the spans that has to have common layouts: below it, both ways together cost more than one by one.
MIN_READ = 0.5
#: Layouts after which the search ends, if those found so far are so rare that that share is out of reach.
_LAYOUTS_TO_JUDGE = 4
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), "<u2")
_KNOWN_CLASSES: dict[Hashable, tuple[RequestEvent | None, bool]] = {}
_MOST_CLASSES = 1_024
_HASH_BYTES = 32  # so many that nobody finds two texts with the same hash
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
    spans = Spans(values, completed)
    if len(spans.starts) < MIN_SPANS:
        return None
    parts = _by_layout(spans, dimensions)
    if spans.read.mean() < MIN_READ:
        return None
    if not (spans.read.all() and parts):
        parts.append(_one_by_one(spans, dimensions))
    _leave_shared_traces(spans)
    columns = merged(parts) if len(parts) > 1 else parts[0]
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


def _by_layout(spans: Spans, dimensions: Sequence[str]) -> list[EventColumns]:
    """Read the spans of common layouts; the columns' ``index`` is the span's place."""
    parts = []
    layouts = 0
    left = np.arange(len(spans.starts))
    for _ in range(MAX_SAMPLES):
        rare = layouts >= _LAYOUTS_TO_JUDGE and spans.read.mean() < MIN_READ * layouts / MAX_LAYOUTS
        if len(left) < MIN_SPANS or layouts == MAX_LAYOUTS or rare:
            break
        middle = len(left) // 2  # the first ones may be of one odd record
        sample = spans.bytes_of(int(left[middle]))
        try:
            span_of_record(sample)
        except DecodeError:
            left = np.delete(left, middle)
            continue
        layout = learn(sample)
        if layout is not None:
            layouts += 1
            matched = match(spans.buffer, left, spans.starts[left], spans.ends[left], layout)
            part = _columns_of(spans, layout, matched, dimensions)
            if part is not None:
                parts.append(part)
        left = np.delete(left, middle)
        left = left[~spans.read[left]]
    return parts


def _columns_of(spans: Spans, layout: Layout, matched: Matched, dimensions: Sequence[str]) -> EventColumns | None:
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
    if len(examples) > _MOST_CLASSES and 2 * len(examples) > len(kinds):  # almost each span is a class of its own
        return None
    events: list[RequestEvent] = []
    place_in_events = np.full(len(examples), -1, np.int64)
    known = np.zeros(len(examples), np.bool_)
    said = _said(layout, matched, examples)
    for kind, row in enumerate(examples.tolist()):
        place = int(matched.rows[row])
        event, known[kind] = _event_of_class(spans, place, said[kind]) if good[row] else (None, False)
        if event is not None:
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
    spans.trace[rows] = short_trace(trace)
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


def _said(layout: Layout, matched: Matched, rows: Ints) -> list[bytes]:
    """A hash of what the class of each of the rows says, but for its resource."""
    texts = [(name, len(text.words)) for name, text in matched.classes.items()]
    common = blake2b(repr((layout.constant, texts)).encode(), digest_size=_HASH_BYTES)
    columns = [
        column[rows].view(np.uint64) for text in matched.classes.values() for column in (text.length, *text.words)
    ]
    table = np.stack(columns, axis=1) if columns else np.zeros((len(rows), 1), np.uint64)
    hashes = []
    for row in table:
        one = common.copy()
        one.update(row.tobytes())
        hashes.append(one.digest())
    return hashes


def _event_of_class(spans: Spans, place: int, said: bytes) -> tuple[RequestEvent | None, bool]:
    """An event of the class of a span (None: it is no request), and whether it is known what the class says: where
    anything about it is unusual, each of its spans is judged by itself. Classes that were seen before are remembered,
    by a hash of what they say: a status, or an attribute of a resource that nobody reads, may have private text.
    """
    kind = (said, spans.hash_of_resource(place), spans.completed)
    found = _KNOWN_CLASSES.get(kind)
    if found is None:
        try:
            fields = spans.fields(place)
            event, unknown = convert(fields) if fields is not None else (None, ())
            found = (None, False) if unknown else (event, True)
        except Exception:  # it is refused, or fails
            found = (None, False)
        if len(_KNOWN_CLASSES) >= _MOST_CLASSES:
            _KNOWN_CLASSES.clear()
        _KNOWN_CLASSES[kind] = found
    return found


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


def _one_by_one(spans: Spans, dimensions: Sequence[str]) -> EventColumns:
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
    columns = from_events(events, dimensions)
    columns.index = np.array(places, np.int64)
    return columns


def _leave_shared_traces(spans: Spans) -> None:
    """Leave records in which two requests may be of one trace: which of them counts depends on their parents."""
    requests = np.flatnonzero(spans.request)
    record, trace = spans.record[requests], spans.trace[requests]
    order = np.lexsort((trace, record))
    twice = (record[order][1:] == record[order][:-1]) & (trace[order][1:] == trace[order][:-1])
    spans.left[record[order][1:][twice]] = True
