from dataclasses import replace

import pytest

from pipeline.engine.telemetry_gaps import GapGuard
from pipeline.windows.fleet import CountedRequests, FleetReport
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window

STOOD_STILL = CountedRequests(around=0, inside=0, inside_seconds=45.0, idle=True)


def window(start, requests, gap=False, counted=None, replicas=4):
    values = [requests if name == "requests" else 0 for name in CLOSED_MEASURES]
    fleet = None if counted is None else FleetReport(start + 60.0, 0, 0, (), counted)
    return replace(closed_window(start, 60, "m", "p", values), gap=gap, fleet=fleet, current_replicas=replicas)


def counting(around=110, inside=80, inside_seconds=45.0):
    """A guard that has seen a busy window, of 100 events, with what the fleet counted in it."""
    guard = GapGuard(min_expected_requests=20, accept_seconds=180)
    assert not guard.is_gap(window(0, 100, counted=CountedRequests(around, inside, inside_seconds, idle=False)))
    return guard


def test_silence_of_a_busy_pool_is_a_gap_until_it_has_lasted():
    guard = GapGuard(min_expected_requests=20, accept_seconds=180)
    assert not guard.is_gap(window(0, 100))
    verdicts = [guard.is_gap(window(60 * i, 0)) for i in range(1, 6)]
    assert verdicts == [True, True, True, False, False]


def test_silence_of_a_quiet_pool_is_idleness():
    guard = GapGuard(min_expected_requests=20, accept_seconds=180)
    guard.is_gap(window(0, 3))
    assert not guard.is_gap(window(60, 0))


def test_traffic_ends_the_gap():
    guard = GapGuard(min_expected_requests=20, accept_seconds=180)
    guard.is_gap(window(0, 100))
    assert guard.is_gap(window(60, 0))
    assert not guard.is_gap(window(120, 90))
    assert guard.silent_since is None


def test_a_window_marked_as_gap_is_one_whatever_it_counts():
    assert GapGuard(20, 180).is_gap(window(0, 50, gap=True))


def test_a_busy_pool_whose_fleet_counted_nothing_was_silent():
    guard = counting()
    assert not guard.would_be_gap(window(60, 0, counted=STOOD_STILL))
    assert not any(guard.is_gap(window(60 * i, 0, counted=STOOD_STILL)) for i in range(1, 9))
    assert guard.silent
    assert guard.is_gap(window(540, 0)), "what is usual is still known when the fleet does not report"
    assert not guard.silent


@pytest.mark.parametrize(
    "outage",
    [
        {"counted": None},  # the fleet does not count
        {"counted": STOOD_STILL._replace(inside=1)},  # requests came, events did not
        {"counted": STOOD_STILL._replace(inside=None)},  # the count began anew
        {"counted": STOOD_STILL._replace(inside_seconds=15.0)},  # too few reports to tell
        {"counted": STOOD_STILL._replace(idle=False)},  # the reports repeat what was seen last
        {"counted": STOOD_STILL, "replicas": None},  # the reports are too old
        {"counted": STOOD_STILL, "gap": True},  # told to be one
    ],
)
def test_an_outage_is_a_gap_whatever_the_fleet_reports(outage):
    assert counting().would_be_gap(window(60, 0, **outage))
    assert counting().is_gap(window(60, 0, **outage))


def test_a_count_of_other_requests_than_those_of_the_events_is_not_believed():
    assert counting(around=79).is_gap(window(60, 0, counted=STOOD_STILL))
    assert counting(around=0, inside=0).is_gap(window(60, 0, counted=STOOD_STILL)), "it stands still for ever"
    # A fleet that has just begun to report has told nothing from before the window.
    assert not counting(around=None, inside=60).is_gap(window(60, 0, counted=STOOD_STILL))
    assert counting(around=None, inside=59).is_gap(window(60, 0, counted=STOOD_STILL))
    assert counting(around=None, inside=0, inside_seconds=0.0).is_gap(window(60, 0, counted=STOOD_STILL))
    guard = counting(around=79)
    assert not guard.is_gap(window(60, 100, counted=CountedRequests(100, 70, 45.0, idle=False)))
    assert not guard.is_gap(window(120, 0, counted=STOOD_STILL)), "now it agrees"
