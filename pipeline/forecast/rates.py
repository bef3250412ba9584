"""Rates of one closed window, in the units of the forecasts."""

from __future__ import annotations

from pipeline.forecast.types import Signal
from pipeline.windows.types import ClosedWindow

__all__ = ["counted_seconds", "signal_rates", "summed_rates"]

_REQUESTS, _PREFILL, _DECODE, _KV = (
    signal.value for signal in (Signal.REQUESTS, Signal.PREFILL_TOKENS, Signal.DECODE_TOKENS, Signal.KV_TOKENS)
)

#: Below this completeness the correction would multiply noise; the window is read as if it were this complete.
LEAST_COMPLETENESS = 0.2


def counted_seconds(window: ClosedWindow) -> float:
    """Return by what the sums of a window are divided: its length, cut by what had not been reported at closing."""
    return window.grain_seconds * max(window.completeness, LEAST_COMPLETENESS)


def signal_rates(window: ClosedWindow) -> dict[str, float | None]:
    """Return the demand rates of a window by signal name; all None when the window is a telemetry gap.

    Counts are divided by the completeness estimate, so that they compare with what the forecasters learned.
    """
    if window.gap:
        return dict.fromkeys((signal.value for signal in Signal), None)
    return summed_rates(
        counted_seconds(window),
        window.requests,
        window.input_tokens,
        window.cached_input_tokens,
        window.output_tokens,
        window.kv_token_milliseconds,
    )


def summed_rates(
    seconds: float,
    requests: int,
    input_tokens: int,
    cached_input_tokens: int,
    output_tokens: int,
    kv_token_milliseconds: int,
) -> dict[str, float | None]:
    """Return the demand rates by signal name of what was counted in so many seconds."""
    return {
        _REQUESTS: requests / seconds,
        _PREFILL: max(0, input_tokens - cached_input_tokens) / seconds,
        _DECODE: output_tokens / seconds,
        _KV: kv_token_milliseconds / 1000 / seconds,
    }
