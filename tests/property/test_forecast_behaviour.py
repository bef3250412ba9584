"""What the forecasts of a series owe their users, on seeded synthetic demand."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

HORIZONS = (60, 300, 900, 1800, 3600)
DAY = 1440
MEDIAN, Q90, Q95 = LEVELS.index(0.5), LEVELS.index(0.9), LEVELS.index(0.95)
QUARTER = HORIZONS.index(900)


def forecaster():
    return SeriesForecaster(SeriesKey("llama", "chat", "requests_per_second"), HORIZONS, 60, 86_400)


def course(days, spikes=(), level=20.0):
    """Requests per second without noise: a smooth day, and recurring spikes of 15 minutes to 2.5 times the level."""
    minute = np.arange(round(days * DAY))
    rate = level * (1.0 + 0.4 * np.sin(2.0 * np.pi * minute / DAY))
    for start in spikes:
        rate = np.where((minute % DAY >= start) & (minute % DAY < start + 15), 2.5 * rate, rate)
    return rate


def poisson(rate, seed=0):
    return np.random.default_rng(seed).poisson(rate * 60.0) / 60.0


def run(model, values, start=0):
    rows = []
    for at, value in enumerate(values):
        rows.append([forecast.quantiles for forecast in model.step((start + at + 1) * 60.0, float(value))])
    return np.array(rows)


def wape(rows, values, horizon, first):
    steps = HORIZONS[horizon] // 60
    actual, median = values[first + steps :], rows[first : len(values) - steps, horizon, MEDIAN]
    return float(np.abs(actual - median).sum() / actual.sum())


@pytest.mark.parametrize("spikes", [(600,), (480, 780, 1080)])
def test_a_daily_spike_is_expected_before_its_onset(spikes):
    rate = course(4 + max(spikes) / DAY + 0.05, spikes)
    rows = run(forecaster(), poisson(rate))
    for day in (3, 4):
        for start in spikes:
            onset = day * DAY + start
            base = rate[onset - 1]
            # Issued in the 14 minutes before the onset for 15 minutes later: the target lies within the spike.
            issued = rows[onset - 14 : onset, QUARTER]
            assert (issued[:, MEDIAN] >= 1.3 * base).all()
            assert (issued[:, Q90] >= 1.5 * base).all()
            # And it is expected to end.
            assert rows[onset + 5, QUARTER, MEDIAN] < 1.5 * base


def test_a_spike_seen_once_is_not_promised_for_the_next_day():
    rate = course(3.5)
    rate[2 * DAY + 600 : 2 * DAY + 615] *= 2.5
    rows = run(forecaster(), poisson(rate))
    assert (rows[3 * DAY + 586 : 3 * DAY + 600, QUARTER, MEDIAN] < 1.3 * rate[3 * DAY + 599]).all()


def test_the_bands_cover_what_they_promise_and_the_median_beats_the_last_value():
    values = poisson(course(6, (600,)), seed=3)
    rows = run(forecaster(), values)
    for horizon, seconds in enumerate(HORIZONS):
        steps = seconds // 60
        actual, issued = values[2 * DAY + steps :], rows[2 * DAY : len(values) - steps, horizon]
        assert 0.92 <= float((actual <= issued[:, Q95]).mean()) <= 0.98
        assert 0.86 <= float((actual <= issued[:, Q90]).mean()) <= 0.94
        last = float(np.abs(actual - values[2 * DAY : -steps]).sum() / actual.sum())
        assert wape(rows, values, horizon, 2 * DAY) < 0.85 * last


@pytest.fixture(scope="module", params=[1e-3, 1e6])
def calm(request):
    """A day and a half of calm demand in some unit: the values, the model that has seen them, its WAPE."""
    values = poisson(course(1.5)) * request.param
    model = forecaster()
    rows = run(model, values)
    return values, pickle.dumps(model), {horizon: wape(rows, values, horizon, DAY) for horizon in (0, QUARTER)}


@pytest.mark.parametrize("fault", ["step", "drop", "unit change", "burst", "zeros"])
def test_recovers_within_two_hours(calm, fault):
    values, model, usual = calm
    usual_day = values[DAY // 2 : DAY // 2 + 300]
    after = {
        "step": 10.0 * usual_day,
        "drop": 0.1 * usual_day,
        "unit change": 1e3 * usual_day,
        "burst": np.concatenate((50.0 * usual_day[:1], usual_day[1:])),
        "zeros": np.concatenate((np.zeros(60), usual_day[60:])),
    }[fault]
    rows = run(pickle.loads(model), after, start=len(values))
    assert np.isfinite(rows).all()
    assert (rows >= 0.0).all()
    assert (np.diff(rows, axis=2) >= 0.0).all()
    settled = 180 if fault == "zeros" else 120
    for horizon, was in usual.items():
        assert wape(rows, after, horizon, settled) <= 1.5 * was + 0.02
