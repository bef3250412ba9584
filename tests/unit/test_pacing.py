"""The law of pacing, against pipelines that take their time; no wall clock is involved."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import ManualClock, Pace, PacedClock, ScaledClock, Speed, WallClock, simulated_speed
from pipeline.config.settings import load
from pipeline.errors import ConfigError
from pipeline.pacing import LEASE_SECONDS, PaceLimits, Pacemaker, overdue_seconds, paced_speed

GRAIN, LATENESS = 60.0, 30.0
LIMITS = PaceLimits(due_seconds=90.0, full_seconds=90.0, stop_seconds=180.0, sending_seconds=30.0)
START = 1_700_000_040.0  # the start of a minute
TTL = 300.0


class SlowPipeline:
    """Closes one window after another, each ``seconds`` of wall time after it was due and the last one was closed."""

    def __init__(self, pacemaker: Pacemaker, wall: ManualClock, seconds: float) -> None:
        self.pacemaker, self.wall, self.seconds = pacemaker, wall, seconds
        self.as_of = START
        self._began: float | None = None

    def work(self) -> None:
        due = overdue_seconds(self.pacemaker.now(), self.as_of, LIMITS) >= 0
        if self._began is None and due:
            self._began = self.wall.now()
        if self._began is not None and self.wall.now() - self._began >= self.seconds:
            self.as_of += GRAIN
            self._began = None


def run(target: float, step_seconds: float, wall_seconds: float, *, floor: float = 0.0) -> tuple[float, float, float]:
    """Mean speed of the last two thirds, greatest lag of windows behind the clock, distance that time went back."""
    wall = ManualClock(1_000.0)
    pacemaker = Pacemaker(START, target, LIMITS, floor=floor, monotonic=wall.now)
    pipeline = SlowPipeline(pacemaker, wall, step_seconds)
    lag, back, before = 0.0, 0.0, START
    third = START
    for tick in range(round(wall_seconds / 0.05)):
        pacemaker.adjust(pipeline.as_of, pacemaker.now())
        wall.advance(0.05)
        now = pacemaker.now()
        pipeline.work()
        lag, back = max(lag, now - pipeline.as_of), max(back, before - now)
        before = now
        if tick == round(wall_seconds / 0.05) // 3:
            third = now
    return (before - third) / (wall_seconds * 2 / 3), lag, back


@pytest.mark.parametrize(("step_seconds", "speed"), [(0.0, 60.0), (0.8, 60.0), (2.0, 30.0), (6.0, 10.0), (60.0, 1.0)])
def test_time_runs_as_fast_as_the_pipeline_closes_windows_and_no_faster_than_wanted(step_seconds, speed):
    mean, lag, back = run(60.0, step_seconds, 600.0)
    assert mean == pytest.approx(speed, rel=0.12)
    assert lag < TTL - 20, "advice is renewed before it expires"
    assert back == 0.0


@given(
    target=st.floats(1.0, 600.0),
    step_seconds=st.floats(0.0, 30.0),
)
def test_advice_never_expires_however_slow_the_pipeline(target, step_seconds):
    _, lag, back = run(target, step_seconds, 60.0)
    assert lag < TTL - 20
    assert back == 0.0


def test_a_pipeline_that_stands_still_stops_time_but_not_a_fleet_of_real_servers():
    mean, lag, _ = run(60.0, 1e9, 300.0)
    assert (mean, lag) == (pytest.approx(0.0, abs=0.01), pytest.approx(270.0, abs=1.0))
    mean, _, _ = run(60.0, 1e9, 600.0, floor=1.0)
    assert mean == pytest.approx(1.0, rel=0.01)


def test_without_a_pipeline_time_runs_at_full_speed():
    wall = ManualClock(5.0)
    pacemaker = Pacemaker(START, 60.0, LIMITS, monotonic=wall.now)
    for _ in range(100):
        pacemaker.adjust(None, pacemaker.now())
        wall.advance(0.1)
    assert pacemaker.now() == pytest.approx(START + 600.0)
    assert pacemaker.speed() == Speed(pytest.approx(60.0), 60.0)


def test_time_does_not_run_away_from_what_was_sent():
    wall = ManualClock(5.0)
    pacemaker = Pacemaker(START, 60.0, LIMITS, monotonic=wall.now)
    for _ in range(100):
        pacemaker.adjust(START, START)  # nothing can be sent
        wall.advance(0.1)
    assert pacemaker.now() - START < LIMITS.sending_seconds


def test_a_master_that_stands_still_stops_time():
    wall = ManualClock(5.0)
    pacemaker = Pacemaker(START, 60.0, LIMITS, monotonic=wall.now)
    pacemaker.adjust(None, START)
    wall.advance(1e6)
    assert pacemaker.now() == pytest.approx(START + 60.0 * LEASE_SECONDS)


def test_history_moves_time_in_leaps_and_never_back():
    wall = ManualClock(5.0)
    pacemaker = Pacemaker(START, 60.0, LIMITS, monotonic=wall.now)
    wall.advance(1.0)
    pacemaker.stand_at(START + 1_800)
    wall.advance(1.0)
    pacemaker.stand_at(START + 600)
    assert pacemaker.now() == START + 1_800
    assert pacemaker.speed().actual == pytest.approx(900.0)


@given(overdue=st.floats(-1e4, 1e4), target=st.floats(0.1, 600.0))
def test_the_law_is_bounded_and_falls_with_the_delay(overdue, target):
    speed = paced_speed(target, overdue, LIMITS)
    assert 0.0 <= speed <= target
    assert paced_speed(target, overdue + 1.0, LIMITS) <= speed


def test_limits_leave_time_to_renew_advice():
    settings = load(None)
    limits = PaceLimits.of(settings)
    assert limits.due_seconds == settings.windows.grain_seconds + settings.windows.allowed_lateness_seconds
    assert 0 < limits.full_seconds < limits.stop_seconds
    assert limits.due_seconds + limits.stop_seconds < TTL


def test_other_processes_read_the_same_time_from_the_file(tmp_path: Path):
    wall, path = ManualClock(100.0), tmp_path / "pace"
    pacemaker = Pacemaker(START, 60.0, LIMITS, path=path, monotonic=wall.now)
    clock = PacedClock(path, wall.now)
    for _ in range(20):
        pacemaker.adjust(START, pacemaker.now())
        wall.advance(0.1)
        assert clock.now() == pacemaker.now()
    assert simulated_speed(clock) == pacemaker.speed()
    wall.advance(100.0)
    assert clock.speed().actual == 0.0, "its master is gone"


def test_a_reader_never_goes_back_when_the_pace_drops(tmp_path: Path):
    wall, path = ManualClock(100.0), tmp_path / "pace"
    path.write_bytes(Pace(START, 100.0, 60.0, 10.0, 60.0, 60.0).to_bytes())
    clock = PacedClock(path, wall.now)
    wall.advance(1.0)
    assert clock.now() == START + 60.0
    path.write_bytes(Pace(START + 54.0, 100.9, 1.0, 10.0, 60.0, 60.0).to_bytes())
    assert clock.now() == START + 60.0
    wall.advance(8.0)
    assert clock.now() == pytest.approx(START + 62.1)


def test_a_torn_record_is_left_out(tmp_path: Path):
    wall, path = ManualClock(100.0), tmp_path / "pace"
    whole = Pace(START, 100.0, 60.0, 1.0, 60.0, 60.0).to_bytes()
    path.write_bytes(whole)
    clock = PacedClock(path, wall.now)
    for damage in (b"", whole[:20], bytes(len(whole)), whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damage)
        assert clock.now() == START


@pytest.mark.parametrize("content", [None, b"", b"x" * 52])
def test_a_pace_file_that_is_none_is_a_configuration_error(tmp_path: Path, content):
    path = tmp_path / "pace"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="pace_file"):
        PacedClock(path)


def test_only_simulated_clocks_have_a_speed():
    assert simulated_speed(WallClock()) is None
    assert simulated_speed(ManualClock()) is None
    assert simulated_speed(ScaledClock(0.0, 0.0, 7.0)) == Speed(7.0, 7.0)
