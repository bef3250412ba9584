"""Rates of one closed window, in the units of the forecasts."""

from __future__ import annotations

from pipeline.forecast.model import Signal
from pipeline.windows.model import ClosedWindow

__all__ = ["signal_rates"]


def signal_rates(window: ClosedWindow) -> dict[str, float | None]:
    """Return the demand rates of a window by signal name; all None when the window is a telemetry gap.

    Counts are divided by the completeness estimate, so that they compare with what the forecasters learned.
    """
    if window.gap:
        return dict.fromkeys((signal.value for signal in Signal), None)
    seconds = window.grain_seconds * window.completeness
    if not seconds > 0:
        return dict.fromkeys((signal.value for signal in Signal), None)
    return {
        Signal.REQUESTS.value: window.requests / seconds,
        Signal.PREFILL_TOKENS.value: max(0, window.input_tokens - window.cached_input_tokens) / seconds,
        Signal.DECODE_TOKENS.value: window.output_tokens / seconds,
        Signal.KV_TOKENS.value: window.kv_token_milliseconds / 1000 / seconds,
    }
