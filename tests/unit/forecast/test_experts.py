from collections.abc import Callable

import numpy as np
import pytest

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
}


@pytest.mark.parametrize("name", FACTORIES)
def test_conforms(name):
    check_expert(FACTORIES[name])


def test_every_default_expert_is_checked():
    context = SeriesContext((1, 3), 48, 1800)
    checked = {type(factory(context)) for factory in FACTORIES.values()}
    assert {type(expert) for expert in default_experts(context)} <= checked
    assert default_experts(context)[0].name == "last"


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
