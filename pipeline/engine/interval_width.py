"""How wide the interval of the advice on one pool is told, so that it holds what it is said to hold.

The width follows a quantile tracker: a need outside of the interval widens it, one inside narrows it a little, by steps
that balance where the nominal share is inside (Gibbs and Candès 2021, "Adaptive conformal inference under distribution
shift"; on the width instead of the level, which has no bound at which a miss teaches nothing: Angelopoulos, Candès and
Tibshirani 2023, "Conformal PID control for time series prediction"). Whole numbers of replicas can hold more than the
nominal share at any width.
"""

from __future__ import annotations

import math

from sizing.planning.interval import interval_level, width_ratio

__all__ = ["GAIN", "NOMINAL_LEVEL", "IntervalWidth"]

#: Share of the needs that should lie in [lower, upper].
NOMINAL_LEVEL = 0.9
#: How much of an error of the coverage goes into the logarithm of the width, and its bounds over the plan's own width.
GAIN = 0.05
_RATIOS = (0.2, 8.0)


class IntervalWidth:
    """The width for one pool. Pickles, and continues identically afterwards."""

    def __init__(self) -> None:
        self.ratio = width_ratio(NOMINAL_LEVEL)  # over the width of the plan's own interval

    def learn(self, covered: bool) -> None:
        """Learn whether one need lay in the interval that was told for it."""
        step = GAIN * ((not covered) - (1.0 - NOMINAL_LEVEL))
        self.ratio = min(max(self.ratio * math.exp(step), _RATIOS[0]), _RATIOS[1])

    def evidence(self) -> dict[str, float]:
        """The level that is meant, and the one that the interval of the plan is taken at to come to it."""
        return {"interval_nominal_ratio": NOMINAL_LEVEL, "interval_level_ratio": interval_level(self.ratio)}
