"""The fleet's own count of requests is believed while it counts what events tell of."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pipeline.engine.fleet_count import CountedDemand, FleetCount
from pipeline.engine.in_flight import InFlight
from pipeline.forecast.rates import signal_rates
from pipeline.testing import closed_window
from pipeline.windows.fleet import CountedRequests, FleetReport, ReplicaCount
from pipeline.windows.types import ClosedWindow

START = 1_700_000_040
UNKNOWN = CountedDemand()


def window(requests: int, inside: int | None, after: int | None = 0, **fields: Any) -> ClosedWindow:
    """A minute of which ``requests`` are told and ``inside`` were counted; ``after`` came in the minute after it."""
    at = START + 120.0
    counted = CountedRequests(inside, inside, 60.0, False, 30, 15.0, after, 60.0)
    report = FleetReport(at, 0, 100, (ReplicaCount(at, 4, 4),), counted)
    values = {"current_replicas": 4, "ready_replicas": 4, "fleet": report, "closed_after_seconds": 62.0}
    return closed_window(START, requests, **(values | fields))


def test_a_count_that_agrees_tells_of_the_window_and_of_what_came_since() -> None:
    count = FleetCount()
    assert count.learn(window(240, 246, 480)) == (246.0, 8.0, 2.0)
    again = pickle.loads(pickle.dumps(count))
    assert again.learn(window(30, 480, 600, completeness=0.4)) == (480.0, 10.0, 2.0), "most are still to be told"


def test_a_count_that_has_agreed_may_be_ahead_by_what_is_in_flight() -> None:
    """Latencies of the hour before take a window for complete of which most still waits."""

    def counted(requests: int) -> FleetReport:
        at = START + 120.0
        told = CountedRequests(requests, requests, 60.0, False, 30, 15.0, 0, 60.0)
        return FleetReport(at, 1_500, 200, (ReplicaCount(at, 4, 4),), told)

    overload = counted(1_800)
    count = FleetCount()
    assert count.learn(window(240, 1_800, fleet=overload)) == UNKNOWN, "it has not agreed yet"
    count.learn(window(240, 240))
    assert count.learn(window(240, 1_800, fleet=overload)).in_window == 1_800.0
    assert count.learn(window(0, 1_800, fleet=overload, gap=True)).in_window == 1_800.0, "no request has ended at all"
    assert count.learn(window(240, 240)).in_window == 240.0
    assert count.learn(window(240, 2_600, fleet=counted(2_600))) == UNKNOWN, "more than run and wait are missing"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (window(240, 900), "it counts other requests, too"),
        (window(240, 60), "it counts a part of them"),
        (window(10, 10), "too few to tell"),
        (window(240, 240, completeness=0.5), "the window is not complete"),
        (window(240, None), "it began anew"),
        (window(240, 240, current_replicas=None), "the report is too old"),
        (window(240, 240, gap=True), "a gap tells nothing"),
    ],
)
def test_a_count_is_not_believed_before_it_has_agreed(one: ClosedWindow, why: str) -> None:
    assert FleetCount().learn(one) == UNKNOWN, why


def test_a_count_that_no_longer_agrees_or_is_no_longer_told_is_not_believed() -> None:
    for odd in (window(240, 900), window(240, 240, fleet=None)):
        count = FleetCount()
        count.learn(window(240, 240))
        assert count.learn(odd) == UNKNOWN
        assert count.learn(window(30, 240, completeness=0.4)) == UNKNOWN


def test_what_was_seen_of_too_short_a_time_is_not_known() -> None:
    count = FleetCount()
    count.learn(window(240, 240))
    counted = CountedRequests(None, 80, 20.0, False, 0, 0.0, 80, 20.0)
    report = FleetReport(START + 80.0, 0, 100, (ReplicaCount(START + 80.0, 4, 4),), counted)
    assert count.learn(window(240, 240, fleet=report)) == UNKNOWN


def test_the_count_says_what_is_missing_of_a_window() -> None:
    live = InFlight()
    live.learn(window(240, 240))
    told = live.learn(window(240, 480, completeness=0.6))
    assert signal_rates(told.window)["requests_per_second"] == pytest.approx(8.0)
    more = live.learn(window(500, 480, completeness=0.6))
    assert more.window.completeness == 1.0, "events tell of more than was counted"
