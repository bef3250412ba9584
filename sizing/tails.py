"""Percentiles: of lengths from their moments, of latencies from lengths, waiting and a fluctuating batch.

Below saturation tails of TTFT come from the spread of prompt lengths, not from waiting (measured on vLLM and
TGI-like engines: docs/sizing.md), so a percentile is never a mean times a constant.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from sizing.errors import InvalidInput

__all__ = ["combine_deviations", "length_quantile", "normal_quantile", "squared_variation"]

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


def combine_deviations(*deviations: float) -> float:
    """Return the deviation from the mean of a sum of independent parts, given theirs at the same level.

    The signed root of the sum of signed squares: exact for normal parts, monotone in every part.

    >>> combine_deviations(3.0, 4.0)
    5.0
    """
    if any(math.isinf(deviation) for deviation in deviations):
        return math.inf
    total = sum(math.copysign(deviation * deviation, deviation) for deviation in deviations)
    return math.copysign(math.sqrt(abs(total)), total)
