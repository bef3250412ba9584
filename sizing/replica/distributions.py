"""Percentiles: of lengths from their moments, of latencies from lengths, waiting and a fluctuating batch.

Below saturation tails of TTFT come from the spread of prompt lengths, not from waiting (measured on vLLM and
TGI-like engines: docs/sizing.md), so a percentile is never a mean times a constant.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from sizing.errors import InvalidInput

__all__ = [
    "Percentile",
    "combine_deviations",
    "decode_spread",
    "length_quantile",
    "normal_quantile",
    "percentile",
    "squared_variation",
]

_NORMAL = NormalDist()


@lru_cache(maxsize=64)
def normal_quantile(level: float) -> float:
    """Return the standard normal quantile at ``level`` in (0, 1).

    Raises:
        InvalidInput: ``level`` is not in (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise InvalidInput(f"a percentile must be in (0, 1), not {level!r}")
    return _NORMAL.inv_cdf(level)


def squared_variation(mean: float, mean_of_squares: float | None) -> float:
    """Return variance / mean²; 0 for constant lengths (None), and when rounding makes E[x²] < E[x]²."""
    if mean_of_squares is None or mean <= 0:
        return 0.0
    return max(mean_of_squares / (mean * mean) - 1.0, 0.0)


def length_quantile(mean: float, mean_of_squares: float | None, level: float) -> float:
    """Return the ``level`` quantile of a lognormal with these moments, in the unit of ``mean``."""
    sigma_squared = math.log1p(squared_variation(mean, mean_of_squares))
    sigma = math.sqrt(sigma_squared)
    return mean * math.exp(sigma * normal_quantile(level) - sigma_squared / 2.0)


def decode_spread(utilisation: float, level: float) -> float:
    """Return time per output token at percentile ``level`` over its mean, from prefill interleaved with decoding.

    p99 over mean measured at evenly spaced arrivals with chunked prefill: 1.04 at 20 % of capacity, 1.23 at capacity
    (llm-inferno/model-trainer commit 047f0ae0b9, 16 shapes; linear in between). Other levels by normal quantiles; 1 at
    and below the median.
    """
    at_p99 = 0.04 + 0.19 * min(max((utilisation - 0.2) / 0.8, 0.0), 1.0)
    return 1.0 + at_p99 * max(normal_quantile(level), 0.0) / normal_quantile(0.99)


class Percentile(NamedTuple):
    """What latencies at one percentile have in common, whatever the load.

    ``long_tokens`` are the computed tokens of a prompt that long, ``deviation`` is the standard normal quantile,
    ``within`` where in a step a request arrives (in steps, from the middle), ``overhead_seconds`` the quantile of what
    clients, HTTP and tokenisation take, less its mean.
    """

    long_tokens: float
    deviation: float
    within: float
    overhead_seconds: float


def percentile(level: float, long_tokens: float, mean_overhead_seconds: float) -> Percentile:
    """Return the percentile at ``level`` in (0, 1); the overhead is exponential, as irregular as a short queue."""
    overhead = mean_overhead_seconds * (-math.log1p(-level) - 1.0)
    return Percentile(long_tokens, normal_quantile(level), level - 0.5, overhead)


def combine_deviations(*deviations: float) -> float:
    """Return the deviation from the mean of a sum of independent parts, given theirs at the same level.

    The signed root of the sum of signed squares: exact for normal parts, monotone in every part.

    >>> combine_deviations(3.0, 4.0)
    5.0
    """
    total = 0.0
    for deviation in deviations:
        total += deviation * abs(deviation)
    if not math.isfinite(total) and any(map(math.isinf, deviations)):
        return math.inf
    return math.copysign(math.sqrt(abs(total)), total)
