from __future__ import annotations

import pytest

from sizing.errors import InvalidInput
from sizing.planning.spot import spot_part

# 0.6 interruptions an hour, 600 s to start: down 360 s of every 3960 s.
RATES = {"interruptions_per_hour": 0.6, "start_up_seconds": 600.0}


def test_what_may_be_lost_is_what_is_to_spare() -> None:
    found = spot_part(12, 10, notice_seconds=120, request_seconds=30, allowed_share=0.05, **RATES)
    assert (found.replicas, found.outside_share) == (2, 0.0)
    assert found.missing_share == pytest.approx(360 / 3_960)
    assert found.lost_share == 0.0
    # Nothing to spare, and a share of the time that the SLO does not have.
    assert spot_part(10, 10, notice_seconds=120, request_seconds=30, allowed_share=0.05, **RATES).replicas == 0
    # What is missing for 9.1 % of the time is survived where 10 % may be outside.
    assert spot_part(10, 10, notice_seconds=120, request_seconds=30, allowed_share=0.10, **RATES).replicas == 10


def test_each_on_its_own_follows_the_binomial_distribution() -> None:
    told = {"notice_seconds": 120.0, "request_seconds": 30.0, "together": False}
    # One to spare of three: two of two missing is (1/11)² = 0.83 %, two or more of three 2.3 %.
    assert spot_part(3, 2, allowed_share=0.01, **RATES, **told).replicas == 2
    found = spot_part(3, 2, allowed_share=0.03, **RATES, **told)
    assert found.replicas == 3
    assert found.outside_share == pytest.approx(3 * (1 / 11) ** 2 * (10 / 11) + (1 / 11) ** 3)


def test_requests_longer_than_the_notice_are_lost() -> None:
    # 3.6 an hour is one in 1000 s; requests of 50 s with 30 s of notice lose 20 s' worth each time.
    told = {"interruptions_per_hour": 3.6, "start_up_seconds": 0.0, "request_seconds": 50.0}
    found = spot_part(4, 2, notice_seconds=30, allowed_share=0.01, **told)
    assert found.lost_share == pytest.approx(0.02)
    assert (found.replicas, found.outside_share) == (2, pytest.approx(0.01))
    assert spot_part(4, 2, notice_seconds=50, allowed_share=0.0, **told).replicas == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"held": 1},
        {"needed": -1},
        {"allowed_share": 1.1},
        {"notice_seconds": float("nan")},
        {"interruptions_per_hour": float("inf")},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    told = {"held": 3, "needed": 2, "notice_seconds": 0.0, "request_seconds": 1.0, "allowed_share": 0.1, **RATES}
    with pytest.raises(InvalidInput):
        spot_part(**(told | wrong))
