"""The experts of a pool, one file each."""

from __future__ import annotations

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.ewma import Ewma
from pipeline.forecast.experts.holt_winters import SeasonalHoltWinters
from pipeline.forecast.experts.last_value import LastValue
from pipeline.forecast.experts.least_squares import LeastSquares
from pipeline.forecast.experts.profile_level import ProfileLevel
from pipeline.forecast.experts.river_guard import RiverGuard
from pipeline.forecast.experts.seasonal_increment import SeasonalIncrement
from pipeline.forecast.experts.seasonal_naive import SeasonalNaive
from pipeline.forecast.experts.weekly_profile import Consensus, DayMedian, WeeklyMean

__all__ = [
    "Consensus",
    "DayMedian",
    "Ewma",
    "Expert",
    "LastValue",
    "LeastSquares",
    "ProfileLevel",
    "RiverGuard",
    "SeasonalHoltWinters",
    "SeasonalIncrement",
    "SeasonalNaive",
    "WeeklyMean",
    "default_experts",
]


def default_experts(context: SeriesContext) -> tuple[Expert, ...]:
    """The experts of every series, the last value first (the pool scales losses by it)."""
    return (
        LastValue(context),
        SeasonalNaive(context),
        SeasonalIncrement(context),
        Ewma(context, 0.5),
        ProfileLevel(context),
        WeeklyMean(context),
        DayMedian(context),
        Consensus(context),
        SeasonalHoltWinters(context, multiplicative=True),
        RiverGuard(context),
        *LeastSquares.several(context, ((False, 0.9995), (True, 0.9998))),
    )
