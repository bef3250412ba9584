from dataclasses import replace

from pipeline.engine.telemetry_gaps import GapGuard
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window


def window(start, requests, gap=False):
    values = [requests if name == "requests" else 0 for name in CLOSED_MEASURES]
    return replace(closed_window(start, 60, "m", "p", values), gap=gap)


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
