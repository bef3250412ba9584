"""The spans in many records of OTLP protobuf: where each lies, and what one says by the ordinary way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.byte_columns import Buffer, Words
from pipeline.events.codecs.base import Completed, Fields
from pipeline.events.codecs.otlp_attributes import plain_attributes, span_record
from pipeline.events.codecs.otlp_messages import resource_of_record, span_of_record
from pipeline.events.codecs.otlp_names import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUEST_NAME, RESOURCE_ATTRIBUTES
from pipeline.events.codecs.otlp_spans import fields_of, is_request
from pipeline.events.convert import Converted, convert
from pipeline.events.protobuf_columns import parts_of

__all__ = ["Spans", "short_trace"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_RESOURCE_SPANS = b"\x0a"
_RESOURCE, _SCOPE_SPANS, _SCHEMA_URL = 0x0A, 0x12, 0x1A
_SPANS = 0x12
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio


class Spans:
    """The spans of a batch, in order: where they lie, their record and resource, and what is known of them so far.

    ``left`` marks the records that are left to the ordinary way. Of the spans, ``read`` are those of which it is known
    whether they are a ``request``; ``events`` has an event like that of each request, ``trace`` its trace id
    in short, which another may have as well.
    """

    def __init__(self, values: Sequence[bytes], completed: Completed | None) -> None:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.buffer = buffer = Buffer(values, lengths)
        self.completed = completed  # fills in fields of each event before it is converted
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
        codes: defaultdict[bytes, int] = defaultdict(count().__next__)
        found = np.full(len(record), codes[b""])  # of groups without a resource
        self.left[record[np.bincount(group, minlength=len(record)) > 1]] = True
        data = self.buffer.data
        if len(group):
            raw = [data[first:last] for first, last in zip(start.tolist(), end.tolist(), strict=True)]
            found[group] = list(map(codes.__getitem__, raw))
        self._raw_resources = list(codes)
        self._hashes: dict[int, bytes] = {}
        self._known: list[dict[str, Any]] = []
        broken = np.zeros(len(codes), np.bool_)
        for code, value in enumerate(codes):
            try:
                self._known.append(plain_attributes(resource_of_record(value).attributes, RESOURCE_ATTRIBUTES))
            except DecodeError:
                self._known.append({})
                broken[code] = True
        self.left[record[broken[found]]] = True
        return found

    def hash_of_resource(self, place: int) -> bytes:
        """A hash of the bytes of a span's resource."""
        code = int(self.resource[place])
        found = self._hashes.get(code)
        if found is None:
            found = self._hashes[code] = blake2b(self._raw_resources[code], digest_size=32).digest()
        return found

    def bytes_of(self, place: int) -> bytes:
        """The bytes of a span."""
        return self.buffer.data[self.starts[place] : self.ends[place]]

    def fields(self, place: int) -> Fields | None:
        """What a span says, by the ordinary way; None: it is no request.

        Raises:
            DecodeError: it is broken.
        """
        span = span_of_record(self.bytes_of(place))
        attributes = plain_attributes(span.attributes, ATTRIBUTES)
        if REQUEST_ATTRIBUTES.isdisjoint(attributes) and span.name != REQUEST_NAME:
            return None
        record = span_record(span, attributes, self._known[int(self.resource[place])])
        if not is_request(record):
            return None
        self.trace[place] = short_trace(np.frombuffer(span.trace_id[:16].ljust(16, b"\0"), "<u8").reshape(2, 1))[0]
        return fields_of(record) if self.completed is None else self.completed(fields_of(record))

    def converted(self, place: int) -> Converted:
        """The event of a request span, within the bounds of its type."""
        fields = self.fields(place)
        assert fields is not None
        return convert(fields)


def short_trace(trace: Words) -> Words:
    """Return trace ids, shape (2, n), in 64 bits each, which different ones may share."""
    short: Words = trace[0] * _MIXER + trace[1]
    return short
