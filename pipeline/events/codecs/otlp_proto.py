"""OTLP protobuf as the OpenTelemetry Collector's Kafka exporter writes it by default: a batch of spans per record.

``TracesData`` and ``ExportTraceServiceRequest`` are the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Completed, Decoded, DecodedTogether, RawRecord
from pipeline.events.codecs.otlp_attributes import plain_attributes, span_record
from pipeline.events.codecs.otlp_batch import decode_together
from pipeline.events.codecs.otlp_messages import TRACES
from pipeline.events.codecs.otlp_names import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUEST_NAME, RESOURCE_ATTRIBUTES
from pipeline.events.codecs.otlp_spans import SpanKey, decoded
from pipeline.events.request_event import RejectReason

__all__ = ["OtlpProtoCodec"]

_RESOURCE_SPANS = 0x0A  # field 1, length-delimited
_MOST_LENGTH_BYTES = 5


class OtlpProtoCodec:
    """One event per request span."""

    name = "otlp_proto"
    title = "OTLP protobuf traces"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record is, end to end, a sequence of the one field that such a batch has."""
        value, at = record.value, 0
        while at < len(value):
            if value[at] != _RESOURCE_SPANS:
                return False
            length, after = _varint(value, at + 1)
            if length < 2 or after + length > len(value) or value[after] not in (0x0A, 0x12, 0x1A):
                return False
            at = after + length
        return True

    def decode(self, record: RawRecord) -> Decoded:
        """Return one event per request span; other spans are ignored.

        Raises:
            EventRejected: it is no OTLP protobuf.
        """
        try:
            traces = TRACES.FromString(record.value)
            if not traces.resource_spans:
                raise EventRejected(RejectReason.MALFORMED, f"not {self.title}: it has no spans")
            return _decoded(traces)
        except DecodeError as error:
            raise EventRejected(RejectReason.MALFORMED, f"not {self.title}: {str(error)[:120]}") from error

    def decode_together(
        self, values: Sequence[bytes], dimensions: Sequence[str], completed: Completed | None = None
    ) -> DecodedTogether | None:
        """Return what the records say whose spans are read in columns; see ``base.DecodesTogether``."""
        return decode_together(self.name, values, dimensions, completed)


def _decoded(traces: Any) -> Decoded:
    candidates = []
    spans = 0
    for group in traces.resource_spans:
        resource: dict[str, Any] | None = None
        for scope in group.scope_spans:
            for span in scope.spans:
                spans += 1
                attributes = plain_attributes(span.attributes, ATTRIBUTES)
                if REQUEST_ATTRIBUTES.isdisjoint(attributes) and span.name != REQUEST_NAME:
                    continue
                if resource is None:
                    resource = plain_attributes(group.resource.attributes, RESOURCE_ATTRIBUTES)
                candidates.append(span_record(span, attributes, resource))
    return decoded(candidates, spans, lambda: _parents(traces))


def _parents(traces: Any) -> dict[SpanKey, str]:
    return {
        (span.trace_id.hex(), span.span_id.hex()): span.parent_span_id.hex()
        for group in traces.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    }


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """The number at a position and the position after it; 0: there is none."""
    number = 0
    for i, byte in enumerate(value[at : at + _MOST_LENGTH_BYTES]):
        number |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return number, at + i + 1
    return 0, at
