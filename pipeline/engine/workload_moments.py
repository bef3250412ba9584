"""What requests of a pool look like: token-length moments and burstiness, learned slowly from closed windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.windows.types import ClosedWindow
from sizing.types import Workload

__all__ = ["ArrivalDispersion", "LengthMoments"]


@dataclass(slots=True)
class LengthMoments:
    """Request-weighted moments of input length n and output length m, forgotten with a half-life.

    A window weighs as much as it holds requests, so a quiet night does not wash out a busy day.
    """

    half_life_seconds: float = 3600.0
    weight: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    input_squared: float = 0.0
    output_squared: float = 0.0
    input_output: float = 0.0
    cached_tokens: float = 0.0

    def learn(self, window: ClosedWindow) -> None:
        """Add one closed window; gaps and empty windows teach nothing and forget nothing."""
        if window.gap or window.requests == 0:
            return
        keep = 0.5 ** (window.grain_seconds / self.half_life_seconds)
        self.weight = keep * self.weight + window.requests
        self.input_tokens = keep * self.input_tokens + window.input_tokens
        self.output_tokens = keep * self.output_tokens + window.output_tokens
        self.input_squared = keep * self.input_squared + window.input_tokens_squared
        self.output_squared = keep * self.output_squared + window.output_tokens_squared
        self.input_output = keep * self.input_output + window.input_output_product
        self.cached_tokens = keep * self.cached_tokens + window.cached_input_tokens

    def workload(self) -> Workload | None:
        """The mean request so far, or None before the first one."""
        if self.weight <= 0 or self.input_tokens + self.output_tokens <= 0:
            return None
        w = self.weight
        return Workload(
            input_tokens=self.input_tokens / w,
            output_tokens=self.output_tokens / w,
            input_tokens_squared=self.input_squared / w,
            output_tokens_squared=self.output_squared / w,
            input_output_product=self.input_output / w,
            cached_share=min(1.0, self.cached_tokens / self.input_tokens) if self.input_tokens else 0.0,
        )


@dataclass(slots=True)
class ArrivalDispersion:
    """Index of dispersion of the counts per window, from successive differences.

    For Poisson counts E[(x' − x)²] = 2λ, so (x' − x)² / (x' + x) has mean 1 whatever the level, and a slow trend hardly
    moves it (von Neumann's mean square successive difference, 1941).

    One pair of windows counts for at most ``ceiling``: swings from one window to the next are provisioned for as demand
    already. A pool counts as Poisson at first, as if ``prior`` pairs had said so: the index is the mean of these and of
    what was seen, until older pairs are forgotten by ``keep``.

    Where rules cannot follow the swings, requests miss the objective. ``missed`` in [0, 1] is how far that is so
    (``SloRecord.shortfall``). By so much the index goes on to ``wide``, where it is more: the same with a pair counted
    for at most ``wide_ceiling`` and always learned at the rate ``1 - keep``, so that the first swings do not decide it.
    """

    ceiling: float = 10.0
    keep: float = 0.98
    prior: float = 5.0
    pairs: int = 0
    value: float = 1.0
    previous: float | None = None
    wide_ceiling: float = 20.0
    wide: float = 1.0
    missed: float = 0.0

    def learn(self, count: float | None) -> None:
        """Add the requests of one window; None (a gap) breaks the succession."""
        if count is not None and self.previous is not None and count + self.previous > 0:
            seen = (count - self.previous) ** 2 / (count + self.previous)
            self.pairs += 1
            rate = max(1.0 - self.keep, 1.0 / (self.pairs + self.prior))
            self.value += rate * (min(self.ceiling, seen) - self.value)
            self.wide += (1.0 - self.keep) * (min(self.wide_ceiling, seen) - self.wide)
        self.previous = count

    def index(self) -> float:
        """The index, at least 1: arrivals smoother than Poisson are not counted on."""
        index = self.value + self.missed * max(self.wide - self.value, 0.0)
        return max(1.0, index) if math.isfinite(index) else 1.0
