"""The small parts: what waits for its label, the season buffer, the profile."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.quantile_bands import WIDTH, QuantileBands
from pipeline.forecast.season_profile import SeasonalProfile
from pipeline.forecast.series_rows import SeriesRows
from pipeline.forecast.types import LEVELS


def test_rows_come_back_when_they_mature():
    steps = np.array([1, 3])
    ring = DelayRing(steps, 3)
    for index in range(20):
        rows, matured = ring.take(index)
        for horizon, step in enumerate(steps):
            assert matured[horizon] == (index >= step)
            if matured[horizon]:
                assert rows[horizon, 0] == 100 * (index - step) + horizon
                assert rows[horizon, 1:] == pytest.approx([index - step, -1e-3], rel=1e-3)
        ring.put(index, np.array([100.0 * index, 100.0 * index + 1]), np.array([[index, -1e-3]] * 2))


def test_rows_that_were_never_issued_do_not_mature():
    ring = DelayRing(np.array([2]), 2)
    for index in range(10):
        ring.put(index, np.array([1.0]), np.array([[1.0]]))
    assert not ring.take(1000)[1].any()
    ring.take(1000)
    assert not ring.take(1002)[1].any()


def test_the_context_keeps_a_season_however_long_it_runs():
    context = SeriesContext((1, 3), 48, 1800)
    for index in range(2000):
        context.push(index, float(index))
        if index >= 48:
            assert context.seasonal_origin() == index - 48
            assert context.seasonal().tolist() == [index - 47, index - 45]
        assert context.recent(3).tolist() == [float(at) for at in range(max(0, index - 2), index + 1)]
        if index in (10, 500):
            context = pickle.loads(pickle.dumps(context))


def test_a_young_context_takes_memory_for_what_it_has_seen():
    young, old = SeriesContext((1, 60), 1_440, 60), SeriesContext((1, 60), 1_440, 60)
    for index in range(60):
        young.push(index, 1.0)
    for index in range(4_000):
        old.push(index, 1.0)
    assert young._values.nbytes < 500
    assert old._values.nbytes == 4 * (1_440 + 2 * 30 + 64 + 16)
    assert pickle.loads(pickle.dumps(young))._values.nbytes < 500


def test_what_follows_from_the_horizons_is_shared_also_after_a_restart():
    one, other = SeriesContext((1, 3), 48, 1800), SeriesContext((1, 3), 48, 1800)
    restored = pickle.loads(pickle.dumps(other))
    for context in (other, restored):
        assert context.steps is one.steps is context.week._steps
        assert context.week.near is one.week.near
        assert context.flat(2.0).tolist() == [2.0, 2.0]


def test_a_skip_is_many_gaps():
    pushed, skipped = SeriesContext((1,), 48, 1800), SeriesContext((1,), 48, 1800)
    for context in (pushed, skipped):
        for index in range(60):
            context.push(index, 5.0)
    for index in range(60, 80):
        pushed.push(index, None)
    skipped.skip(20, 79)
    assert pushed.age == skipped.age == 20
    assert pushed.index == skipped.index
    assert np.array_equal(pushed.recent(100), skipped.recent(100))


def profile_of(days, season=100, half=5):
    profile = SeasonalProfile(season, half)
    values = np.concatenate(days)
    for index in range(half, values.size - half):
        profile.learn_one(index, values[index - half : index + half + 1])
    return profile, values.size


def noisy_day(seed, spike=None):
    values = 100.0 + np.random.default_rng(seed).normal(0.0, 2.0, 100)
    if spike is not None:
        values[spike : spike + 3] *= 3.0
    return values


def test_the_profile_keeps_what_recurs_and_drops_noise():
    profile, _ = profile_of([noisy_day(seed, spike=40) for seed in range(4)])
    ahead = profile.ahead(np.arange(100))
    assert ahead[40:43] == pytest.approx([300.0] * 3, rel=0.1)
    assert np.delete(ahead, [40, 41, 42]) == pytest.approx(np.full(97, 100.0), rel=0.06)


def test_the_profile_does_not_promise_what_happened_once():
    profile, _ = profile_of([noisy_day(0), noisy_day(1), noisy_day(2, spike=40), noisy_day(3)[:60]])
    assert profile.ahead(np.array([40, 41, 42])) == pytest.approx([100.0] * 3, rel=0.1)


def test_the_profile_knows_what_it_has_not_seen():
    profile, _ = profile_of([noisy_day(0)[:50]])
    assert profile.known(20)
    assert not profile.known(60)
    assert np.isnan(profile.ahead(np.array([60]))).all()


def bands_over(residuals, point=100.0):
    context = SeriesContext((1, 4), 48, 1800)
    bands, ring, issued = QuantileBands(SeriesRows((context,))), DelayRing(context.steps, 1 + WIDTH), []
    for index, residual in enumerate(residuals):
        context.push(index, point + residual)
        rows, matured = ring.take(index)
        if matured.any():
            bands.learn(rows[:, :1], point + residual - rows[:, :1], rows[:, 1:], matured)
        quantiles, waiting = bands.issue(context.flat(point), context.flat(1.0))
        ring.put(index, context.flat(point), waiting)
        issued.append(quantiles)
    return np.array(issued)


@pytest.mark.slow
def test_bands_are_as_lopsided_as_the_residuals():
    residuals = np.random.default_rng(4).exponential(10.0, 3000) - 7.0
    issued = bands_over(residuals)[-500:].mean(axis=0)
    truth = 93.0 - 10.0 * np.log(1.0 - np.array(LEVELS))
    for horizon in range(2):
        assert issued[horizon] == pytest.approx(truth, abs=6.0)
        assert issued[horizon, -1] - issued[horizon, 3] > 3.0 * (issued[horizon, 3] - issued[horizon, 0])


@pytest.mark.slow
def test_bands_follow_the_noise():
    random = np.random.default_rng(5)
    issued = bands_over(np.concatenate((random.normal(0.0, 1.0, 600), random.normal(0.0, 10.0, 600))))
    width = issued[:, 0, -2] - issued[:, 0, 1]
    assert width[1100:].mean() > 5.0 * width[500:600].mean()


@pytest.mark.slow
def test_bands_hasten_when_misses_come_together(monkeypatch):
    """Residuals that hang together: the faster outer loop keeps its promise over fifty windows better."""
    random, residuals = np.random.default_rng(7), np.zeros(3000)
    for at in range(1, residuals.size):
        residuals[at] = 0.97 * residuals[at - 1] + random.normal()

    def off():
        high = bands_over(residuals, point=1000.0)[:-1, 0, LEVELS.index(0.95)]
        missed = (1000.0 + residuals[1:] > high)[-2000 + 1 :][:1950]
        return float(np.abs(missed.reshape(-1, 50).mean(axis=1) - 0.05).mean())

    hasty = off()
    monkeypatch.setattr("pipeline.forecast.quantile_bands._HASTE", 0.0)
    assert hasty < 0.9 * off()


def test_bands_before_anything_matured():
    issued = bands_over([0.0])
    assert np.isfinite(issued).all()
    assert (np.diff(issued, axis=2) > 0.0).all()


@pytest.mark.slow
def test_where_much_is_expected_fewer_are_missed():
    """Residuals whose spread does not depend on the level: only the aim differs."""
    random = np.random.default_rng(6)
    context = SeriesContext((1,), 48, 1800)
    bands, ring, missed = QuantileBands(SeriesRows((context,))), DelayRing(context.steps, 1 + WIDTH), []
    at = np.arange(12_000)
    point = 100.0 + 50.0 * np.sin(2.0 * np.pi * at / 48)
    values = point + random.normal(0.0, 5.0, at.size)
    for index, value in enumerate(values.tolist()):
        context.push(index, value)
        rows, matured = ring.take(index)
        if matured.any():
            bands.learn(rows[:, :1], value - rows[:, :1], rows[:, 1:], matured)
        ahead = context.flat(float(point[(index + 1) % at.size]))
        quantiles, waiting = bands.issue(ahead, context.flat(1.0))
        ring.put(index, ahead, waiting)
        missed.append(quantiles[0, LEVELS.index(0.95)] < values[(index + 1) % at.size])
    busy, missed = np.roll(point, -1)[2000:-1] > np.quantile(point, 0.72), np.array(missed[2000:-1])
    assert missed.mean() == pytest.approx(0.05, abs=0.005)
    assert missed[busy].mean() == pytest.approx(0.021, abs=0.008)
    assert missed[~busy].mean() > 2.0 * missed[busy].mean()
