"""LiteLLM's StandardLoggingPayload: what its callbacks and its generic webhook hand over per request.

Checked against LiteLLM 1.106 (``litellm/types/utils.py``, ``StandardLoggingPayload``). Meanings that differ from their
names: ``completionStartTime`` is the first token of a streamed request and the end of any other; ``response_time`` is
TTFT where streamed; a client that left a stream is a success with error code 499; a retry or fallback has the same
``litellm_call_id`` as the attempt before it. ``messages``, ``response`` and what names a person are not read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, Fields, RawRecord
from pipeline.events.codecs.values import at, count, hashed_id, seconds_between, status_of_error, text, time
from pipeline.events.request_event import RejectReason

__all__ = ["LiteLlmCodec"]

_MOST_CLASS = 80
_MOST_CALL_TYPE = 256
_OPERATIONS = {
    "completion": "chat",
    "text_completion": "text_completion",
    "embedding": "embeddings",
    "responses": "chat",
}
#: Calls that generate no text on an inference server: routes of the proxy itself, files, moderation, other media.
_NO_REQUESTS = (
    *("file", "batch", "assistant", "thread", "vector_store", "mcp", "moderation", "rerank", "image", "audio", "video"),
    *("transcription", "speech", "ocr", "search", "fine_tuning", "container", "skill", "input_items", "count_tokens"),
)
#: What calls do to stored answers and messages, after the ``a`` of asynchronous ones.
_KEEPING = (
    "get_",
    "list_",
    "delete_",
    "cancel_",
    "retrieve_",
    "update_",
    "add_message",
    "_add_message",
    "send_message",
)


class LiteLlmCodec:
    """One payload per record, or a JSON array of them (``GENERIC_LOGGER`` in ``json_array`` mode)."""

    name = "litellm"
    title = "LiteLLM StandardLoggingPayload"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record has the payload's own names."""
        try:
            parsed = record.json()
        except EventRejected:
            return False
        payloads = parsed if isinstance(parsed, list) else [parsed]
        return any(_is_payload(payload) for payload in payloads)

    def decode(self, record: RawRecord) -> Decoded:
        """Return one event per payload; calls that run no model on a server are ignored.

        Raises:
            EventRejected: it holds no payload.
        """
        parsed = record.json()
        payloads = parsed if isinstance(parsed, list) else [parsed]
        if payloads and not any(_is_payload(payload) for payload in payloads):
            raise EventRejected(
                RejectReason.MISSING_FIELD, f"no {self.title}: it has no call_type, startTime and endTime"
            )
        events: list[Fields] = []
        for i, payload in enumerate(payloads):
            if not _is_payload(payload):
                events.append({})  # refused for what it lacks; the others count
            elif _runs_a_model(payload):
                events.append(_event(payload, f"{record.digest()}-{i}"))
        return Decoded(events, len(payloads) - len(events))


def _is_payload(payload: Any) -> bool:
    return isinstance(payload, dict) and "call_type" in payload and "startTime" in payload and "endTime" in payload


def _runs_a_model(payload: dict[str, Any]) -> bool:
    cached = str(payload.get("cache_hit")).lower() == "true"  # text in the rows of the proxy's spend logs
    return not cached and _call_runs_a_model(str(payload["call_type"])[:_MOST_CALL_TYPE])


@lru_cache(maxsize=256)
def _call_runs_a_model(call_type: str) -> bool:
    call_type = call_type.lower()
    keeping = call_type.startswith(_KEEPING) or call_type.removeprefix("a").startswith(_KEEPING)
    return not (keeping or any(mark in call_type for mark in _NO_REQUESTS))


def _event(payload: dict[str, Any], otherwise: str) -> Fields:
    started, ended = (time(payload[name], naive_is_utc=True) for name in ("startTime", "endTime"))
    status = _status(payload)
    streamed = payload.get("stream") is True
    usage = at(payload, "metadata", "usage_object") or {}
    first = time(payload.get("completionStartTime"), naive_is_utc=True)
    model = text(payload.get("model_group")) or _without_provider(payload)
    known = status == "ok" or bool(count(payload.get("completion_tokens")))
    call = text(payload.get("litellm_call_id")) or text(payload.get("call_id")) or text(payload.get("id"))
    error = payload.get("error_information")
    return {
        "event_id": hashed_id(call, payload["startTime"], status) if call else otherwise,
        "request_id": text(payload.get("id")),
        "trace_id": text(payload.get("trace_id")),
        "model": model,
        "arrived_at": started,
        "completed_at": ended,
        "input_tokens": _tokens(payload, "prompt_tokens") if known else None,
        "output_tokens": _tokens(payload, "completion_tokens") if known else None,
        "cached_input_tokens": count(at(usage, "prompt_tokens_details", "cached_tokens")) if known else None,
        "reasoning_output_tokens": count(at(usage, "completion_tokens_details", "reasoning_tokens")) if known else None,
        "ttft_seconds": seconds_between(started, first) if streamed and status == "ok" else None,
        "status": status,
        "error_type": text(at(error, "error_class")) if status != "ok" else None,
        "http_status": count(at(error, "error_code")) if text(at(error, "error_code")) else None,
        "stream": streamed,
        "max_output_tokens": count(at(payload, "model_parameters", "max_tokens")),
        "n": count(at(payload, "model_parameters", "n")),
        "operation": _OPERATIONS.get(str(payload["call_type"]).removeprefix("a")),
        "tenant": text(at(payload, "metadata", "user_api_key_team_id")),
        "engine": text(payload.get("custom_llm_provider")),
        "source": "litellm",
    }


def _tokens(payload: dict[str, Any], name: str) -> Any:
    """Tokens of a payload; refused where they are no count, as the native codec does."""
    value = payload.get(name)
    return count(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else value


def _without_provider(payload: dict[str, Any]) -> str | None:
    """The model's name without LiteLLM's prefix of the provider."""
    model = text(payload.get("model"))
    provider = text(payload.get("custom_llm_provider"))
    return model.removeprefix(f"{provider}/") if model and provider else model


def _status(payload: dict[str, Any]) -> str:
    error = payload.get("error_information")
    words = [at(error, "error_code"), at(error, "error_class")]
    failed = any(words) or bool(payload.get("error_str"))
    if payload.get("status") == "success" or (payload.get("status") is None and not failed):  # none: older spend logs
        return "cancelled" if str(words[0]) == "499" or words[1] == "ClientDisconnected" else "ok"
    if not any(words):
        words = [str(payload.get("error_str") or "")[:_MOST_CLASS].split(":")[0]]  # "litellm.RateLimitError: …"
    return status_of_error(words)
