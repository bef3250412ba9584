"""Days ahead: week, growth, year, spreads, gaps."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.day_model import DAY_HORIZONS, DayModel

FIRST = 20_000


def fed(values):
    model = DayModel()
    for day, value in enumerate(values, FIRST):
        model.learn(day, value)
        said = model.forecast() if model.started else None
    return model, said


def test_one_day_is_carried_forward():
    model, (medians, spread) = fed([80.0])
    assert medians == pytest.approx([80.0] * len(DAY_HORIZONS), rel=1e-4)
    assert (np.diff(spread) >= 0.0).all()
    assert spread[-1] > 2.0 * spread[0]
    assert {scenario.name for scenario in model.growth()} == {"flat", "low", "expected", "high"}


def test_the_week_is_learned():
    week = [100.0, 110.0, 105.0, 100.0, 95.0, 40.0, 30.0]
    model, (medians, _) = fed(week * 6)
    for horizon, median in zip(DAY_HORIZONS[:5], medians, strict=False):
        truth = week[(len(week) * 6 - 1 + horizon) % 7]
        assert median == pytest.approx(truth, rel=0.35)
    ahead = model.at(np.arange(1, 8))
    assert ahead[5] < 0.6 * ahead[1]


def test_growth_is_learned_damped_and_given_as_scenarios():
    days = np.arange(70)
    noise = np.random.default_rng(3).normal(0.0, 0.03, days.size)
    model, (medians, _) = fed((100.0 * np.exp(0.01 * days + noise)).tolist())
    flat, low, expected, high = model.growth()
    assert 0.005 < expected.per_day < 0.011
    assert flat.per_day == 0.0
    assert low.per_day < expected.per_day < high.per_day
    assert list(expected.medians) == pytest.approx(medians.tolist())
    assert flat.medians[-1] < low.medians[-1] < expected.medians[-1] < high.medians[-1]
    # A quarter of compound growth is not promised.
    assert medians[-1] < 100.0 * np.exp(0.01 * (70 + 90))
    assert medians[3] > medians[0]


def test_noise_is_no_growth():
    noise = np.random.default_rng(5).normal(0.0, 0.2, 20)
    _, (medians, _) = fed((100.0 * np.exp(noise)).tolist())
    assert 60.0 < medians[-1] < 160.0


@pytest.mark.slow
def test_what_the_year_before_did_is_expected_again():
    days = np.arange(365 + 330)
    course = 100.0 * np.exp(0.5 * np.sin(2.0 * np.pi * days / 365.0))
    model, (medians, _) = fed(course.tolist())
    truth = 100.0 * np.exp(0.5 * np.sin(2.0 * np.pi * (days[-1] + np.array(DAY_HORIZONS)) / 365.0))
    level = course[-1]
    # Half way: a single year may have been chance.
    assert abs(medians[-1] - truth[-1]) < 0.75 * abs(level - truth[-1])
    assert len(pickle.dumps(model)) < 12_000


def test_spreads_are_learned_from_what_came():
    random = np.random.default_rng(7)
    calm, _ = fed((100.0 * np.exp(random.normal(0.0, 0.02, 120))).tolist())
    wild, _ = fed((100.0 * np.exp(random.normal(0.0, 0.4, 120))).tolist())
    assert calm.forecast()[1][0] < 0.06
    assert wild.forecast()[1][0] > 0.3


@pytest.mark.parametrize("gap", [1, 5, 91, 92, 2000])
def test_missing_days_teach_nothing(gap):
    told, untold = DayModel(), DayModel()
    for model in (told, untold):
        for day in range(30):
            model.learn(FIRST + day, 50.0 + day % 7)
            model.forecast()
    for day in range(gap):
        told.learn(FIRST + 30 + day, None)
    for model in (told, untold):
        model.learn(FIRST + 30 + gap, 55.0)
    assert told.forecast()[0] == pytest.approx(untold.forecast()[0])
    assert np.isfinite(told.forecast()).all()


def test_going_back_is_an_error():
    model, _ = fed([1.0, 2.0])
    with pytest.raises(ValueError, match="not after"):
        model.learn(FIRST + 1, 3.0)


@pytest.mark.parametrize("values", [[0.0] * 40, [1e15] * 40, [0.0, 1e12] * 20, [1e-9] * 40, [5.0] * 20 + [5e6] * 20])
def test_hostile_days_give_sound_forecasts(values):
    model, (medians, spread) = fed(values)
    assert np.isfinite(medians).all()
    assert (medians >= 0.0).all()
    assert np.isfinite(spread).all()
    assert all(np.isfinite(scenario.medians).all() for scenario in model.growth())


def test_a_pickled_copy_goes_on_bit_for_bit():
    values = (100.0 + np.random.default_rng(1).normal(0.0, 10.0, 60)).tolist()
    model, _ = fed(values[:40])
    copy = pickle.loads(pickle.dumps(model))
    for day, value in enumerate(values[40:], FIRST + 40):
        model.learn(day, value)
        copy.learn(day, value)
        assert np.array_equal(model.forecast(), copy.forecast())


def test_weekdays_that_do_not_scatter_are_believed_sooner_than_those_that_do():
    week = [100.0, 110.0, 105.0, 100.0, 95.0, 40.0, 30.0]
    model, _ = fed(week * 4)
    ahead = model.at(np.arange(1, 8))
    # The level is that of the logarithms; shares of the week do not depend on it.
    assert ahead / ahead.mean() == pytest.approx(np.array(week) / np.mean(week), rel=0.06)
    noise = np.random.default_rng(8).normal(0.0, 0.5, 28)
    scattered, _ = fed((np.array(week * 4).mean() * np.exp(noise)).tolist())
    apart = np.log(scattered.at(np.arange(1, 8)))
    assert apart.std() < 0.6 * noise.reshape(4, 7).mean(axis=0).std(), "noise is no habit"


def test_a_week_of_days_that_are_alike_has_no_weekdays():
    model, _ = fed([50.0] * 30)
    assert model.at(np.arange(1, 8)) == pytest.approx([50.0] * 7, rel=1e-3)
