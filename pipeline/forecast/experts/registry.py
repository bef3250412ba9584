"""Experts by name, for pools other than the default one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.damped_holt import DampedHolt
from pipeline.forecast.experts.echo_state import EchoState
from pipeline.forecast.experts.ewma import Ewma
from pipeline.forecast.experts.external import ExternalExpert
from pipeline.forecast.experts.holt_winters import SeasonalHoltWinters
from pipeline.forecast.experts.kalman_trend import KalmanTrend
from pipeline.forecast.experts.last_value import LastValue
from pipeline.forecast.experts.least_squares import LeastSquares
from pipeline.forecast.experts.profile_level import ProfileLevel
from pipeline.forecast.experts.river_guard import RiverGuard
from pipeline.forecast.experts.river_models import adaptive_forest, bayesian_linear, snarimax
from pipeline.forecast.experts.river_regressor import RiverRegressor
from pipeline.forecast.experts.scheduled_refit import ScheduledRefit
from pipeline.forecast.experts.seasonal_increment import SeasonalIncrement
from pipeline.forecast.experts.seasonal_naive import SeasonalNaive
from pipeline.forecast.experts.weekly_profile import Consensus, DayMedian, WeeklyMean, WeeklyProfile

__all__ = ["EXPERTS", "make_experts"]

_FORGETTING = (0.999, 0.9995, 0.9998)

#: What each name adds to a pool.
EXPERTS: dict[str, Callable[[SeriesContext], Sequence[Expert]]] = {
    "last": lambda context: (LastValue(context),),
    "seasonal_naive": lambda context: (SeasonalNaive(context),),
    "seasonal_increment": lambda context: (SeasonalIncrement(context),),
    "ewma": lambda context: tuple(Ewma(context, rate) for rate in (0.5, 0.2, 0.05)),
    "profile_level": lambda context: (ProfileLevel(context),),
    "weekly_profile": lambda context: (WeeklyProfile(context),),
    "weekly_mean": lambda context: (WeeklyMean(context),),
    "day_median": lambda context: (DayMedian(context),),
    "consensus": lambda context: (Consensus(context),),
    "damped_holt": lambda context: (DampedHolt(context),),
    "holt_winters_additive": lambda context: (SeasonalHoltWinters(context, multiplicative=False),),
    "holt_winters_multiplicative": lambda context: (SeasonalHoltWinters(context, multiplicative=True),),
    "kalman_trend": lambda context: (KalmanTrend(context),),
    "least_squares": lambda context: LeastSquares.several(context, ((False, 0.9995), (True, 0.9998))),
    "least_squares_three_speeds": lambda context: LeastSquares.several(
        context, [(logarithmic, forgetting) for logarithmic in (False, True) for forgetting in _FORGETTING]
    ),
    "echo_state": lambda context: (EchoState(context),),
    "river_holt": lambda context: (RiverGuard(context),),
    "river_snarimax": lambda context: (RiverGuard(context, snarimax, "river_snarimax"),),
    "river_bayesian_linear": lambda context: (RiverRegressor(context, bayesian_linear, "river_bayesian_linear"),),
    "river_adaptive_forest": lambda context: (RiverRegressor(context, adaptive_forest, "river_adaptive_forest"),),
    # These need the extra ``statsforecast``.
    "auto_ets": lambda context: (ScheduledRefit(context, "auto_ets"),),
    "auto_arima": lambda context: (ScheduledRefit(context, "auto_arima"),),
    "external": lambda context: (ExternalExpert(context),),
}


def make_experts(context: SeriesContext, names: Sequence[str]) -> tuple[Expert, ...]:
    """The experts of ``names``, in that order, the last value put first where it is missing.

    Pass ``functools.partial(make_experts, names=…)`` as the ``experts`` of a ``SeriesForecaster``.

    Raises:
        ValueError: a name that does not exist; the text lists those that do.
    """
    unknown = sorted(set(names) - EXPERTS.keys())
    if unknown:
        raise ValueError(f"no experts are called {', '.join(unknown)}; there are {', '.join(EXPERTS)}")
    ordered = ("last", *(name for name in names if name != "last"))
    return tuple(expert for name in ordered for expert in EXPERTS[name](context))
