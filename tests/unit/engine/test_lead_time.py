"""The measured lead time, and the demand that is taken at it."""

from __future__ import annotations

import pickle

import pytest

from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.demand_ahead import demand_ahead
from pipeline.engine.lead_time import lead_time
from pipeline.engine.pool_advisor import PoolAdvisor
from pipeline.engine.start_ups import StartUps
from pipeline.forecast.outlook import Grain, Outlook
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey
from pipeline.testing import closed_window
from pipeline.windows.fleet import FleetReport, ReplicaCount
from pipeline.windows.types import ClosedWindow, PoolKey

RULES = RuleSet(())
START = 1_700_000_040
SERIES = SeriesKey("m", "p", "requests_per_second")


def window(
    minute: int, *counts: tuple[float, int, int | None], requests: int = 600, after: float = 65.0
) -> ClosedWindow:
    """A window with reports of (seconds since the start, current, ready)."""
    told = tuple(ReplicaCount(START + at, current, ready) for at, current, ready in counts)
    fleet = FleetReport(told[-1].at, None, None, told) if told else None
    current, ready = (told[-1].current, told[-1].ready) if told else (None, None)
    return closed_window(
        START + 60 * minute,
        600,
        fleet=fleet,
        current_replicas=current,
        ready_replicas=ready,
        closed_after_seconds=65.0,
    )


def learned(*reports: tuple[float, int, int | None]) -> list[float]:
    subject = StartUps()
    for minute, report in enumerate(reports):
        subject.learn(window(minute, report))
        subject = pickle.loads(pickle.dumps(subject))
    return list(subject.seconds)


def test_start_ups_run_from_being_ordered_to_serving() -> None:
    assert learned((0, 2, 2), (10, 5, 2), (70, 6, 2), (110, 6, 4), (180, 6, 6)) == [100, 100, 170, 110]
    # Given up before it served, and ordered last: the other one is followed.
    assert learned((0, 1, 1), (10, 2, 1), (50, 3, 1), (60, 2, 1), (90, 2, 2)) == [80]


def test_in_how_many_seconds_those_that_start_will_serve() -> None:
    subject = StartUps()
    assert subject.starting_seconds(100.0) == (), "nothing was reported"
    for minute, report in enumerate(((0, 3, 2), (10, 5, 2), (70, 6, 2))):
        subject.learn(window(minute, report))
    assert subject.starting_seconds(100.0) == (None, 40.0, 40.0, 100.0), "nobody saw when the first one was ordered"
    assert subject.starting_seconds(60.0) == (None, None, None, 60.0), "two take longer than that already"
    subject.learn(window(3, (130, 6, 6)))
    assert subject.starting_seconds(100.0) == ()


def test_what_is_no_start_up_is_not_counted() -> None:
    assert learned((0, 4, 2), (60, 4, 4)) == [], "nobody saw when they were ordered"
    assert learned((0, 4, 4), (60, 4, 3), (120, 4, 4)) == [], "it stopped serving, and serves again"
    assert learned((0, 4, None), (60, 6, None), (120, 6, 6)) == []
    assert learned((100, 2, 2), (50, 3, 2), (120, 2, 2)) == [], "an older report says nothing"


def test_what_is_remembered_is_bounded() -> None:
    subject = StartUps()
    for step in range(300):
        subject.learn(window(step, (60.0 * step, 10**6 * (step % 2), 10**6 * (step % 3 == 0))))
    assert len(subject.seconds) <= 64
    assert len(subject.starting) <= 256


def test_the_lead_time_is_measured_once_enough_start_ups_were_seen() -> None:
    subject = StartUps()
    subject.learn(window(0, (0, 1, 1), (10, 5, 1), (110, 5, 5)))
    few = lead_time(subject, window(1), 120.0, 60.0)
    assert (few.seconds, few.start_ups, few.start_up_seconds) == (120.0, 4, None)
    subject.learn(window(1, (120, 6, 5), (420, 6, 6)))
    measured = lead_time(subject, window(7), 120.0, 60.0)
    assert (measured.seconds, measured.start_up_seconds, measured.window_age_seconds) == (365.0, 300.0, 65.0)
    assert measured.evidence()["configured_lead_time_seconds"] == 120.0
    assert lead_time(subject, window(7), 120.0, 600.0).seconds == 600.0
    subject.learn(window(8, (480, 26, 6), (500, 26, 26)))
    assert lead_time(subject, window(9), 120.0, 60.0).seconds == 165.0, "the 0.9 quantile, not the longest"


def forecasts(*medians: tuple[int, float]) -> list[Forecast]:
    return [
        Forecast(SERIES, float(START), horizon, tuple(median * (0.5 + level) for level in LEVELS))
        for horizon, median in medians
    ]


def median(ahead: tuple[float, ...]) -> float:
    return ahead[LEVELS.index(0.5)]


def test_demand_is_interpolated_and_the_peak_of_the_span_counts() -> None:
    near = forecasts((60, 10.0), (300, 34.0), (900, 4.0))
    for first, last, expected in (
        (180.0, 180.0, 22.0),
        (180.0, 240.0, 28.0),
        (270.0, 330.0, 34.0),
        (400.0, 460.0, 29.0),
        (10.0, 20.0, 10.0),
    ):
        ahead = demand_ahead(near, (), float(START), first, last)
        assert median(ahead.quantiles) == pytest.approx(expected)
        assert list(ahead.quantiles) == sorted(ahead.quantiles)
        assert not ahead.hourly


def test_beyond_the_longest_horizon_the_hourly_outlook_counts() -> None:
    near = forecasts((60, 10.0), (3600, 20.0))
    hours = Outlook(SERIES, Grain.HOUR, float(START), tuple(forecasts((3600, 20.0), (10_800, 60.0))))
    ahead = demand_ahead(near, (hours,), float(START), 7_200.0, 7_260.0)
    # The means of the hours count in their middles: 1,800 and 9,000 s ahead.
    assert median(ahead.quantiles) == pytest.approx(20.0 + 40.0 * (7_260 - 1_800) / 7_200)
    assert ahead.hourly
    alone = demand_ahead(near, (), float(START), 7_200.0, 7_260.0)
    assert (median(alone.quantiles), alone.hourly, alone.reached_seconds) == (20.0, False, 3600.0)


@pytest.mark.parametrize("lead", [300.0, 7_200.0])
def test_advice_says_which_lead_time_it_was_made_for(lead: float) -> None:
    pool = PoolSettings(
        model="m", pool="p", profile="llama-3.1-8b", accelerator="H100", lead_time_seconds=lead, max_step_up_ratio=9.0
    )
    subject = PoolAdvisor(PoolKey("m", "p"), pool, load(), "hash")
    for minute in range(32):
        said = subject.step(window(minute, (60.0 * minute, 2, 2)), RULES).recommendation
    assert said is not None
    assert said.horizon_seconds == said.evidence["lead_time_seconds"] == lead
    assert ("the longest horizon" in said.message) == (lead > 3600)
