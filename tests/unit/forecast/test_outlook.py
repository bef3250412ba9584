"""Hours and days ahead from closed windows."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.day_model import DAY_HORIZONS
from pipeline.forecast.outlook import HOUR_HORIZONS, Grain, OutlookForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

KEY = SeriesKey("m", "p", "requests_per_second")
START = 1_700_006_400  # a midnight
STEP = 1200
MEDIAN = LEVELS.index(0.5)


def course(days, seed=0):
    """Rates per 20 minutes: a day's course, quiet weekends."""
    at = START + STEP * (np.arange(days * 86_400 // STEP) + 0.5)
    rate = 50.0 * (1.0 + 0.6 * np.sin(2.0 * np.pi * at / 86_400.0))
    rate *= np.where(at // 86_400 % 7 >= 5, 0.4, 1.0)
    return rate * np.random.default_rng(seed).lognormal(0.0, 0.03, rate.size)


def run(model, values, start=START):
    fresh = []
    for number, value in enumerate(values, 1):
        if model.step(float(start + number * STEP), [value], float(STEP)):
            fresh.append(model.outlooks[0])
    return fresh


@pytest.fixture(scope="module")
def grown():
    model = OutlookForecaster([KEY])
    return model, run(model, course(15).tolist())


@pytest.mark.slow
def test_once_an_hour_and_about_the_right_time(grown):
    _, told = grown
    assert len(told) == 15 * 24
    hours, days = told[-1]
    assert hours.grain is Grain.HOUR
    assert days.grain is Grain.DAY
    assert [f.horizon_seconds for f in hours.forecasts] == [3600 * hours for hours in HOUR_HORIZONS]
    assert [f.horizon_seconds for f in days.forecasts] == [86_400 * days for days in DAY_HORIZONS]
    assert {f.issued_at for f in hours.forecasts} == {START + 15 * 86_400.0}
    assert days.issued_at == START + 15 * 86_400.0


@pytest.mark.slow
def test_quantiles_are_sound_and_widen(grown):
    _, told = grown
    for outlook in told[-1]:
        rows = np.array([f.quantiles for f in outlook.forecasts])
        assert np.isfinite(rows).all()
        assert (rows >= 0.0).all()
        assert (np.diff(rows, axis=1) >= 0.0).all()
    shares = [f.quantiles[-1] / f.quantiles[MEDIAN] for f in told[-1][1].forecasts]
    assert shares == sorted(shares)


@pytest.mark.slow
def test_tomorrow_and_next_week_follow_day_and_week(grown):
    _, told = grown
    truth = course(30, seed=9)
    hourly = truth.reshape(-1, 3)[:, :].mean(axis=1)
    for forecast in told[-1][0].forecasts:
        # Nearer ones follow the level of now, which jumps at this midnight.
        if forecast.horizon_seconds > 86_400:
            actual = hourly[int((forecast.target_at - START) // 3600) - 1]
            assert forecast.quantiles[MEDIAN] == pytest.approx(actual, rel=0.4)
    daily = truth.reshape(-1, 72).mean(axis=1)
    for forecast in told[-1][1].forecasts[:5]:
        actual = daily[int((forecast.target_at - START) // 86_400) - 1]
        assert forecast.quantiles[MEDIAN] == pytest.approx(actual, rel=0.35)
    assert told[-1][1].peak_ratio == pytest.approx(1.6, rel=0.15)


def test_the_first_hours_are_no_worse_than_the_last_value():
    values = course(1, seed=4)
    told = run(OutlookForecaster([KEY]), values.tolist())
    hourly = values.reshape(-1, 3).mean(axis=1)
    said = np.array([outlooks[0].forecasts[0].quantiles[MEDIAN] for outlooks in told])
    error = np.abs(said[:-1] - hourly[1:]).sum()
    assert error <= 1.05 * np.abs(np.diff(hourly)).sum()
    assert said[0] == pytest.approx(hourly[0], rel=0.01)


def test_nothing_is_said_before_there_is_a_value():
    model = OutlookForecaster([KEY])
    assert run(model, [None] * 200) == []
    assert model.outlooks == ((),)


@pytest.mark.slow
def test_gaps_of_any_length_are_survived():
    values = course(4).tolist()
    values[100:110] = [None] * 10
    model = OutlookForecaster([KEY])
    run(model, values)
    for jump in (3, 80, 24 * 95 * 3, 10**6):
        last = model.outlooks[0][0].issued_at
        told = run(model, course(2, seed=jump).tolist(), start=last + jump * STEP)
        assert told
        for outlook in told[-1]:
            assert np.isfinite([f.quantiles for f in outlook.forecasts]).all()


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [float("nan"), float("inf"), -1.0, 1e300])
def test_what_cannot_be_demand_is_a_gap(hostile):
    one, other = OutlookForecaster([KEY]), OutlookForecaster([KEY])
    values = course(2).tolist()
    run(one, [hostile if 30 <= at < 60 else value for at, value in enumerate(values)])
    run(other, [None if 30 <= at < 60 else value for at, value in enumerate(values)])
    assert one.outlooks == other.outlooks


@pytest.mark.slow
def test_a_delay_shifts_the_work_and_not_the_words():
    prompt, late = OutlookForecaster([KEY]), OutlookForecaster([KEY], delay_seconds=600.0)
    values = course(3).tolist()
    told, told_late = run(prompt, values), run(late, values)
    assert told_late == told[: len(told_late)]
    assert len(told) - len(told_late) == 1


@pytest.mark.slow
def test_series_together_say_what_each_says_alone():
    keys = [KEY, SeriesKey("m", "p", "kv_tokens"), SeriesKey("m", "p", "decode_tokens_per_second")]
    rows = [course(3, seed).tolist() for seed in range(3)]
    rows[1][40:80] = [None] * 40
    rows[2][:100] = [None] * 100
    together = OutlookForecaster(keys, delay_seconds=600.0)
    alone = [OutlookForecaster([key], delay_seconds=600.0) for key in keys]
    for number, values in enumerate(zip(*rows, strict=True), 1):
        end = float(START + number * STEP)
        fresh = [one.step(end, [value], float(STEP)) for one, value in zip(alone, values, strict=True)]
        assert together.step(end, values, float(STEP)) == any(fresh)
        assert together.outlooks == tuple(one.outlooks[0] for one in alone)
    assert all(len(told) == 2 for told in together.outlooks)


@pytest.mark.slow
def test_a_pickled_copy_goes_on_bit_for_bit():
    values = course(4).tolist()
    straight = OutlookForecaster([KEY], delay_seconds=900.0)
    run(straight, values[:101])
    copy = pickle.loads(pickle.dumps(straight))
    start = START + 101 * STEP
    assert run(straight, values[101:], start) == run(copy, values[101:], start)


@pytest.mark.slow
def test_the_state_is_bounded(grown):
    model, _ = grown
    assert len(pickle.dumps(model)) <= 30_000


def far_medians(model):
    return {f.horizon_seconds // 86_400: f.quantiles[MEDIAN] for f in model.outlooks[0][0].forecasts[-3:]}


@pytest.mark.slow
def test_a_jump_of_today_counts_half_for_next_week():
    model = OutlookForecaster([KEY])
    run(model, [100.0] * (14 * 72) + [400.0] * 72)
    said = far_medians(model)
    assert said[2] > 140.0, "the level of now"
    assert 1.5 * said[2] < said[7] < 400.0, "that hour had 400 in the newest week"
    run(model, [100.0] * 36, start=START + 15 * 86_400)
    said = far_medians(model)
    assert [said[7], said[14]] == pytest.approx([np.sqrt(said[2] * 100.0)] * 2, rel=0.05)


@pytest.mark.slow
def test_an_hour_of_zero_in_the_newest_week_is_no_zero_for_the_next():
    model = OutlookForecaster([KEY])
    days = [[100.0] * 72 for _ in range(15)]
    days[14][:36] = [0.0] * 36
    run(model, [value for day in days for value in day][: 14 * 72 + 24])
    (_, week, fortnight) = model.outlooks[0][0].forecasts[-3:]
    for forecast in (week, fortnight):
        assert 0.0 < forecast.quantiles[MEDIAN] < 100.0
        assert forecast.quantiles[-1] > forecast.quantiles[MEDIAN]
