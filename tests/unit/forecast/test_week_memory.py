"""The memory of the week and the experts that ask it."""

import numpy as np
import pytest

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts.weekly_profile import Consensus, DayMedian, WeeklyMean
from pipeline.forecast.week_memory import WeekMemory

DAY = 24
DAYS = np.array([100.0, 100.0, 100.0, 100.0, 100.0, 40.0, 30.0])


def feed(values, steps=(1, 24)):
    context = SeriesContext(steps, DAY, 3600)
    experts = [WeeklyMean(context), DayMedian(context), Consensus(context)]
    for index, value in enumerate(values):
        context.push(index, value)
        for expert in experts:
            expert.learn_one(value)
    return context, experts


def weeks(count):
    shape = 1.0 + np.arange(DAY) / DAY
    return np.concatenate([day * shape for _ in range(count) for day in DAYS])


def test_the_week_before_is_known_by_the_hour():
    values = weeks(3)
    context, (mean, median, consensus) = feed(values[: 17 * DAY])
    # Day 17 is a working day, its first hour the next one and its last one a day ahead.
    assert mean.forecast() == pytest.approx([values[3 * DAY], values[3 * DAY + 23]], rel=1e-5)
    assert median.awake
    assert consensus.awake
    assert consensus.forecast() == pytest.approx([values[3 * DAY], values[3 * DAY + 23]], rel=1e-5)
    assert context.week.newest == pytest.approx([values[3 * DAY], values[3 * DAY + 23]], rel=1e-5)


def test_the_mean_is_one_over_the_weeks():
    levels = [80.0, 100.0, 120.0, 60.0]
    _, (mean, _, _) = feed([level for level in levels for _ in range(7 * DAY)])
    assert mean.forecast() == pytest.approx([90.0, 90.0], rel=1e-5)


def test_a_burst_does_not_move_the_median():
    values = np.full(8 * DAY, 10.0)
    values[3 * DAY : 4 * DAY] = 5000.0
    _, (_, median, _) = feed(values)
    assert median.forecast().tolist() == [10.0, 10.0]


def test_nothing_is_said_about_parts_that_were_never_seen():
    context, (mean, median, consensus) = feed(np.full(3 * DAY, 7.0))
    assert not mean.awake
    assert not consensus.awake
    assert median.awake
    assert mean.forecast().tolist() == [7.0, 7.0]
    assert np.isnan(context.week.means).all()


def test_gaps_teach_nothing():
    values = weeks(2).tolist()
    context, _ = feed([*values, *[None] * (7 * DAY)])
    kept, _ = feed(values)
    assert np.array_equal(context.week.means, kept.week.means)
    assert context.week.busy_above == kept.week.busy_above


@pytest.mark.parametrize("season", [3, 47, 50, 1440])
def test_odd_seasons(season):
    memory = WeekMemory(season, np.array([1, season]))
    for index in range(8 * season):
        memory.learn_one(index, float(index // season), 1.0)
    assert np.isfinite(memory.means).all()
    # The same day of the week before, and of the week before that of tomorrow.
    assert memory.newest.tolist() == [1.0, 1.0]
    assert memory.busy_above == pytest.approx(5.0, abs=1.0)


def test_the_level_of_the_newest_day():
    memory = WeekMemory(DAY, np.array([1]))
    for index in range(14 * DAY):
        memory.learn_one(index, 10.0 if index < 7 * DAY else 20.0, 10.0)
    assert memory.season_share == pytest.approx(2.0, rel=0.01)


def test_a_part_of_the_week_says_nothing_about_targets_nearer_than_it_is_long():
    day = 96  # windows of a quarter of an hour, parts of two
    context = SeriesContext((1, 2, 4), day, 900)
    expert = DayMedian(context)
    values = np.tile(np.where(np.arange(day) == 41, 300.0, 100.0), 3)
    for index, value in enumerate(values[: 2 * day + 40]):
        context.push(index, value)
        expert.learn_one(value)
    assert expert.awake
    assert context.week.medians[0] == pytest.approx(200.0), "the part holds the spike of its second window"
    assert expert.forecast()[0] == 100.0
