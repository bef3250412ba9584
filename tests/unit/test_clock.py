import time

import pytest

from pipeline.clock import ManualClock, ScaledClock


def test_manual_clock_moves_only_when_told():
    clock = ManualClock(10)
    clock.advance(2.5)
    assert clock.now() == 12.5
    clock.set(3)
    assert clock.now() == 3.0


def test_scaled_clock_runs_at_its_speed():
    began = time.time()
    clock = ScaledClock(origin=1000.0, wall_origin=began - 2.0, speed=60.0)
    assert 1120.0 <= clock.now() <= 1000.0 + 60.0 * (time.time() - began + 2.0)


def test_a_clock_cannot_stand_still():
    with pytest.raises(ValueError, match="positive"):
        ScaledClock(0, 0, 0)
