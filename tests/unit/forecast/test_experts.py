import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.forecast.checks import check_expert
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts import (
    Ewma,
    Expert,
    LastValue,
    LeastSquares,
    ProfileLevel,
    RiverGuard,
    SeasonalIncrement,
    SeasonalNaive,
    default_experts,
)
from pipeline.forecast.experts.batch_regressor import REGRESSORS
from pipeline.forecast.experts.damped_holt import DampedHolt
from pipeline.forecast.experts.echo_state import EchoState
from pipeline.forecast.experts.external import ExternalExpert
from pipeline.forecast.experts.holt_winters import SeasonalHoltWinters
from pipeline.forecast.experts.kalman_trend import KalmanTrend
from pipeline.forecast.experts.registry import EXPERTS, make_experts
from pipeline.forecast.experts.river_models import adaptive_forest, bayesian_linear, snarimax
from pipeline.forecast.experts.river_regressor import RiverRegressor
from pipeline.forecast.experts.scheduled_refit import MODELS
from pipeline.forecast.experts.weekly_profile import Consensus, DayMedian, WeeklyMean, WeeklyProfile
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

FACTORIES: dict[str, Callable[[SeriesContext], Expert]] = {
    "last": LastValue,
    "seasonal_naive": SeasonalNaive,
    "seasonal_increment": SeasonalIncrement,
    "ewma_fast": lambda context: Ewma(context, 0.5),
    "ewma_slow": lambda context: Ewma(context, 0.05),
    "profile_level": ProfileLevel,
    "river_holt": RiverGuard,
    "least_squares": lambda context: LeastSquares(context, logarithmic=False),
    "least_squares_log": lambda context: LeastSquares(context, logarithmic=True),
    "damped_holt": DampedHolt,
    "holt_winters_additive": lambda context: SeasonalHoltWinters(context, multiplicative=False),
    "holt_winters_multiplicative": lambda context: SeasonalHoltWinters(context, multiplicative=True),
    "weekly_profile": WeeklyProfile,
    "weekly_mean": WeeklyMean,
    "day_median": DayMedian,
    "consensus": Consensus,
    "kalman_trend": KalmanTrend,
    "echo_state": EchoState,
    "external": ExternalExpert,
    "river_snarimax": lambda context: RiverGuard(context, snarimax, "river_snarimax"),
    "river_bayesian_linear": lambda context: RiverRegressor(context, bayesian_linear, "river_bayesian_linear"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_conforms(name):
    check_expert(FACTORIES[name])


@pytest.mark.slow
def test_the_forest_conforms_but_for_its_size():
    check_expert(lambda context: RiverRegressor(context, adaptive_forest, "forest"), state_bytes=2_000_000)


def test_every_default_expert_is_checked():
    context = SeriesContext((1, 3), 48, 1800)
    checked = {type(factory(context)) for factory in FACTORIES.values()}
    assert {type(expert) for expert in default_experts(context)} <= checked
    assert default_experts(context)[0].name == "last"


def test_a_default_expert_has_no_dict_and_one_without_slots_keeps_all_in_it():
    context = SeriesContext((1, 5), 48, 1800.0)
    assert not any(hasattr(expert, "__dict__") for expert in default_experts(context))
    echo = EchoState(context)  # as those of other packages may, it pickles its dict
    assert echo.__dict__["context"] is context
    assert pickle.loads(pickle.dumps(echo)).context.steps.tolist() == [1, 5]


class Stubborn(Expert):
    """Answers 7 whatever it sees, grows, and forgets the horizons."""

    def __init__(self, context, wrong):
        super().__init__(context)
        self.wrong = wrong
        self.seen = []

    @property
    def name(self):
        return "stubborn"

    def learn_one(self, y):
        self.seen.append(y)

    def forecast(self):
        if self.wrong == "nan" and len(self.seen) > 50:
            return np.full(3, np.nan)
        if self.wrong == "shape":
            return np.full(2, self.context.last)
        if self.wrong == "unit":
            return np.full(3, 7.0)
        return self.context.flat(self.context.last)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [("nan", "not finite"), ("shape", "one value per horizon"), ("unit", "unit"), ("grows", "grows")],
)
def test_the_checks_find_what_is_wrong(wrong, message):
    with pytest.raises(AssertionError, match=message):
        check_expert(lambda context: Stubborn(context, wrong))


def feed(expert, values, start=0):
    for index, value in enumerate(values, start):
        expert.context.push(index, value)
        expert.learn_one(value)


def test_seasonal_experts_sleep_until_a_season_was_seen():
    context = SeriesContext((1, 3), 48, 1800)
    naive = SeasonalNaive(context)
    feed(naive, np.arange(48.0))
    assert not naive.awake
    feed(naive, [100.0], 48)
    assert naive.awake
    assert naive.forecast().tolist() == [1.0, 3.0]


class Explodes:
    """A River-shaped model whose forecasts grow beyond all bounds, then fail."""

    def __init__(self):
        self.count = 0

    def learn_one(self, y):
        self.count += 1

    def forecast(self, horizon):
        if self.count > 60:
            raise OverflowError
        return [float("inf") if self.count > 40 else 1e9] * horizon


def test_the_guard_holds_an_exploding_model():
    context = SeriesContext((1, 3), 48, 1800)
    guard = RiverGuard(context, Explodes, "explodes")
    for index in range(100):
        context.push(index, 5.0)
        guard.learn_one(5.0)
        assert guard.forecast().tolist() == [5.0, 5.0]
    assert guard.resets > 10


def test_least_squares_learns_a_zigzag_that_last_value_cannot():
    context = SeriesContext((1, 3), 480, 60)
    expert = LeastSquares(context, logarithmic=False)
    feed(expert, [100.0, 200.0] * 150)
    assert expert.forecast() == pytest.approx([100.0, 100.0], rel=0.02)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5, float("nan")])
