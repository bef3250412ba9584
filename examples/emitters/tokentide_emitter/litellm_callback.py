"""LiteLLM proxy callback: one event per call, from the proxy's StandardLoggingPayload (run with LiteLLM 1.106).

    # config.yaml of the proxy
    litellm_settings:
      callbacks: tokentide_emitter.litellm_callback.handler

Only the fields that an event has are read; prompts, answers, keys, names and addresses in the payload are not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tokentide_emitter.event import finished_event, http_outcome, is_time
from tokentide_emitter.sink import shared_sink

try:
    from litellm.integrations.custom_logger import CustomLogger
except ImportError:  # outside of LiteLLM, in tests
    CustomLogger = object

__all__ = ["TokentideLogger", "event_fields", "handler"]

_log = logging.getLogger("tokentide_emitter")


def event_fields(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the event fields of a StandardLoggingPayload; None for a call that no model worked on (cache hit).

    Facts behind the mapping: all attempts of one call (retry, fallback) share ``litellm_call_id``, so start and outcome
    are part of the event's id. A stream that its client left is a "success" with error code 499. Failed calls state 0
    tokens, which means unknown. ``completionStartTime`` equals ``endTime`` for answers that were not streamed.
    """
    if payload.get("cache_hit") is True:
        return None
    start, end, first = payload["startTime"], payload["endTime"], payload.get("completionStartTime")
    error = payload.get("error_information") or {}
    metadata = payload.get("metadata") or {}
    usage = metadata.get("usage_object") or {}
    status = _status(payload["status"], str(error.get("error_code") or ""), str(error.get("error_class") or ""))
    failed = payload["status"] != "success"
    code = str(error.get("error_code") or "")
    streamed = bool(payload.get("stream"))
    has_first = streamed and isinstance(first, float) and start <= first < end
    return {
        "event_id": f"litellm-{payload.get('litellm_call_id')}-{int(start * 1000)}-{payload['status']}",
        "request_id": payload.get("id"),
        "model": payload.get("model_group") or payload.get("model"),
        "operation": payload.get("call_type"),
        "arrived_at": start,
        "completed_at": max(start, end),
        "e2e_seconds": end - start if is_time(end - start) else None,
        "ttft_seconds": first - start if has_first else None,
        "input_tokens": _tokens(payload.get("prompt_tokens"), unknown_zero=failed),
        "output_tokens": _tokens(payload.get("completion_tokens"), unknown_zero=failed),
        "cached_input_tokens": _tokens((usage.get("prompt_tokens_details") or {}).get("cached_tokens")),
        "reasoning_output_tokens": _tokens((usage.get("completion_tokens_details") or {}).get("reasoning_tokens")),
        "max_output_tokens": _tokens((payload.get("model_parameters") or {}).get("max_tokens")),
        "stream": streamed,
        "status": status,
        "http_status": int(code) if code.isdigit() else None,
        "error_type": error.get("error_class") or None,
        "tenant": metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id"),
        "engine": payload.get("custom_llm_provider"),
        "source": "litellm",
    }


def _status(outcome: str, code: str, error_class: str) -> str:
    by_code = http_outcome(int(code)) if code.isdigit() else None
    if code.isdigit() and by_code != "ok":
        return by_code or "error"
    if outcome == "success":
        return "ok"
    return "timeout" if "Timeout" in error_class else "error"


def _tokens(value: Any, *, unknown_zero: bool = False) -> int | None:
    if type(value) is not int or value < 0 or (value == 0 and unknown_zero):
        return None
    return value


class TokentideLogger(CustomLogger):
    """Emits every finished call; a mistake here never fails a call."""

    def __init__(self) -> None:
        super().__init__()
        self._failed = False

    def _take(self, arguments: Mapping[str, Any]) -> None:
        sink, payload = shared_sink(), arguments.get("standard_logging_object")
        if sink is None or payload is None:
            return
        try:
            fields = event_fields(payload)
            if fields is not None and fields["model"]:
                sink.put(finished_event(fields, {"pool": sink.config.pool, **sink.config.labels}))
        except Exception:
            if not self._failed:
                _log.exception("request events are missing: this version of LiteLLM reports calls otherwise")
            self._failed = True

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        """Called by the proxy after a call that succeeded."""
        self._take(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        """Called by the proxy after a call that failed."""
        self._take(kwargs)


handler = TokentideLogger()
