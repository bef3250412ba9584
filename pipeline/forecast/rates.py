"""Rates of one closed window, in the units of the forecasts."""

from __future__ import annotations

from pipeline.forecast.types import Signal
from pipeline.windows.types import ClosedWindow

__all__ = ["counted_seconds", "signal_rates"]

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
    seconds = counted_seconds(window)
    return {
        Signal.REQUESTS.value: window.requests / seconds,
        Signal.PREFILL_TOKENS.value: max(0, window.input_tokens - window.cached_input_tokens) / seconds,
        Signal.DECODE_TOKENS.value: window.output_tokens / seconds,
        Signal.KV_TOKENS.value: window.kv_token_milliseconds / 1000 / seconds,
    }
