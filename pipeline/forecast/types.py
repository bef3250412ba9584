"""The nouns of forecasting: signals, quantile levels, one forecast.

Every window of a pool makes dozens of forecasts and scores, which as structures of msgspec cost a fifth of what frozen
dataclasses do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

__all__ = ["LEVELS", "Forecast", "Score", "SeriesKey", "Signal"]

#: Quantile levels of every forecast, ascending.
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


class Signal(StrEnum):
    """What is forecast for a pool; every value is a rate over the window."""

    REQUESTS = "requests_per_second"
    PREFILL_TOKENS = "prefill_tokens_per_second"  # uncached input tokens
    DECODE_TOKENS = "decode_tokens_per_second"
    KV_TOKENS = "kv_tokens"  # token-seconds per second = mean resident tokens


class SeriesKey(NamedTuple):
    """One series: a signal of a pool."""

    model: str
    pool: str
    signal: str


class Forecast(msgspec.Struct, frozen=True, gc=False):
    """Quantiles of one series at one horizon, issued at ``issued_at`` for the window ending at ``target_at``.

    Times are epoch seconds; ``quantiles`` are values at ``LEVELS``, finite, non-negative and ascending.
    """

    series: SeriesKey
    issued_at: float
    horizon_seconds: int
    quantiles: tuple[float, ...]

    @property
    def target_at(self) -> float:
        """The time that the forecast is about, epoch seconds."""
        return self.issued_at + self.horizon_seconds


class Score(msgspec.Struct, frozen=True, gc=False):
    """How good matured forecasts of one series at one horizon have been (exponentially forgotten).

    Ratios: ``wape`` of the median, ``coverage_90`` of [q05, q95], ``coverage_95`` of q95 as an upper bound, and the
    same over windows in the top decile of demand (``coverage_95_busy``; by the mean of three windows, so that noise
    does not choose them) and in the hour after a spike (``coverage_95_after_spike``: a value above 1.5 times the mean
    of thirty windows and above the 0.99 quantile of the nearest horizon). ``regret`` is the loss over that of the best
    expert, less one; negative where the pool is better than each of them. None until something matured.
    """

    series: SeriesKey
    horizon_seconds: int
    matured: int
    wape: float | None
    coverage_90: float | None
    coverage_95: float | None
    pinball_95: float | None
    coverage_95_busy: float | None = None
    coverage_95_after_spike: float | None = None
    regret: float | None = None
