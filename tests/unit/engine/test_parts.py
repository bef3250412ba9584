"""A step may be advised in parts, and pools may be restored from different steps: the results are the same."""

from __future__ import annotations

import random

import pytest

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.telemetry_gaps import GapGuard
from pipeline.engine.types import StepInput
from pipeline.errors import CodecError
from pipeline.testing import closed_window
from pipeline.windows.types import PoolKey

START = 1_700_000_040
POOLS = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def settings() -> Settings:
    pools = tuple(PoolSettings(model="m", pool=p, profile="llama-3.1-8b", accelerator="L40S") for p in POOLS[:3])
    return load(None).model_copy(update={"pools": pools})


def inputs(number: int) -> StepInput:
    """Pools come at different times; some are silent, and one is missed for a while."""
    rng = random.Random(number)
    at = START + 60 * number
    pools = [p for i, p in enumerate(POOLS) if number >= i]
    windows = (closed_window(at - 60, 0 if (number + i) % 7 == 6 else 60 + rng.randrange(9), model="m", pool=p)
               for i, p in enumerate(pools))  # fmt: skip
    return StepInput(at, tuple(windows))


@pytest.mark.slow
def test_parts_in_any_order_are_the_step(settings: Settings) -> None:
    whole, parted = Advisor(settings), Advisor(settings)
    for number in range(1, 12):
        step = inputs(number)
        expected = whole.step(step)
        parted.begin(step.as_of)
        windows = list(parted.with_gaps(step.windows))
        random.Random(number).shuffle(windows)
        found = [parted.advise(windows[i : i + 2]) for i in range(0, len(windows), 2)]
        parted.finish()
        for name in ("windows", "forecasts", "scores", "recommendations", "alerts", "outlooks"):
            assert sorted((x for o in found for x in getattr(o, name)), key=repr) == sorted(
                getattr(expected, name), key=repr
            ), name
    assert parted.step(inputs(12)) == whole.step(inputs(12))


@pytest.mark.slow
def test_pools_of_later_steps_go_on_from_there(settings: Settings) -> None:
    """Every pool's state is of another step; the windows since the oldest are stepped again."""
    live = Advisor(settings)
    shared, newer = b"", {}
    for number in range(1, 10):
        live.step(inputs(number))
        if number == 5:
            shared = live.shared_snapshot()
        for i, pool in enumerate(POOLS):
            if number == 5 + i % 4 and number > i:
                newer[PoolKey("m", pool)] = (live.as_of, live.pool_snapshot(PoolKey("m", pool)))
    again = Advisor.restore(settings, shared, None, newer)
    assert again.as_of == START + 300
    for number in range(6, 10):
        again.step(inputs(number))
    for number in range(10, 13):
        assert again.step(inputs(number)) == live.step(inputs(number))


def test_a_damaged_pool_is_refused(settings: Settings) -> None:
    live = Advisor(settings)
    live.step(inputs(1))
    with pytest.raises(CodecError, match="of a pool"):
        Advisor.restore(settings, live.shared_snapshot(), None, {PoolKey("m", "a"): (START + 60, b"garbage")})


def test_judging_ahead_learns_nothing_and_comes_to_the_same() -> None:
    rng = random.Random(3)
    for _ in range(50):
        guard, other = GapGuard(20, 180), GapGuard(20, 180)
        for number in range(30):
            window = closed_window(60 * number, rng.choice([0, 0, 90]))
            ahead = guard.would_be_gap(window)
            assert guard == other
            assert ahead == guard.is_gap(window) == other.is_gap(window)
