"""What is known at a step: no row counts before it became known, twice, or after it is over; memory is bounded."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forecast.exogenous.known import KnownExogenous
from pipeline.forecast.exogenous.rows import ExternalForecast, SignalValue
from pipeline.forecast.types import SeriesKey, Signal
from pipeline.stream.exogenous.book import ExogenousBook

GRAIN = 60
HORIZONS = (60, 180)
KEY = SeriesKey("m", "default", Signal.REQUESTS)


def known() -> KnownExogenous:
    return KnownExogenous(GRAIN, HORIZONS, ["orders"])


def forecast(
    target_at: float, median: float, issued_at: float = 0.0, known_at: float | None = None
) -> ExternalForecast:
    at = issued_at if known_at is None else known_at
    return ExternalForecast(KEY, issued_at, at, target_at, (0.5,), (median,))


def value(at: float, number: float, known_at: float | None = None) -> SignalValue:
    return SignalValue("orders", at, at if known_at is None else known_at, number)


def test_a_forecast_is_there_once_every_horizon_has_one() -> None:
    state = known()
    state.step(60, [forecast(120, 5.0)])
    assert state.of(KEY).external is None
    state.step(120, [forecast(180, 6.0), forecast(300, 8.0)])
    assert state.of(KEY).external.tolist() == [6.0, 8.0]
    assert state.of(KEY._replace(pool="other")).external is None


def test_targets_between_two_forecasts_are_interpolated_within_an_hour() -> None:
    state = KnownExogenous(GRAIN, (60, 300))
    state.step(0, [forecast(60, 10.0), forecast(360, 16.0)])
    assert state.of(KEY).external.tolist() == [10.0, pytest.approx(14.8)]
    state.step(60, [])  # the one that is over is still the left end of the line
    assert state.of(KEY).external.tolist() == [pytest.approx(11.2), 16.0]
    far = KnownExogenous(GRAIN, (60, 7200))
    far.step(0, [forecast(60, 1.0), forecast(10_800, 2.0)])
    assert far.of(KEY).external is None


def test_the_forecast_that_was_issued_last_counts_whatever_the_order() -> None:
    new, old = forecast(120, 7.0, issued_at=50), forecast(120, 5.0, issued_at=10)
    rest = forecast(240, 1.0)
    for rows in ([old, new, rest], [new, old, rest]):
        state = known()
        state.step(60, rows)
        assert state.of(KEY).external.tolist() == [7.0, 1.0]
        assert not any(state.is_news(row, 60) for row in rows)


def test_a_signal_holds_until_the_next_value_and_knows_what_was_announced() -> None:
    state = known()
    for minute in range(1, 101):
        state.step(60 * minute, [value(60 * minute, float(minute % 2))])
    now, near, far = state.of(KEY).signals[0]
    assert near == far == 0.0
    assert now == pytest.approx(-1.0, abs=0.1)
    state.step(6060, [value(6060, 1.0), value(6180, 0.0, known_at=6000)])
    now, near, far = state.of(KEY).signals[0]
    assert (now, near) == (pytest.approx(1.0, abs=0.1), 0.0)
    assert far == pytest.approx(-2.0, abs=0.1)


def test_an_old_value_says_nothing() -> None:
    state = known()
    for minute in range(1, 5):
        state.step(60 * minute, [value(60 * minute, float(minute))])
    state.step(240 + 86_460, [])
    assert not state.of(KEY).signals.any()


ROWS = st.lists(
    st.one_of(
        st.builds(
            lambda issued, late, ahead, median: forecast(issued + late + ahead, median, issued, issued + late),
            st.integers(0, 1200), st.integers(0, 400), st.integers(1, 900), st.floats(0, 1e6),
        ),
        st.builds(lambda at, late, v: value(at, v, max(0, at + late)), st.integers(0, 2000), st.integers(-600, 600),
                  st.floats(-1e6, 1e6)),
    ),
    max_size=40,
)  # fmt: skip


def run(rows: list, until: int, pickle_at: int = -1, again: bool = False) -> list:
    """What each step knows when it is fed from a book; ``again`` reads all rows once more, as after a restart."""
    state = known()

    def book() -> ExogenousBook:
        made = ExogenousBook(state.due_at, external=True, signals=["orders"])
        for row in rows:
            made.put(row)
        return made

    source, found = book(), []
    for end in range(60, until + 1, 60):
        if end == pickle_at:
            state = pickle.loads(pickle.dumps(state))
            if again:
                source = book()
        state.step(end, source.take(state, end))
        known_now = state.of(KEY)
        found.append((None if known_now.external is None else known_now.external.tolist(), known_now.signals.tolist()))
        assert len(state._offers.get(KEY, {})) <= 2 * 180 / 60 + 62
    return found


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 20))
def test_nothing_counts_before_it_became_known(rows: list, cut: int) -> None:
    now = 60 * cut
    past = [row for row in rows if row.known_at <= now]
    assert run(rows, now) == run(past, now)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 25))
def test_a_restart_that_reads_everything_again_changes_nothing(rows: list, cut: int) -> None:
    assert run(rows, 1500) == run(rows, 1500, pickle_at=60 * cut, again=True)


def test_memory_is_bounded() -> None:
    state = known()
    rows = [forecast(60.0 * at, 1.0) for at in range(2, 5000)] + [value(60.0 * at, 1.0, 0.0) for at in range(2, 5000)]
    state.step(60, rows)
    assert len(pickle.dumps(state)) < 3000
    for at in range(2, 2000):
        state.step(60 * at, [forecast(60.0 * at + 60, float(at), 60.0 * at), value(60.0 * at, float(at))])
    assert len(pickle.dumps(state)) < 6000
    assert np.isfinite(state.of(KEY).signals).all()
