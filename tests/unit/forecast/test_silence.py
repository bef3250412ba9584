"""Zeros of a busy series: suspected, not learned, believed when they last; a series that idles is left alone."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.silence import SilenceGuard
from pipeline.forecast.types import LEVELS, SeriesKey

DAY = 144
MEDIAN, Q95 = LEVELS.index(0.5), LEVELS.index(0.95)


def busy(days, seed=0):
    at = np.arange(days * DAY)
    course = 100.0 * (1.0 + 0.3 * np.sin(2.0 * np.pi * at / DAY))
    return course * np.random.default_rng(seed).lognormal(0.0, 0.05, at.size)


def forecaster():
    return SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), (600, 3600), 600)


def run(model, values, start=0):
    """Quantiles, shape (windows, horizons, levels)."""
    rows = []
    for at, value in enumerate(values, start):
        rows.append([forecast.quantiles for forecast in model.step((at + 1) * 600.0, value)])
    return np.array(rows)


def suspected(values):
    """Which windows a guard of its own suspects."""
    context = SeriesContext((1, 6), DAY, 600)
    guard, found = SilenceGuard(context), []
    for index, value in enumerate(values):
        found.append(guard.suspects(value))
        context.push(index, None if found[-1] else value)
    return np.array(found)


def test_a_silence_is_suspected_until_it_has_lasted():
    values = busy(2)
    values[200:280] = 0.0
    found = suspected(values)
    assert found[200:224].all()
    assert not found[224:].any()
    assert not found[:200].any()


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(300),
        np.concatenate((busy(1)[:10], np.zeros(90))),  # too young to be known
        np.where(np.arange(600) % 12 == 0, 0.0, 50.0)[100:],  # often
        np.concatenate((np.linspace(100.0, 1.0, 200), np.zeros(50))),  # fades away
        [*busy(1), None, *[0.0] * 30],  # whoever told of the gap has judged it
    ],
)
def test_zeros_that_are_the_series_own_are_believed(values):
    # The first few of the frequent ones may be suspected before they are known to be frequent.
    assert suspected(values)[60:].mean() < 0.02


@pytest.mark.slow
def test_a_silence_that_comes_every_night_is_a_habit():
    values = busy(6)
    values[np.arange(values.size) % DAY >= 120] = 0.0
    found = suspected(values)
    assert found[120]
    assert not found[DAY:].any()
    rows = run(forecaster(), values.tolist())
    # An hour before it begins on the last night.
    assert rows[5 * DAY + 116, 1, MEDIAN] < 20.0


@pytest.mark.slow
def test_a_silence_is_not_learned():
    values = busy(4)
    broken = values.copy()
    broken[400:412] = 0.0
    told, gap = forecaster(), forecaster()
    run(told, broken[:412].tolist())
    run(gap, [None if value == 0.0 else value for value in broken[:412].tolist()])
    assert np.array_equal(run(told, values[412:450].tolist(), 412), run(gap, values[412:450].tolist(), 412))


@pytest.mark.slow
def test_it_is_scored():
    values = busy(4)
    values[400:412] = 0.0
    told, gap = forecaster(), forecaster()
    run(told, values.tolist())
    run(gap, [value or None for value in values.tolist()])
    for honest, blind in zip(told.scores(), gap.scores(), strict=True):
        assert honest.matured > blind.matured
        assert honest.wape > blind.wape + 0.001


@pytest.mark.slow
def test_what_is_said_in_a_silence():
    values = busy(4)
    values[400:420] = 0.0
    model = forecaster()
    rows = run(model, values[:410].tolist())
    assert model.silent
    usual = rows[399, 0, MEDIAN]
    assert rows[402, 0, MEDIAN] == 0.0
    # An hour on, demand may well be back: the upper quantiles say what it would be.
    assert rows[402, 1, -1] > 0.8 * usual
    assert (np.diff(rows, axis=2) >= 0.0).all()
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(run(copy, values[410:440].tolist(), 410), run(model, values[410:440].tolist(), 410))
    assert not model.silent


def test_long_silences_teach_to_expect_long_ones():
    context = SeriesContext((6,), DAY, 600)
    guard = SilenceGuard(context)
    quantiles = np.tile(np.array(LEVELS), (1, 1))
    told = []
    for index, value in enumerate(np.where(np.arange(12 * DAY) % (DAY + 20) < 23, 0.0, 50.0)[100:].tolist()):
        suspicious = guard.suspects(value)
        context.push(index, None if suspicious else value)
        if suspicious:
            told.append(float((guard.mixed(quantiles) == 0.0).mean()))
    assert len(told) > 100
    assert told[-1] > told[0]


@pytest.mark.slow
def test_who_judges_silence_by_counts_is_believed_at_once():
    values = busy(2)
    model = SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), (600, 3600), 600, suspect_silence=False)
    run(model, values)
    rows = run(model, np.zeros(6), len(values))
    assert not model.silent
    assert rows[-1, 0, MEDIAN] < 0.05 * values.mean()
    suspicious = forecaster()
    run(suspicious, np.concatenate((values, np.zeros(6))))
    assert suspicious.silent
