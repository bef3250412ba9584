"""The interval of a need, wider or narrower than at 10 % and 90 %."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["PLANNED_LEVEL", "interval_level", "scaled_interval", "width_ratio"]

#: Share of the errors that a plan's own interval is to hold: from 10 % to 90 %.
PLANNED_LEVEL = 0.8
#: Logarithms of numbers that a float still holds.
_MOST_LOG = 700.0


def width_ratio(level: float) -> float:
    """Return how many times as wide as at ``PLANNED_LEVEL`` the interval of a normal error at ``level`` is.

    >>> round(width_ratio(0.9), 3)
    1.283
    """
    return NormalDist().inv_cdf(0.5 + level / 2) / NormalDist().inv_cdf(0.5 + PLANNED_LEVEL / 2)


def interval_level(ratio: float) -> float:
    """Return the level at which the interval is ``ratio`` times as wide: the inverse of ``width_ratio``."""
    return 2 * NormalDist().cdf(ratio * NormalDist().inv_cdf(0.5 + PLANNED_LEVEL / 2)) - 1


def scaled_interval(lower: float, median: float, upper: float, ratio: float) -> tuple[float, float]:
    """Return the bounds of a need whose distances from the median are ``ratio`` times as long.

    Distances are logarithmic, as errors of demand and step times are, or linear where the lower bound is 0.
    """
    if lower > 0 and upper < math.inf:
        below, above = (math.log(bound) - math.log(median) for bound in (lower, upper))
        return median * math.exp(ratio * below), median * math.exp(min(ratio * above, _MOST_LOG))
    return max(median - ratio * (median - lower), 0.0), median + ratio * (upper - median)
