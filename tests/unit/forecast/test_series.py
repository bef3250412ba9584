import math
import pickle
import sys

import numpy as np
import pytest

from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

KEY = SeriesKey("llama", "chat", "requests_per_second")
HORIZONS = (60, 300, 900, 1800, 3600)
DAY = 1440
MEDIAN, Q95 = LEVELS.index(0.5), LEVELS.index(0.95)


def forecaster(**changes):
    return SeriesForecaster(**{"series": KEY, "horizons_seconds": HORIZONS, "grain_seconds": 60, **changes})


def course(days, spikes=(), level=20.0):
    """Requests per second without noise: a smooth day, and spikes of 15 minutes at ``level * 2.5``."""
    minute = np.arange(round(days * DAY))
    rate = level * (1.0 + 0.4 * np.sin(2.0 * np.pi * minute / DAY))
    for start in spikes:
        rate = np.where((minute % DAY >= start) & (minute % DAY < start + 15), 2.5 * rate, rate)
    return rate


def poisson(rate, seed=0):
    return np.random.default_rng(seed).poisson(rate * 60.0) / 60.0


def run(model, values, start=0):
    """Quantiles, shape (windows, horizons, levels); NaN where nothing was issued."""
    rows = np.full((len(values), len(HORIZONS), len(LEVELS)), np.nan)
    for at, value in enumerate(values):
        issued = model.step((start + at + 1) * 60.0, value)
        if issued:
            rows[at] = [forecast.quantiles for forecast in issued]
    return rows


def assert_sound(rows):
    assert np.isfinite(rows).all()
    assert (rows >= 0.0).all()
    assert (np.diff(rows, axis=2) >= 0.0).all()


def wape(rows, values, horizon, first):
    steps = HORIZONS[horizon] // 60
    actual, median = values[first + steps :], rows[first : len(values) - steps, horizon, MEDIAN]
    return float(np.abs(actual - median).sum() / actual.sum())


def test_the_forecast_says_what_it_is_about():
    model = forecaster()
    assert model.step(60.0, None) == ()
    assert model.step(120.0, float("nan")) == ()
    issued = model.step(180.0, 5.0)
    assert [forecast.horizon_seconds for forecast in issued] == list(HORIZONS)
    assert {forecast.series for forecast in issued} == {KEY}
    assert {forecast.issued_at for forecast in issued} == {180.0}
    assert issued[0].quantiles[MEDIAN] == pytest.approx(5.0, rel=0.01)
    assert issued[0].quantiles[0] < 5.0 < issued[0].quantiles[-1]


@pytest.mark.slow
def test_a_gap_widens_the_band_and_teaches_nothing():
    values = poisson(course(2))
    model = forecaster()
    rows = run(model, [*values[:DAY]])
    matured = [score.matured for score in model.scores()]
    gap = run(model, [None] * 360, start=DAY)
    assert_sound(gap)
    width = gap[:, 0, Q95] - gap[:, 0, MEDIAN]
    assert width[-1] > 3.0 * float((rows[-60:, 0, Q95] - rows[-60:, 0, MEDIAN]).mean())
    assert [score.matured for score in model.scores()] == matured
    assert model.age_seconds == 360 * 60
    after = run(model, [*values[DAY + 360 :]], start=DAY + 360)
    assert_sound(after)
    assert model.age_seconds == 0
    for horizon in (0, 2):
        assert wape(after, values[DAY + 360 :], horizon, 120) < 0.08


@pytest.mark.slow
def test_missing_windows_are_a_gap_like_nones():
    values = poisson(course(0.3))
    told, untold = forecaster(), forecaster()
    run(told, [*values, *[None] * 90])
    run(untold, [*values])
    end = (len(values) + 91) * 60.0
    assert told.step(end, None) == untold.step(end, None)
    assert untold.age_seconds == told.age_seconds == 91 * 60


def python_calls(work):
    """How many functions a piece of work calls, and what it returns."""
    made = 0

    def count(frame, event, arg):
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        answer = work()
    finally:
        sys.setprofile(None)
    return made, answer


