"""NVIDIA Dynamo's request trace (``dynamo.request.trace.v1``, ``DYN_REQUEST_TRACE=1``): one JSON object per event.

``request_end`` events are requests; tool events and payload records are not (dynamo-llm 1.4,
``src/request_trace/types.rs``). A sink may wrap the record as ``{"timestamp": …, "event": {…}}``. Durations are
milliseconds. Replay hashes and payloads are not read.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord
from pipeline.events.codecs.values import at, count, first_of, hashed_id, milliseconds, status_of_error, text
from pipeline.events.request_event import RejectReason

__all__ = ["DynamoCodec"]

_SCHEMA = "dynamo.request.trace."
_FAILED = {
    "error": "error",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "abort": "cancelled",
    "timeout": "timeout",
}


class DynamoCodec:
    """One event per ``request_end``."""

    name = "dynamo"
    title = "Dynamo request trace"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record names the trace's schema."""
        return record.is_object() and _unwrapped(record.object()) is not None

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event of a finished request; other trace events are ignored.

        Raises:
            EventRejected: it is no trace event, or a finished request without its metrics.
        """
        fields = _unwrapped(record.object())
        if fields is None:
            raise EventRejected(RejectReason.UNKNOWN_SCHEMA, f"no {self.title}: schema is not {_SCHEMA}v1")
        if fields.get("event_type") != "request_end":
            return Decoded((), 1)
        request = fields.get("request")
        if not isinstance(request, dict):
            raise EventRejected(RejectReason.MISSING_FIELD, f"a request_end of a {self.title} without `request`")
        return Decoded((self._event(record, fields, request),))

    def _event(self, record: RawRecord, fields: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        name = text(request.get("request_id"))
        received = milliseconds(request.get("request_received_ms"))
        total = milliseconds(request.get("total_time_ms"))
        ended = milliseconds(fields.get("event_time_unix_ms"))
        return {
            "event_id": hashed_id(name, request.get("request_received_ms")) if name else record.digest(),
            "request_id": name,
            "model": text(request.get("model")),
            "arrived_at": received,
            "completed_at": ended if total is None or received is None else None,
            "e2e_seconds": total,
            "input_tokens": count(first_of(request, "input_tokens", "input_length")) or count(_replayed(request)),
            "output_tokens": count(request.get("output_tokens")),
            "cached_input_tokens": count(request.get("cached_tokens")),
            "ttft_seconds": milliseconds(request.get("ttft_ms")),
            "queue_seconds": milliseconds(request.get("queue_time_ms")),
            "prefill_seconds": milliseconds(request.get("prefill_time_ms")),
            "tpot_seconds": milliseconds(first_of(request, "avg_itl_ms", "itl_ms")),
            "status": _status(request),
            "finish_reason": text(request.get("finish_reason")),
            "server_id": text(at(request, "worker", "decode_worker_id")),
            "engine": "dynamo",
            "source": self.name,
        }


def _replayed(request: dict[str, Any]) -> Any:
    return at(request, "replay", "input_length")


def _unwrapped(fields: dict[str, Any]) -> dict[str, Any] | None:
    for candidate in (fields, fields.get("event")):
        if isinstance(candidate, dict) and str(candidate.get("schema", "")).startswith(_SCHEMA):
            return candidate
    return None


def _status(request: dict[str, Any]) -> str:
    error = first_of(request, "error", "error_type", "error_code")
    if error is not None:
        return status_of_error((error if isinstance(error, str | int) else at(error, "type"),))
    return _FAILED.get(str(request.get("finish_reason") or request.get("status") or "").lower(), "ok")
