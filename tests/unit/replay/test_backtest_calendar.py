"""A backtest with announced events is what the engine says live, bit for bit, and looks ahead to none of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from pipeline.forecast.calendar.known import KnownCalendar
from pipeline.forecast.types import Signal
from pipeline.replay.backtest import run_backtest
from pipeline.replay.sources import DemandSeries
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window

START = 1_790_000_400 // 3600 * 3600
HORIZONS = (60, 300, 900, 1800, 3600)
WINDOWS = 100


def counts() -> np.ndarray:
    return np.random.default_rng(3).poisson(600.0, WINDOWS).astype(float)


EVENT = CalendarRecord(
    "a", "launch", START + 4800.0, START + 9000.0, expected_size=2.0, scope=Scope("m"), announced_at=START + 1500.0
)


def live(events: dict[str, CalendarRecord]) -> list[list[list[float]]]:
    advisor, said = Advisor(Settings()), []
    told = KnownCalendar()
    for at, value in enumerate(counts().tolist()):
        start = START + 60 * at
        sums = [int(value) if name in ("requests", "ok") else 0 for name in CLOSED_MEASURES]
        changes = told.changes(events, start + 60.0, complete=True)
        told.apply(changes, start + 60.0)
        output = advisor.step(StepInput(start + 60, (closed_window(start, 60, "m", "p", sums),), changes))
        assert output.calendar == changes
        requests = [f for f in output.forecasts if f.series.signal == Signal.REQUESTS]
        said.append([[q * 60 for q in f.quantiles] for f in requests])
    return said


def backtest(*events: CalendarRecord, name: str = "m", more: tuple[str, ...] = ()) -> np.ndarray:
    series = [DemandSeries(one, float(START), 60, counts(), WINDOWS) for one in (name, *more)]
    return run_backtest(series, horizons_seconds=HORIZONS, calendar=events).series[0].quantiles


@pytest.mark.slow
def test_live_and_backtest_agree_to_the_last_bit() -> None:
    other = replace(EVENT, id="b", kind="webinar", starts_at=START + 3000.0, expected_size=None)
    assert live({"a": EVENT, "b": other}) == backtest(EVENT, other).tolist()


@pytest.mark.slow
def test_nothing_moves_before_the_announcement_and_something_after_it() -> None:
    plain, told = backtest(), backtest(EVENT)
    known = 24  # the window that ends at the announcement
    assert np.array_equal(plain[:known], told[:known])
    last = WINDOWS - 1
    assert told[last, 0, 3] < 1.05 * plain[last, 0, 3], "demand did not double, and this was learned"
    assert told[50, 4, 3] > 1.5 * plain[50, 4, 3]


@pytest.mark.slow
def test_of_several_series_an_event_concerns_the_one_it_names() -> None:
    plain, other = backtest(name="x", more=("y",)), backtest(EVENT, name="x", more=("y",))
    assert np.array_equal(plain, other)
    assert not np.array_equal(plain, backtest(EVENT, name="m", more=("y",)))
