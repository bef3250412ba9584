from __future__ import annotations

import math

import pytest

from sizing.planning.demand_needs import MOST_REPLICAS, Need, whole


@pytest.mark.parametrize(
    ("demand", "capacity", "printed"),
    [
        (49.94, 4.641, ("49.9", "4.64")),
        (12_031.0, 1_112.4, ("12,000", "1,110")),
        (60.0, 20.0, ("60", "20")),
        (0.0, 4.0, ("0", "4")),
        # With three digits 9.28 / 4.64 would be 2 replicas: digits are added until it is 3.
        (9.2849, 4.6423, ("9.285", "4.642")),
        (3e-5, 1e-5, ("3e-05", "1e-05")),
    ],
)
def test_figures_are_as_short_as_they_can_be(demand: float, capacity: float, printed: tuple[str, str]) -> None:
    assert Need("requests", demand, capacity).figures() == printed


def test_a_replica_that_carries_nothing_is_needed_without_end() -> None:
    need = Need("kv_tokens", 5.0, 0.0)
    assert (need.exact, need.replicas, need.unit) == (math.inf, MOST_REPLICAS, "resident KV tokens")
    assert need.figures() == ("5", "0")


def test_needs_are_rounded_up_but_for_rounding_errors() -> None:
    assert [whole(n) for n in (0.0, 2.9, 3.0, 3.0000001, 3.001)] == [0, 3, 3, 3, 4]
