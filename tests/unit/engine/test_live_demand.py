"""What is newer than the events of a window: the fleet's own count, and the growth of what is in flight."""

from __future__ import annotations

import pytest

from pipeline.engine.fleet_count import CountedDemand
from pipeline.engine.in_flight import LiveDemand
from pipeline.engine.live_demand import counted_demand, live_rate
from pipeline.testing import closed_window
from sizing.types import Workload

WINDOW = closed_window(1_700_000_040, 240, current_replicas=2, ready_replicas=2)
CHAT = Workload(1000.0, 200.0)


def live(growth_per_second: float = 0.0, counted: CountedDemand | None = None) -> LiveDemand:
    return LiveDemand(WINDOW, None, None, growth_per_second, counted or CountedDemand())


def test_the_rate_now_is_never_below_that_of_the_window() -> None:
    assert live_rate(None, live(5.0), WINDOW, 3.0) is None
    assert live_rate(4.0, live(), WINDOW, 3.0) == 4.0
    assert live_rate(4.0, live(5.0), WINDOW, 0.0) == 9.0
    assert live_rate(4.0, live(5.0), WINDOW, 1.5) == 8.0, "two replicas serve no more than three of the four"
    assert live_rate(4.0, live(0.0, CountedDemand(240.0, 2.0, 1.0)), WINDOW, 3.0) == 4.0
    assert live_rate(4.0, live(0.0, CountedDemand(240.0, 6.0, 14.0)), WINDOW, 3.0) == 6.0, "14/s size a queue alone"


def test_a_gap_has_the_demand_that_the_fleet_counts() -> None:
    counted = CountedDemand(600.0, 8.0, 2.0)
    assert counted_demand(WINDOW, CountedDemand(), CHAT, 1.0, 120.0) is None
    assert counted_demand(WINDOW, counted, None, 1.0, 120.0) is None, "what requests are like is not known"
    found = counted_demand(WINDOW, counted, CHAT, 1.5, 120.0)
    assert found is not None
    assert found.observed_requests_per_second == pytest.approx(10.0)
    assert (found.workload, found.dispersion, found.horizon_seconds) == (CHAT, 1.5, 120.0)
    assert found.provision is None
