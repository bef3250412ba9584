"""SGLang's request metrics (``--export-metrics-to-file``): one JSON line per finished request.

The line is the answer's ``meta_info`` beside ``request_parameters`` (``sglang/srt/observability/
request_metrics_exporter.py``, 0.5). It names no model: the source's settings do. ``request_parameters`` has the prompt
and is not read.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord
from pipeline.events.codecs.values import at, count, hashed_id, number, seconds_between, status_of_http, text, time
from pipeline.events.request_event import RejectReason

__all__ = ["SglangCodec"]


class SglangCodec:
    """One event per line."""

    name = "sglang"
    title = "SGLang request metrics"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record has the names of such a line."""
        if not record.is_object():
            return False
        fields = record.object()
        return "request_parameters" in fields and "prompt_tokens" in fields and "finish_reason" in fields

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event of a line.

        Raises:
            EventRejected: it is no such line.
        """
        fields = record.object()
        if "request_parameters" not in fields and "finish_reason" not in fields:
            raise EventRejected(RejectReason.MISSING_FIELD, f"no {self.title}: request_parameters, finish_reason")
        received = time(fields.get("request_received_ts"))
        finished = time(fields.get("response_sent_to_client_ts")) or time(fields.get("request_finished_ts"))
        name = text(fields.get("id"))
        return Decoded(
            (
                {
                    "event_id": hashed_id(name, fields.get("request_received_ts")) if name else record.digest(),
                    "request_id": name,
                    "model": text(fields.get("model")),
                    "arrived_at": received,
                    "completed_at": finished,
                    "e2e_seconds": number(fields.get("e2e_latency")),
                    "input_tokens": count(fields.get("prompt_tokens")),
                    "output_tokens": count(fields.get("completion_tokens")),
                    "cached_input_tokens": count(fields.get("cached_tokens")),
                    "reasoning_output_tokens": count(fields.get("reasoning_tokens")),
                    "ttft_seconds": _ttft(fields, received),
                    "queue_seconds": number(fields.get("queue_time")),
                    "preemptions": count(fields.get("num_retractions")),
                    "status": _status(fields.get("finish_reason")),
                    "finish_reason": text(at(fields.get("finish_reason"), "type")) or text(fields.get("finish_reason")),
                    "server_id": None if fields.get("dp_rank") is None else f"dp{fields['dp_rank']}",
                    "engine": "sglang",
                    "source": self.name,
                },
            )
        )


def _ttft(fields: dict[str, Any], received: float | None) -> float | None:
    ttft = number(fields.get("first_token_latency"))
    return ttft if ttft is not None else seconds_between(received, time(fields.get("prefill_finished_ts")))


def _status(reason: Any) -> str:
    """The status of a finish reason ``{"type": "abort", "status_code": 503, …}``; aborts are clients that left unless
    a code says otherwise."""
    if str(at(reason, "type") or reason) != "abort":
        return "ok"
    code = number(at(reason, "status_code"))
    return (status_of_http(code) or "cancelled") if code else "cancelled"
