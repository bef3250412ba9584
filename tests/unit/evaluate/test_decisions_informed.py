from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from benchmarks.decisions.informed import Informed, Tried, frontier
from pipeline.evaluate.metrics import FleetMetrics


def told(now: float, arrivals: int, replicas: int) -> FleetMetrics:
    """A fleet that has counted so many requests in the newest seconds."""
    seen = SimpleNamespace(now_seconds=now, replicas=replicas, arrivals=lambda seconds: arrivals)
    return cast("FleetMetrics", seen)


def test_what_came_in_the_newest_minute_decides() -> None:
    rule = Informed(2.0, headroom=1.5, spare=1, hold_seconds=120.0)
    assert rule.decide(told(600.0, 240, 3)) == 4, "4 requests/s × 1.5 / 2, and one to spare"
    assert rule.decide(told(615.0, 60, 4)) == 4, "held"
    assert rule.decide(told(780.0, 60, 4)) == 2


def test_the_first_minute_counts_for_what_there_is_of_it() -> None:
    assert Informed(1.0, headroom=1.0, spare=0, hold_seconds=0.0).decide(told(15.0, 45, 1)) == 3


def test_only_what_no_cheaper_rule_attains_is_told() -> None:
    dear, cheap, useless = (Tried(*each, 1.0, 0, 0.0) for each in ((3.0, 0.99), (2.0, 0.9), (2.5, 0.8)))
    assert frontier([dear, useless, cheap]) == [cheap, dear]
