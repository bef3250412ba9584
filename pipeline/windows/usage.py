"""Token sums of a window in which some requests' usage is unknown.

A refused or cancelled request is demand like any other, but nobody counted its tokens. Its share is filled in with the
mean of the window's other requests, so that neither means per request nor token rates fall when refusals come.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.windows.types import ClosedWindow

__all__ = ["with_usage_of_all"]


def with_usage_of_all(window: ClosedWindow) -> ClosedWindow:
    """Return the window with its token sums scaled from the requests of known usage to all of them.

    Sums over both token counts are scaled by the larger share that is unknown. A window without any known usage stays
    as it is: there is nothing to go by.

    >>> w = ClosedWindow(0, 60, "m", "p", 10, 8, 2, 800, 80, 400, 80_000, 20_000, 40_000, 900, 1, 0)
    >>> filled = with_usage_of_all(replace(w, input_tokens_unknown=2, output_tokens_unknown=2))
    >>> filled.input_tokens, filled.output_tokens, filled.requests, filled.input_tokens_unknown
    (1000, 500, 10, 0)
    """
    unknown_in, unknown_out = window.input_tokens_unknown, window.output_tokens_unknown
    if not (unknown_in or unknown_out):
        return window
    inputs = _scale(window.requests, unknown_in)
    outputs = _scale(window.requests, unknown_out)
    both = max(inputs, outputs)
    return replace(
        window,
        input_tokens=round(window.input_tokens * inputs),
        cached_input_tokens=round(window.cached_input_tokens * inputs),
        input_tokens_squared=round(window.input_tokens_squared * inputs),
        output_tokens=round(window.output_tokens * outputs),
        output_tokens_squared=round(window.output_tokens_squared * outputs),
        input_output_product=round(window.input_output_product * both),
        kv_token_milliseconds=round(window.kv_token_milliseconds * both),
        input_tokens_unknown=0,
        output_tokens_unknown=0,
    )


def _scale(requests: int, unknown: int) -> float:
    return requests / (requests - unknown) if 0 < unknown < requests else 1.0
