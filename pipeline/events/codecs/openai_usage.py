"""OpenAI-style usage logs: an answer's ``usage`` beside its times, one JSON object per request.

Two shapes are read: an OpenAI ``response`` object (``created_at``, ``completed_at``), and an answer or a log line with
``usage`` and a time whose name carries its unit (``duration_ms``, ``latency_seconds`` …) or vLLM's ``metrics``. An
answer without any duration has no place in time and is refused. ``choices`` and ``output`` are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord
from pipeline.events.codecs.values import (
    at,
    count,
    first_of,
    hashed_id,
    milliseconds,
    number,
    status_of_error,
    status_of_http,
    text,
    time,
)
from pipeline.events.request_event import RejectReason

__all__ = ["OpenAiUsageCodec"]

_OBJECTS = {
    "chat.completion": "chat",
    "text_completion": "text_completion",
    "response": "chat",
    "list": "embeddings",
}
_ARRIVED = ("arrived_at", "started_at", "start_time", "request_time", "timestamp", "created_at", "created")
_COMPLETED = ("completed_at", "finished_at", "ended_at", "end_time")
_SECONDS = ("e2e_seconds", "duration_seconds", "latency_seconds", "response_time_seconds", "duration_s", "latency_s")
_MILLISECONDS = ("e2e_ms", "duration_ms", "latency_ms", "response_time_ms", "total_time_ms", "elapsed_ms")
_TTFT_SECONDS = ("ttft_seconds", "ttft_s", "time_to_first_token_seconds")
_TTFT_MILLISECONDS = ("ttft_ms", "time_to_first_token_ms")
_CACHE_READ = "cache_read_input_tokens"
_Time = float | str | None
_STATUSES = {
    "completed": "ok",
    "incomplete": "ok",  # the answer ended at a limit
    "ok": "ok",
    "success": "ok",
    "succeeded": "ok",
    "true": "ok",
    "stop": "ok",
    "length": "ok",
    "rejected": "rejected",
}


class OpenAiUsageCodec:
    """One event per answer."""

    name = "openai_usage"
    title = "OpenAI-style usage log"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record has a ``usage`` with token counts, or is an OpenAI answer or error."""
        if not record.is_object():
            return False
        fields = record.object()
        if "call_type" in fields or "schema" in fields or "event_id" in fields or "resourceSpans" in fields:
            return False
        usage = fields.get("usage")
        counted = isinstance(usage, dict) and ("prompt_tokens" in usage or "input_tokens" in usage)
        return counted or _object(fields) in _OBJECTS

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event of an answer.

        Raises:
            EventRejected: it has no time or no duration; the detail names what is missing.
        """
        fields = record.object()
        usage = fields.get("usage")
        if "usage" not in fields and _object(fields) not in _OBJECTS:
            raise EventRejected(RejectReason.MISSING_FIELD, f"no {self.title}: it has no usage")
        arrived, completed, e2e = _times(fields)
        if (arrived is None) + (completed is None) + (e2e is None) > 1:
            kind = f"OpenAI {fields['object']} object" if text(fields.get("object")) else self.title
            has = [n for n in (*_ARRIVED, *_COMPLETED, *_SECONDS, *_MILLISECONDS) if fields.get(n) is not None]
            raise EventRejected(
                RejectReason.MISSING_FIELD,
                f"{kind} without a duration: add completed_at or duration_ms (it has {', '.join(has) or 'no time'})",
            )
        return Decoded((self._event(record, usage if isinstance(usage, dict) else {}, (arrived, completed, e2e)),))

    def _event(
        self, record: RawRecord, usage: Mapping[str, Any], times: tuple[_Time, _Time, float | None]
    ) -> dict[str, Any]:
        fields = record.object()
        name = text(first_of(fields, "id", "request_id"))
        details = first_of(usage, "prompt_tokens_details", "input_tokens_details")
        output_details = first_of(usage, "completion_tokens_details", "output_tokens_details")
        return {
            "event_id": hashed_id(name, first_of(fields, *_ARRIVED, *_COMPLETED)) if name else record.digest(),
            "request_id": name,
            "model": text(fields.get("model")),
            "pool": text(fields.get("pool")),
            "tenant": text(fields.get("tenant")),
            **dict(zip(("arrived_at", "completed_at", "e2e_seconds"), times, strict=True)),
            "input_tokens": _input_tokens(fields, usage),
            "output_tokens": count(first_of(usage, "completion_tokens", "output_tokens")),
            "cached_input_tokens": count(at(details, "cached_tokens") if details else usage.get(_CACHE_READ)),
            "reasoning_output_tokens": count(at(output_details, "reasoning_tokens")),
            "ttft_seconds": _ttft(fields),
            "status": _status(fields),
            "operation": _OBJECTS.get(_object(fields)),
            "stream": fields.get("stream"),
            "source": self.name,
        }


def _object(fields: dict[str, Any]) -> str:
    return text(fields.get("object")) or ""


def _input_tokens(fields: dict[str, Any], usage: Mapping[str, Any]) -> Any:
    """The whole prompt. Anthropic's messages (which vLLM and SGLang serve too) count cached parts beside it."""
    tokens = count(first_of(usage, "prompt_tokens", "input_tokens"))
    if fields.get("type") != "message" or tokens is None:
        return tokens
    return tokens + sum(count(usage.get(name)) or 0 for name in (_CACHE_READ, "cache_creation_input_tokens"))


def _first_time(fields: dict[str, Any], names: tuple[str, ...]) -> _Time:
    """The first time that is there; text that is none stays, for the refusal to say what is wrong with it."""
    told = [value for name in names if (value := fields.get(name)) is not None]
    found = next((seconds for value in told if (seconds := time(value)) is not None), None)
    return found if found is not None else next(filter(text, told), None)


def _times(fields: dict[str, Any]) -> tuple[_Time, _Time, float | None]:
    arrived, completed = _first_time(fields, _ARRIVED), _first_time(fields, _COMPLETED)
    e2e = number(first_of(fields, *_SECONDS))
    if e2e is None:
        e2e = milliseconds(first_of(fields, *_MILLISECONDS))
    if e2e is None:
        e2e = _vllm_duration(fields.get("metrics"))
    return arrived, completed, e2e


def _vllm_duration(metrics: Any) -> float | None:
    """The whole of vLLM's ``--enable-per-request-metrics``: waiting, then to the first token from there, then the rest.

    Its ``time_to_first_token_ms`` runs from scheduling, not from arrival.
    """
    parts = [milliseconds(at(metrics, n)) for n in ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms")]
    return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


def _ttft(fields: dict[str, Any]) -> float | None:
    ttft = number(first_of(fields, *_TTFT_SECONDS))
    if ttft is None:
        ttft = milliseconds(first_of(fields, *_TTFT_MILLISECONDS))
    if ttft is not None:
        return ttft
    waited, first = (milliseconds(at(fields.get("metrics"), n)) for n in ("queue_time_ms", "time_to_first_token_ms"))
    return None if waited is None or first is None else waited + first


def _status(fields: dict[str, Any]) -> str:
    error = fields.get("error")
    if isinstance(error, dict):
        return status_of_error((error.get("code"), error.get("type")))
    code = count(first_of(fields, "status_code", "http_status"))
    status = fields.get("status")
    if code is None and status is not None and not isinstance(status, bool):
        code = count(str(status)[:3])  # "429 Too Many Requests"
    if code is not None and code >= 400:
        return status_of_http(code) or "error"
    if text(error):
        return status_of_error((error,))
    if status is None or code is not None:
        return "ok"
    told = str(status).lower()
    return _STATUSES.get(told) or status_of_error((told,))