def test_ewma_refuses_a_rate(rate):
    with pytest.raises(ValueError, match="rate"):
        Ewma(SeriesContext((1,), 48, 1800), rate)


@pytest.mark.parametrize("forgetting", [0.0, 1.0, float("nan")])
def test_least_squares_refuses_forgetting(forgetting):
    with pytest.raises(ValueError, match="forgetting"):
        LeastSquares(SeriesContext((1,), 48, 1800), logarithmic=False, forgetting=forgetting)


def test_holt_winters_knows_the_season_after_the_first_one():
    season = 100.0 + 50.0 * np.sin(2.0 * np.pi * np.arange(48) / 48)
    for multiplicative in (False, True):
        context = SeriesContext((1, 12), 48, 1800)
        expert = SeasonalHoltWinters(context, multiplicative=multiplicative)
        feed(expert, np.tile(season, 3))
        assert expert.awake
        assert expert.forecast() == pytest.approx([season[0], season[11]], rel=0.05)


def test_the_week_is_told_from_the_day():
    week = np.concatenate([np.full(48, 100.0)] * 5 + [np.full(48, 40.0)] * 2)
    context = SeriesContext((1, 20), 48, 1800)
    expert = WeeklyProfile(context)
    feed(expert, np.concatenate((week, week, week[: 5 * 48 - 10])))
    assert expert.awake
    assert expert.forecast() == pytest.approx([100.0, 40.0], rel=0.05)


def test_the_kalman_trend_follows_a_slope():
    context = SeriesContext((1, 10), 48, 1800)
    expert = KalmanTrend(context)
    feed(expert, np.arange(100.0))
    assert expert.forecast() == pytest.approx([100.0, 109.0], rel=0.02)


def test_the_damped_trend_stays_below_the_line():
    context = SeriesContext((1, 20), 48, 1800)
    expert = DampedHolt(context)
    feed(expert, np.arange(200.0))
    assert 195.0 < expert.forecast()[0] < 202.0
    assert 196.0 < expert.forecast()[1] < 215.0


def test_the_echo_state_learns_a_zigzag_that_last_value_cannot():
    context = SeriesContext((1, 3), 480, 60)
    expert = EchoState(context)
    feed(expert, [100.0, 200.0] * 300)
    assert expert.forecast() == pytest.approx([100.0, 100.0], rel=0.05)


def test_the_external_expert_repeats_what_is_known_and_sleeps_otherwise():
    context = SeriesContext((1, 3), 48, 60)
    expert = ExternalExpert(context)
    feed(expert, [10.0] * 5)
    assert not expert.awake
    assert expert.forecast().tolist() == [10.0, 10.0]
    context.external = np.array([5.0, 1e9])
    assert expert.awake
    assert expert.forecast().tolist() == [5.0, 5.0 * context.clip]


@pytest.mark.slow
def test_a_pool_of_everything_pickles_and_forecasts():
    apart = {"least_squares_three_speeds", *MODELS, *REGRESSORS}  # the latter need an extra
    experts = partial(make_experts, names=tuple(name for name in EXPERTS if name not in apart))
    model = SeriesForecaster(SeriesKey("m", "p", "r"), (1800, 5400), 1800, experts=experts)
    random = np.random.default_rng(1)
    for at in range(120):
        issued = model.step((at + 1) * 1800.0, float(100.0 + random.normal()))
        if at == 60:
            model = pickle.loads(pickle.dumps(model))
    assert issued[0].quantiles[LEVELS.index(0.5)] == pytest.approx(100.0, rel=0.05)
    assert len(model.pool.names) == len(set(model.pool.names)) > 18


def test_variants_of_least_squares_agree_with_the_lone_one():
    both = SeriesContext((1, 3), 48, 1800), SeriesContext((1, 3), 48, 1800)
    several = EXPERTS["least_squares_three_speeds"](both[0])
    alone = LeastSquares(both[1], logarithmic=True, forgetting=0.9998)
    values = 100.0 + np.random.default_rng(3).normal(0.0, 5.0, 200)
    for index, value in enumerate(values.tolist()):
        for context in both:
            context.push(index, value)
        for expert in (*several, alone):
            expert.learn_one(value)
    assert len({expert.name for expert in several}) == 6
    assert several[-1].forecast() == pytest.approx(alone.forecast(), rel=1e-9)


def test_unknown_experts_are_refused():
    with pytest.raises(ConfigError, match="oracle"):
        make_experts(SeriesContext((1,), 48, 1800), ["oracle"])
