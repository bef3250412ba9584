"""Overload is judged by unfinished requests and by the growth of the queue, not by how slow the server is."""

from __future__ import annotations

import random
from statistics import mean, median, quantiles, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.calibration.loadtests.measure import measured_point, queue_growth_seconds, unsettled
from sizing.calibration.loadtests.types import LoadKind, Stage


def served(offered: float, capacity: float, requests: int, service: float, seed: int = 1) -> Stage:
    """A Poisson run of a server that starts at most ``capacity`` requests a second, each ``service`` seconds long."""
    draw = random.Random(seed)
    arrived = free = 0.0
    waits, ends = [], []
    for _ in range(requests):
        arrived += draw.expovariate(offered)
        free = max(free, arrived) + 1.0 / capacity
        waits.append(free - arrived + 0.05 * draw.random())
        ends.append(free + service)
    tenths = quantiles(waits, n=10)
    return Stage(
        "the run",
        input_tokens=100.0,
        output_tokens=51.0,
        e2e_seconds=(mean(waits) + service, median(waits) + service),
        ttft_seconds=(mean(waits), median(waits)),
        rate=requests / max(ends),
        kind=LoadKind.OPEN,
        offered_rate=offered,
        completed=float(requests),
        duration_seconds=max(ends),
        ttft_quantiles=((0.0, min(waits)), (0.1, tenths[0]), (0.9, tenths[8])),
        ttft_deviation_seconds=stdev(waits),
    )


@given(st.integers(0, 10_000), st.floats(0.5, 20.0), st.integers(60, 400))
def test_a_server_with_room_is_never_called_overloaded(seed: int, service: float, requests: int) -> None:
    """However long its answers take, and however the arrivals fall."""
    assert unsettled(served(4.0, 20.0, requests, service, seed), LoadKind.OPEN) is None


@given(st.integers(0, 10_000), st.floats(0.5, 20.0), st.integers(200, 400))
def test_a_server_with_too_little_is_always_called_overloaded(seed: int, service: float, requests: int) -> None:
    stage = served(4.0, 2.5, requests, service, seed)
    reason = unsettled(stage, LoadKind.OPEN)
    assert reason is not None
    assert "offered" in reason
    point, notes = measured_point(stage)
    assert point.ttft_seconds is None
    assert "not settled" in notes[0]


@pytest.mark.parametrize(
    ("completed", "incomplete", "open_settles", "closed_settles"),
    [(29, 27, False, True), (95, 5, True, True), (88, 12, False, True), (20, 64, False, False)],
)
def test_requests_without_an_answer(completed: int, incomplete: int, open_settles: bool, closed_settles: bool) -> None:
    """A closed loop always has its clients' requests in flight when it is cut; an open one its queue."""
    stage = Stage("the run", completed=completed, incomplete=incomplete, rate=completed / 12.0, offered_rate=4.6)
    if open_settles:
        stage = Stage("the run", completed=completed, incomplete=incomplete, rate=4.5, offered_rate=4.6)
    assert (unsettled(stage, LoadKind.OPEN) is None) == open_settles
    assert (unsettled(stage, LoadKind.CLOSED) is None) == closed_settles


def test_clients_that_fall_behind_their_plan_queue_requests_too() -> None:
    """TTFT is flat because the clients wait to send: what was offered was never sent."""
    late = Stage(
        "the stage",
        ttft_seconds=(2.9, 2.9),
        ttft_quantiles=((0.0, 2.7), (0.1, 2.8), (0.9, 3.1)),
        delay_quantiles=((0.0, 0.0), (0.1, 4.0), (0.5, 20.0), (0.9, 38.0)),
        rate=103.0,
        offered_rate=183.0,
        completed=11_000,
        sending_seconds=103.0,
    )
    assert queue_growth_seconds(late) == pytest.approx(40.0)
    assert unsettled(late, LoadKind.OPEN) is not None


def test_a_few_slow_requests_are_no_queue() -> None:
    """Two of 24 requests waited for a second on a busy machine: the mean doubles, the queue did not grow."""
    stage = Stage(
        "the stage",
        ttft_seconds=(0.22, 0.11),
        ttft_quantiles=((0.0, 0.07), (0.1, 0.08), (0.9, 0.46)),
        ttft_deviation_seconds=0.26,
        rate=1.63,
        offered_rate=2.0,
        completed=24,
        sending_seconds=11.8,
    )
    assert unsettled(stage, LoadKind.OPEN) is None


def test_failed_requests_are_named() -> None:
    stage = Stage(
        "the run", input_tokens=10.0, output_tokens=10.0, e2e_seconds=(1.0, None), ttft_seconds=(0.1, None), rate=1.0,
        kind=LoadKind.CLOSED, completed=90, failed=10,
    )  # fmt: skip
    _, notes = measured_point(stage)
    assert notes == ("the run: 10 requests failed; only the others count",)
