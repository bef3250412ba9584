"""Requests in flight bound what is missing of a window, and tell of demand that no window holds yet."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.in_flight import InFlight
from pipeline.forecast.rates import signal_rates
from pipeline.testing import closed_window
from pipeline.windows.fleet import FleetReport, ReplicaCount
from pipeline.windows.types import ClosedWindow

START = 1_700_000_040


def window(minute: int, requests: int, running: int | None, after: float = 60.0, **fields: Any) -> ClosedWindow:
    """A minute whose newest report is of ``after`` seconds after its end; it closes 62 s after it."""
    at = START + 60.0 * (minute + 1) + after
    report = FleetReport(at, 0, running, (ReplicaCount(at, 4, 4),))
    values = {"current_replicas": 4, "ready_replicas": 4, "fleet": report, "closed_after_seconds": 62.0}
    return closed_window(START + 60 * minute, requests, **(values | fields))


def rate(window: ClosedWindow) -> float:
    found = signal_rates(InFlight().learn(window).window)["requests_per_second"]
    assert found is not None
    return found


def test_after_an_overload_no_more_is_missing_than_requests_in_flight_explain() -> None:
    """4 requests/s with 25 s each: 100 in flight, nearly all of them younger than the window."""
    assert signal_rates(window(0, 240, 100, completeness=0.7))["requests_per_second"] == pytest.approx(5.7, abs=0.1)
    assert rate(window(0, 240, 100, completeness=0.7)) == pytest.approx(4.1, abs=0.1)
    assert rate(window(0, 240, 0, completeness=0.7)) == 4.0


def test_under_overload_what_is_in_flight_has_come() -> None:
    """8 requests/s of which 4 are served: of 976 since the window began 200 are told, 776 in flight."""
    assert rate(window(0, 200, 776)) == pytest.approx(8.0, abs=0.01)


def test_reports_that_do_not_reach_the_windows_end_say_nothing() -> None:
    for one in (
        window(0, 240, 100, after=-5.0, completeness=0.7),
        window(0, 240, None, completeness=0.7),
        window(0, 240, 100, completeness=0.7, current_replicas=None),
        window(0, 0, 100, completeness=0.7),
        window(0, 240, 100, completeness=0.7, gap=True),
        window(0, 240, 100, completeness=-0.1),
    ):
        assert InFlight().learn(one).window == one
    assert math.isnan(InFlight().learn(window(0, 240, 100, completeness=math.nan)).window.completeness)


def test_growth_beyond_chance_is_demand() -> None:
    subject = InFlight()
    grown = [subject.learn(window(minute, 240, running)) for minute, running in enumerate((100, 110, 230, 200))]
    assert [one.growth_per_second for one in grown] == [0.0, 0.0, 2.0, 0.0]
    assert [one.before for one in grown] == [None, 100, 110, 230]
    unknown = subject.learn(window(4, 240, None))
    assert unknown.before is None
    assert subject.learn(window(5, 240, 900)).growth_per_second == 0.0


@given(
    requests=st.integers(1, 10**6),
    running=st.integers(0, 10**9),
    after=st.floats(0.0, 1e6),
    share=st.floats(0.01, 1.0),
)
def test_completeness_stays_a_share(requests: int, running: int, after: float, share: float) -> None:
    found = InFlight().learn(window(0, requests, running, after, completeness=share)).window
    assert 0.01 <= found.completeness <= 1.0
