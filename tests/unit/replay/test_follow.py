from __future__ import annotations

import json

import pytest

from pipeline.clock import ManualClock
from pipeline.replay.follow import GONE_SECONDS, NEVER_CAME_SECONDS, ClosedWindows
from pipeline.windows.types import PoolKey

A, B = PoolKey("m", "a"), PoolKey("m", "b")


def window(pool: PoolKey, end: float) -> bytes:
    return json.dumps({"model": pool.model, "pool": pool.pool, "start": end - 60, "grain_seconds": 60}).encode()


@pytest.fixture
def wall() -> ManualClock:
    return ManualClock(100.0)


def test_the_slowest_pool_counts_and_nothing_goes_back(wall):
    closed = ClosedWindows([A, B], 600.0, monotonic=wall.now)
    assert closed.as_of == 600.0
    for pool, end, as_of in ((A, 720.0, 720.0), (B, 660.0, 660.0), (A, 600.0, 660.0), (B, 780.0, 720.0)):
        closed.take(window(pool, end))
        assert closed.as_of == as_of


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"model": "m"}',
        b'{"model": "m", "pool": "a", "start": "x", "grain_seconds": 60}',
        b'{"model": "m", "pool": "a", "start": 1e999, "grain_seconds": 60}',
        b'{"model": "m", "pool": "a", "start": NaN, "grain_seconds": 60}',
        b'{"model": "m", "pool": "a", "start": [1], "grain_seconds": 60}',
        b'{"model": "m", "pool": "other", "start": 6000, "grain_seconds": 60}',
        b"\xff\xfe",
        b"[" * 5_000,
    ],
)
def test_what_is_no_window_of_these_pools_is_ignored(wall, value):
    closed = ClosedWindows([A], 600.0, monotonic=wall.now)
    closed.take(value)
    assert closed.as_of == 600.0


def test_a_pipeline_that_never_came_or_went_away_limits_nothing(wall):
    closed = ClosedWindows([A], 600.0, monotonic=wall.now)
    wall.advance(NEVER_CAME_SECONDS + 1)
    assert closed.as_of is None
    closed.take(window(A, 660.0))
    wall.advance(GONE_SECONDS - 1)
    assert closed.as_of == 660.0
    wall.advance(2)
    assert closed.as_of is None


def test_the_silence_of_a_pipeline_that_is_known_to_run_means_that_it_is_behind(wall):
    closed = ClosedWindows([A], 600.0, certain=True, monotonic=wall.now)
    wall.advance(1e6)
    assert closed.as_of == 600.0
