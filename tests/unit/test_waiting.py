"""The waiting of the tests: slow machines and things that move get more time, things that hang do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.waiting import Patience, core_slowness, eventually, processes_per_core, scaled, slowness, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def looks_until_it_gives_up(slowness: float, progress: Callable[[int], object] | None = None, most: int = 1_000) -> int:
    clock = Clock()
    made = 0
    patience = Patience(10.0, "x", None if progress is None else lambda: progress(made), clock, lambda: slowness)
    for made in range(1, most):
        clock.now += 1.0
        try:
            patience.look_now()
        except AssertionError:
            return made
    return most


def test_a_machine_that_is_three_times_as_slow_gets_three_times_as_long() -> None:
    assert looks_until_it_gives_up(1.0) == 11
    assert looks_until_it_gives_up(3.0) == 31


def test_as_long_as_something_moves_it_waits() -> None:
    assert looks_until_it_gives_up(1.0, lambda made: made // 8) == 1_000
    assert looks_until_it_gives_up(1.0, lambda made: min(made, 50)) == 61


def test_a_hang_is_reported_with_where_it_stands() -> None:
    clock = Clock()
    patience = Patience(1.0, "rows", lambda: 17, clock, lambda: 1.0)
    patience.look_now()
    clock.now += 2.0
    with pytest.raises(AssertionError, match="it stands at 17"):
        patience.look_now()


def test_conditions_of_both_kinds_and_asynchronous_progress() -> None:
    async def run() -> None:
        calls = 0

        async def true_at_last() -> bool:
            nonlocal calls
            calls += 1
            return calls > 3

        async def moved() -> int:
            return calls

        assert await eventually(true_at_last, 60, "x", moved, poll_seconds=0) >= 0.0
        assert calls == 4
        assert await eventually(lambda: True, 60, "y") >= 0.0

    asyncio.run(run())


def test_errors_that_mean_not_yet_are_passed_over_and_others_are_not() -> None:
    answers = iter([OSError("refused"), 0, 7])

    def condition() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert wait_until(condition, 60, "x", poll_seconds=0, passing=(OSError,)) == 7
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0, 60, "x", passing=(OSError,))


def test_the_measured_factors_are_at_least_one() -> None:
    assert core_slowness() >= 1.0
    assert processes_per_core() >= 1.0
    assert slowness() >= 1.0
    assert scaled(10.0) >= 40.0
