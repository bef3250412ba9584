"""From what vLLM says of a finished request to a request event. Pure; vLLM itself is not imported.

Field names are those of ``vllm.v1.metrics.stats.FinishedRequestStats`` (run with vLLM 0.32; its docstring calls
them unstable, so each is optional here).
"""

from __future__ import annotations

import re
from typing import Any

from tokentide_emitter.event import is_time

__all__ = ["FINISH_STATUS", "request_fields", "request_key"]

#: vLLM's finish reasons as statuses of an event.
FINISH_STATUS = {"stop": "ok", "length": "ok", "repetition": "ok", "abort": "cancelled", "error": "error"}
#: How vLLM's front end builds its ids from X-Request-Id: ``chatcmpl-<id>``, ``cmpl-<id>-<prompt number>``.
_REQUEST_ID = re.compile(r"(?:chatcmpl|cmpl)-(?P<id>.+?)(?P<number>-\d+)?")


def request_fields(finished: Any, completed_at: float) -> dict[str, Any]:
    """Return the event fields of one ``FinishedRequestStats`` that finished at ``completed_at`` (epoch seconds).

    TTFT is end-to-end time less decoding time: queue plus prefill would leave out tokenisation and the front end's
    queue. Queue and prefill times are dropped when they exceed the request itself: without engine statistics
    (``--disable-log-stats``) the scheduling time stays 0 and ``prefill_time`` is the uptime of the host.
    """
    e2e = getattr(finished, "e2e_latency", None)
    decode = getattr(finished, "decode_time", None)
    queue, prefill = getattr(finished, "queued_time", None), getattr(finished, "prefill_time", None)
    output = getattr(finished, "num_generation_tokens", None)
    reason = str(getattr(finished, "finish_reason", "")).lower()
    sound = is_time(e2e) and is_time(decode) and decode <= e2e
    measured = sound and is_time(queue) and is_time(prefill) and queue + prefill <= e2e
    status = FINISH_STATUS.get(reason, "error")
    return {
        "completed_at": completed_at,
        "e2e_seconds": e2e,
        "ttft_seconds": e2e - decode if sound and output else None,
        "queue_seconds": queue if measured else None,
        "prefill_seconds": prefill if measured else None,
        "decode_seconds": decode if sound else None,
        "input_tokens": getattr(finished, "num_prompt_tokens", None),
        "output_tokens": output,
        "cached_input_tokens": getattr(finished, "num_cached_tokens", None),
        "preemptions": getattr(finished, "num_preemptions", None),
        "max_output_tokens": getattr(finished, "max_tokens_param", None),
        "finish_reason": reason or None,
        "request_id": getattr(finished, "request_id", None),
        "status": status,
    }


def request_key(request_id: str | None) -> tuple[str, ...]:
    """Return the X-Request-Ids that ``request_id`` may have been made from, the likelier first."""
    match = _REQUEST_ID.fullmatch(request_id or "")
    if match is None:
        return ()
    whole = match["id"] + (match["number"] or "")
    return (match["id"], whole) if match["number"] else (whole,)
