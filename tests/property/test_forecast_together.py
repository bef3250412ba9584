"""Series that are stepped together say what each says alone, bit for bit, whatever happens to the others."""

import pickle
from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.exogenous.known import Exogenous
from pipeline.forecast.experts.registry import make_experts
from pipeline.forecast.series import GroupMember, SeriesForecaster
from pipeline.forecast.series_group import SeriesGroup
from pipeline.forecast.types import SeriesKey

KEYS = [SeriesKey("m", "p", name) for name in ("requests", "prefill", "decode")]
HORIZONS, GRAIN, SEASON = (60, 180, 300), 60, 1200
SIGNALS = 2
EVENT = CalendarRecord("a", "launch", 30 * 60.0, 45 * 60.0, 2.0)

rates = st.sampled_from([0.0, 1.0, 2.5, 7.0, 7.0, 8.0, 40.0, 1e-9, 1e14])
values = st.one_of(rates, rates, rates, st.sampled_from([None, float("nan"), -1.0, 1e16]))
# Now and then windows that never came; mostly the next one.
steps = st.tuples(st.sampled_from([1, 1, 1, 1, 1, 2, 30]), st.tuples(values, values, values))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(steps, min_size=20, max_size=70),
    st.booleans(),
    st.booleans(),
    st.integers(0, 60),
    st.tuples(st.integers(0, 60), st.integers(0, 2)),
)
def test_together_is_as_alone(history, announced, suspect_silence, pickled_at, taken_apart):
    options = {"season_seconds": SEASON, "suspect_silence": suspect_silence}
    group = SeriesGroup(KEYS, HORIZONS, GRAIN, **options)
    alone = [SeriesForecaster(key, HORIZONS, GRAIN, **options) for key in KEYS]
    index, apart, (apart_at, at) = 0, None, taken_apart
    for number, (passed, row) in enumerate(history):
        index += passed
        if number == pickled_at:
            group = pickle.loads(pickle.dumps(group))
        if number == apart_at:
            apart = GroupMember(group, at).apart()
        calendar = (EVENT,) if announced and number > 10 else ()
        told = group.step(index * 60.0, row, calendar)
        assert told == tuple(one.step(index * 60.0, value, calendar) for one, value in zip(alone, row, strict=True))
        assert apart is None or apart.step(index * 60.0, row[at], calendar) == told[at]
    assert group.scores() == tuple(score for one in alone for score in one.scores())
    assert apart is None or apart.scores() == alone[at].scores()


numbers = st.sampled_from([0.0, 0.5, -5.0, 5.0, 1.25])
signals = st.lists(numbers, min_size=SIGNALS * 4, max_size=SIGNALS * 4).map(lambda row: np.reshape(row, (SIGNALS, 4)))
external = st.lists(st.sampled_from([0.0, 2.0, 7.5, 1e6]), min_size=3, max_size=3).map(np.array)
# The series of a pool share their signals; nothing here relies on it.
exogenous = st.builds(Exogenous, st.one_of(st.none(), external), st.one_of(st.none(), signals, signals))
outside = st.tuples(values, exogenous)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(outside, outside, outside), min_size=15, max_size=40), st.integers(0, 40))
def test_each_series_has_its_own_exogenous_input(history, pickled_at):
    names = ("default", "external", "river_bayesian_linear")
    options = {"season_seconds": SEASON, "experts": partial(make_experts, names=names), "signal_count": SIGNALS}
    group = SeriesGroup(KEYS, HORIZONS, GRAIN, **options)
    alone = [SeriesForecaster(key, HORIZONS, GRAIN, **options) for key in KEYS]
    for index, row in enumerate(history):
        if index == pickled_at:
            group = pickle.loads(pickle.dumps(group))
        end, (row_values, known_outside) = index * 60.0, zip(*row, strict=True)
        told = group.step(end, row_values, (), known_outside)
        assert told == tuple(one.step(end, value, (), known) for one, (value, known) in zip(alone, row, strict=True))
    assert group.scores() == tuple(score for one in alone for score in one.scores())
