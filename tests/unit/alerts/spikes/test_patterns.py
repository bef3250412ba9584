import itertools
import pickle

import numpy as np
import pytest

from pipeline.alerts.spikes.patterns import DailyTwin, Extremes, Neighbours

HOUR = 3600.0


def saw(length, period=12):
    """A regular pattern with a little noise."""
    return np.arange(length) % period + np.random.default_rng(1).normal(0.0, 0.05, length)


def distances(values, neighbours):
    return [neighbours.observe(float(value)) for value in values]


def test_a_pattern_never_seen_is_farther_than_any_seen():
    values = saw(2_000)
    values[1_500:1_506] = values[1_500:1_506][::-1]  # the same values, upside down: nothing but the shape is new
    found = distances(values, Neighbours())
    assert found[:17] == [None] * 17
    usual = max(found[300:1_500])
    assert max(found[1_500:1_506]) > 5.0 * usual
    assert max(found[1_520:]) <= usual * 1.5


def test_a_new_pattern_stays_new_for_a_while():
    values = np.concatenate([saw(1_400), saw(300, period=5)])
    found = distances(values, Neighbours())
    assert np.median(found[-50:]) > 3.0 * np.median(found[1_000:1_400])


def test_the_distance_has_no_unit():
    values = saw(700)
    small, large = distances(values, Neighbours()), distances(1e6 * values, Neighbours())
    assert large[300:] == pytest.approx(small[300:], rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("values", [[0.0] * 700, [5.0] * 700, [1e-300, 1e7] * 350])
def test_degenerate_series_have_finite_distances(values):
    found = [distance for distance in distances(values, Neighbours()) if distance is not None]
    assert len(found) > 600
    assert all(np.isfinite(distance) and distance >= 0.0 for distance in found)


def test_a_gap_breaks_the_row():
    neighbours = Neighbours()
    distances(saw(200), neighbours)
    neighbours.miss()
    assert [neighbours.observe(1.0) for _ in range(6)][:5] == [None] * 5


def daily(twin, values, grain, start=0.0):
    return [twin.observe(start + grain * (at + 1), float(value)) for at, value in enumerate(values)]


@pytest.mark.parametrize("grain", [60.0, 300.0, HOUR])
def test_what_comes_at_the_same_time_every_day_is_near_and_at_another_far(grain):
    per_day = round(24 * HOUR / grain)
    day = np.ones(per_day)
    day[per_day // 2 : per_day // 2 + per_day // 8] = 9.0
    found = daily(DailyTwin(grain), np.tile(day, 4), grain)
    assert found[0] is None
    assert np.mean(np.array(found[2 * per_day :]) > 0.01) < 0.05  # but for the windows on an edge
    assert max(found[2 * per_day :]) <= 4.0
    moved = np.tile(day, 4)
    moved[3 * per_day :] = np.roll(day, per_day // 3)
    assert max(daily(DailyTwin(grain), moved, grain)[3 * per_day :]) > 7.5


def test_days_without_values_are_unknown_and_long_windows_have_no_twin():
    twin = DailyTwin(HOUR)
    daily(twin, [1.0] * 48, HOUR)
    assert twin.observe(12 * 24 * HOUR, 1.0) is None  # ten days later: what was known is older than a week
    assert set(daily(DailyTwin(24 * HOUR), [1.0] * 30, 24 * HOUR)) == {None}


def test_extremes_forget_after_their_memory():
    extremes = Extremes()
    assert extremes.observe(10.0) is None
    assert extremes.observe(20.0) > 0.0
    assert extremes.observe(30.0) == pytest.approx(1.0)
    assert extremes.observe(0.0) == pytest.approx(0.5)
    assert extremes.observe(15.0) == 0.0
    for at in range(5_000):
        extremes.observe(10.0 + at % 2)
    assert extremes.observe(25.0) == pytest.approx(14.0)


@pytest.mark.parametrize("make", [Neighbours, Extremes])
def test_pickled_measures_go_on_bit_for_bit(make):
    measure = make()
    values = saw(900).tolist()
    for value in values[:700]:
        measure.observe(value)
    copy = pickle.loads(pickle.dumps(measure))
    assert [measure.observe(v) for v in values[700:]] == [copy.observe(v) for v in values[700:]]


@pytest.mark.slow
def test_memory_is_bounded():
    neighbours, twin = Neighbours(), DailyTwin(60.0)
    sizes = []
    for at, value in enumerate(itertools.islice(itertools.cycle(saw(97)), 12_000)):
        neighbours.observe(float(value))
        twin.observe(60.0 * (at + 1), float(value))
        if at in (5_999, 11_999):
            sizes.append(len(pickle.dumps((neighbours, twin))))
    assert sizes[1] <= 1.05 * sizes[0] <= 400_000
