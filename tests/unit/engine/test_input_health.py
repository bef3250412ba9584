"""What makes a window doubtful."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.engine.input_health import InputHealth
from pipeline.testing import closed_window
from pipeline.windows.fleet import FleetReport, ReplicaCount
from pipeline.windows.types import ClosedWindow

START = 1_700_000_040


def window(minute: int, requests: int = 1_900, **fields: Any) -> ClosedWindow:
    values = {"servers": 19, "current_replicas": 19, "ready_replicas": 19}
    return closed_window(START + 60 * minute, requests, **(values | fields))


def judged(*windows: ClosedWindow, desired: int = 19) -> list[set[str]]:
    subject = InputHealth(accept_seconds=600.0)
    return [set(subject.judge(one, desired).problems) for one in windows]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, set()),
        ({"completeness": 0.1}, {"completeness"}),
        ({"completeness": float("nan")}, {"completeness", "counters"}),
        ({"kv_token_milliseconds": float("inf")}, {"counters"}),
        ({"output_tokens": -1}, {"counters"}),
        ({"input_tokens": 0, "cached_input_tokens": 0}, {"tokens"}),
        ({"output_tokens": 0}, {"tokens"}),
        ({"current_replicas": 0, "ready_replicas": 0}, {"replica_reports"}),
        ({"requests": 950, "ok": 950, "servers": 9}, {"server_coverage"}),
        ({"requests": 1_900, "ok": 1_900, "servers": 9}, set()),  # the others have taken over
        ({"requests": 950, "ok": 950, "servers": 9, "ready_replicas": 9}, set()),  # the fleet is smaller
        ({"requests": 950, "ok": 950, "servers": None}, set()),
    ],
)
def test_the_checks(fields: dict[str, Any], expected: set[str]) -> None:
    assert judged(window(0), window(1), window(2, **fields))[2] == expected


def test_servers_that_had_nothing_to_tell_are_not_missing() -> None:
    subject = InputHealth(accept_seconds=600.0)
    subject.judge(window(0), 19)
    silent = window(1, 0, servers=0)
    assert subject.judge(silent, 19, silent=True) == (True, {}, True)
    assert "server_coverage" in subject.judge(window(2, 950, servers=9), 19).problems, "what is usual is remembered"


def test_a_fleet_that_does_not_report_is_judged_by_what_it_was_told() -> None:
    unknown = {"current_replicas": None, "ready_replicas": None}
    few = window(1, 950, servers=9, **unknown)
    assert judged(window(0, **unknown), few) == [set(), {"server_coverage"}]
    assert judged(window(0, **unknown), few, desired=10) == [set(), set()]


def test_events_must_account_for_what_is_in_flight() -> None:
    """4 s a request at 1,900 requests a minute are 127 in flight."""

    def with_running(running: int, minute: int = 0) -> ClosedWindow:
        end = START + 60.0 * minute + 60.0
        return window(minute, fleet=FleetReport(end, 7, running, (ReplicaCount(end, 19, 19),)))

    assert judged(with_running(130)) == judged(with_running(20)) == [set()]
    assert judged(with_running(300)) == [{"in_flight"}]


def test_overload_is_not_taken_for_missing_events() -> None:
    """Requests in flight grow before any event can tell of them; events are missing where the rate falls, too."""

    def with_running(minute: int, running: int, requests: int = 1_900) -> ClosedWindow:
        end = START + 60.0 * minute + 60.0
        return window(minute, requests, fleet=FleetReport(end, 0, running, (ReplicaCount(end, 19, 19),)))

    def problems(before: int, newest: ClosedWindow) -> set[str]:
        subject = InputHealth(accept_seconds=600.0)
        subject.judge(with_running(0, 127), 19)
        return set(subject.judge(newest, 19, before).problems)

    assert problems(130, with_running(1, 300)) == set(), "they have only just grown"
    assert problems(300, with_running(1, 300)) == set(), "as much as usual is told"
    assert problems(300, with_running(1, 300, 1_400)) == {"in_flight"}


def test_what_waits_since_before_is_not_missing_where_the_fleet_counts_what_came() -> None:
    """A queue of a crowd that has gone, in a window of which the router counted as many as events tell of."""
    subject = InputHealth(accept_seconds=600.0)
    subject.judge(window(0), 19)
    report = FleetReport(START + 119.0, 5_000, 20, (ReplicaCount(START + 119.0, 19, 19),))
    after = window(1, 190, ok=190, servers=None, fleet=report)
    for counted, found in ((None, True), (1_900.0, True), (200.0, False), (0.0, True)):
        told = replace(subject).judge(after, 19, 5_000, counted=counted)
        assert ("in_flight" in told.problems) is found, counted


def test_reports_have_an_age() -> None:
    old = FleetReport(START - 900.0, None, None, (ReplicaCount(START - 900.0, 19, 19),))
    unknown = window(0, fleet=old, current_replicas=None, ready_replicas=None)
    assert judged(unknown) == [{"replica_reports"}]
    forgotten = replace(unknown, fleet=old._replace(reported_at=START - 90_000.0))
    assert judged(forgotten) == [set()]


def test_what_follows_a_gap_or_missing_events_was_not_seen_whole() -> None:
    subject = InputHealth(accept_seconds=600.0)
    windows = (
        window(0), window(1), window(2, gap=True), window(3), window(4), window(9), window(10),
        window(11, 950, servers=9), window(12), window(13),
    )  # fmt: skip
    whole = [subject.judge(one, 19).whole for one in windows]
    assert whole == [False, True, True, False, True, False, True, True, False, True]


def test_fewer_servers_are_believed_after_a_while_and_not_learned_before() -> None:
    subject = InputHealth(accept_seconds=600.0)
    subject.judge(window(0), 19)
    found = [subject.judge(window(minute, 950, servers=9), 19) for minute in range(1, 14)]
    assert [bool(one.problems) for one in found] == [True] * 10 + [False] * 3
    assert [one.learnable for one in found] == [False] * 10 + [True] * 3


def test_a_pool_whose_tokens_were_never_told_is_learned_from() -> None:
    subject = InputHealth(accept_seconds=600.0)
    without = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}
    assert all(subject.judge(window(minute, **without), 19).learnable for minute in range(3))
