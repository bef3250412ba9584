"""Experts by name: those of this distribution, and those that others register as entry points ``tokentide.experts``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.errors import ConfigError
from pipeline.extensions import available, load_extension
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts import default_experts
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.batch_regressor import BatchRegressor
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

__all__ = ["EXPERTS", "GROUP", "check_expert_names", "expert_factory", "expert_names", "make_experts"]

#: Entry point group in which other distributions register experts: functions of a context that return experts.
GROUP = "tokentide.experts"

_FORGETTING = (0.999, 0.9995, 0.9998)

#: What each name adds to a pool.
EXPERTS: dict[str, Callable[[SeriesContext], Sequence[Expert]]] = {
    "default": default_experts,
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
    # This needs the extra ``prophet``.
    "prophet": lambda context: (ScheduledRefit(context, "prophet"),),
    # These need the extra ``batch``.
    "gradient_boosting": lambda context: (BatchRegressor(context, "gradient_boosting"),),
    "lightgbm": lambda context: (BatchRegressor(context, "lightgbm"),),
    "external": lambda context: (ExternalExpert(context),),
}


def expert_names() -> list[str]:
    """Return the names that can be chosen; ``default`` stands for the pool that every series has otherwise."""
    return available(GROUP, EXPERTS)


def make_experts(context: SeriesContext, names: Sequence[str]) -> tuple[Expert, ...]:
    """Return the experts of ``names`` in that order, the last value first, each expert once.

    Raises:
        ConfigError: a name does not exist, or its distribution fails to import; the text lists those that exist.
        ValueError: an expert needs a library that is not installed.
    """
    made: dict[str, Expert] = {}
    for name in ("last", *names):
        factory: Callable[[SeriesContext], Sequence[Expert]] = load_extension(GROUP, name, EXPERTS, "expert")
        for expert in factory(context):
            made.setdefault(expert.name, expert)
    return tuple(made.values())


def expert_factory(names: Sequence[str]) -> Callable[[SeriesContext], Sequence[Expert]]:
    """Return the ``experts`` of a ``SeriesForecaster`` for the setting ``forecast.experts``."""
    return default_experts if tuple(names) == ("default",) else partial(make_experts, names=tuple(names))


def check_expert_names(names: Sequence[str]) -> None:
    """Make the experts of ``names`` once, so that a mistake is found before anything starts.

    Raises:
        ConfigError: there are none, a name does not exist, or an expert needs a library that is not installed.
    """
    if not names:
        raise ConfigError("at least one expert is needed")
    try:
        make_experts(SeriesContext((1,), 48, 1800.0), names)
    except ValueError as error:
        raise ConfigError(str(error)) from error