def test_a_long_jump_costs_bounded_work():
    model = forecaster()
    values = poisson(course(0.1))
    run(model, values)
    usual, _ = python_calls(lambda: model.step((len(values) + 1) * 60.0, 20.0))
    made, issued = python_calls(lambda: model.step(1e12, 20.0))
    rows = [forecast.quantiles for forecast in issued]
    assert made < 100 * usual, "not once for each of the 16 billion windows between"
    assert_sound(np.array([rows]))


def test_going_back_is_an_error():
    model = forecaster()
    model.step(600.0, 1.0)
    for end in (600.0, 540.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="end"):
            model.step(end, 1.0)


@pytest.mark.parametrize("hostile", [None, math.nan, math.inf, -1.0, 1e300])
def test_what_cannot_be_demand_is_a_gap(hostile):
    model, silent = forecaster(), forecaster()
    for end in range(60, 6000, 60):
        model.step(end, 5.0)
        silent.step(end, 5.0)
    assert model.step(6000, hostile) == silent.step(6000, None)
    assert model.age_seconds == 60


@pytest.mark.slow
def test_zeros_all_along():
    rows = run(forecaster(), [0.0] * 300)
    assert (rows == 0.0).all()


@pytest.mark.slow
def test_a_pickled_copy_goes_on_bit_for_bit():
    values = [*poisson(course(1.2, (600,)))]
    values[1500:1520] = [None] * 20
    straight, copies = forecaster(), {}
    for at, value in enumerate(values):
        if at in (0, 1, 70, 1445, 1510):
            copies[at] = pickle.dumps(straight)
        if at == 1650:
            break
        straight.step((at + 1) * 60.0, value)
    expected = run(pickle.loads(pickle.dumps(straight)), values[1650:], start=1650)
    for at, dumped in copies.items():
        copy = pickle.loads(dumped)
        run(copy, values[at:1650], start=at)
        assert np.array_equal(run(copy, values[1650:], start=1650), expected)


@pytest.mark.slow
def test_the_state_is_small():
    model = forecaster()
    run(model, [*poisson(course(1.1))])
    whole = len(pickle.dumps(model))
    experts = {expert.name: expert for expert in model.pool.experts}
    # What holds a value per place in the day or week: the values themselves, the profile, the week, the season.
    season = experts["holt_winters_multiplicative"]._season
    season_bytes = len(pickle.dumps(model.context)) + len(pickle.dumps(season))
    assert whole <= 48_000
    assert whole - season_bytes <= 20_600


@pytest.mark.slow
def test_scores_are_those_of_what_was_issued():
    values = poisson(course(0.5))
    model = forecaster()
    assert {score.wape for score in model.scores()} == {None}
    rows = run(model, [*values])
    for horizon, score in enumerate(model.scores()):
        steps = HORIZONS[horizon] // 60
        assert score.matured == len(values) - steps
        assert score.horizon_seconds == HORIZONS[horizon]
        weight = np.exp(-np.arange(len(values) - steps)[::-1] / (2 * DAY))
        actual, issued = values[steps:], rows[: len(values) - steps, horizon]
        error = (weight * np.abs(actual - issued[:, MEDIAN])).sum() / (weight * actual).sum()
        assert score.wape == pytest.approx(error, rel=1e-4)
        assert score.coverage_95 == pytest.approx((weight * (actual <= issued[:, Q95])).sum() / weight.sum(), abs=2e-3)
        assert 0.8 <= score.coverage_90 <= 0.97
        assert score.pinball_95 > 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"grain_seconds": 0},
        {"grain_seconds": math.nan},
        {"horizons_seconds": ()},
        {"horizons_seconds": (90,)},
        {"horizons_seconds": (300, 60)},
        {"horizons_seconds": (60, 60)},
        {"season_seconds": 1800},
        {"season_seconds": 86_410},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValueError, match=r"grain|horizon|season"):
        forecaster(**changes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_first_hours_are_no_worse_than_the_last_value(seed):
    values = poisson(course(0.25, level=3.0 + 20.0 * seed), seed)
    rows = run(forecaster(), [*values])
    for horizon, seconds in enumerate(HORIZONS[:3]):
        steps = seconds // 60
        errors = np.abs(values[steps:] - rows[:-steps, horizon, MEDIAN])
        last = np.abs(values[steps:] - values[:-steps])
        for hours in (1, 2, 6):
            assert errors[: 60 * hours].sum() <= 1.02 * last[: 60 * hours].sum()
