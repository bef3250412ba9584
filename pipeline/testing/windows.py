"""Closed windows out of a rate and mean lengths."""

from __future__ import annotations

from typing import Any

from pipeline.windows.types import ClosedWindow

__all__ = ["closed_window"]


def closed_window(
    start: int,
    requests: int,
    *,
    model: str = "m",
    pool: str = "p",
    input_tokens: int = 800,
    output_tokens: int = 200,
    e2e_milliseconds: int = 4_000,
    **fields: Any,
) -> ClosedWindow:
    """Return a window of one minute whose requests are all alike and all answered.

    ``input_tokens``, ``output_tokens`` and ``e2e_milliseconds`` are per request; a request holds its input and half of
    its output in the KV cache while it lasts, and an eighth of its input was in the prefix cache. ``fields`` replaces
    any field of the window.

    >>> window = closed_window(0, 60, rejected=3)
    >>> window.output_tokens, window.rejected
    (12000, 3)
    """
    values: dict[str, Any] = {
        "grain_seconds": 60,
        "ok": requests,
        "rejected": 0,
        "input_tokens": requests * input_tokens,
        "cached_input_tokens": requests * (input_tokens // 8),
        "output_tokens": requests * output_tokens,
        "input_tokens_squared": requests * input_tokens**2,
        "output_tokens_squared": requests * output_tokens**2,
        "input_output_product": requests * input_tokens * output_tokens,
        "kv_token_milliseconds": requests * (input_tokens + output_tokens // 2) * e2e_milliseconds,
        "inflight_milliseconds": requests * e2e_milliseconds,
        "preemptions": 0,
    }
    return ClosedWindow(start=start, requests=requests, model=model, pool=pool, **(values | fields))
