from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.catalog import Price
from sizing.economics import ApiPrice, break_even_utilisation, fleet_cost
from sizing.errors import InvalidInput
from sizing.types import Workload

TWO = Price(2.0, "given", "2026-11")
CHAT = Workload(1000, 250)


def test_an_idle_share_is_paid_for() -> None:
    half, full = (fleet_cost(TWO, 2, 4, CHAT, 5.0, rate) for rate in (5.0, 10.0))
    assert half.dollars_per_hour == full.dollars_per_hour == 16.0
    assert half.dollars_per_million_output_tokens == pytest.approx(2 * full.dollars_per_million_output_tokens)
    assert half.dollars_per_million_output_tokens_at_capacity == full.dollars_per_million_output_tokens
    # 10 req/s of 250 tokens: 9 million tokens an hour for 16 dollars.
    assert full.dollars_per_million_output_tokens == pytest.approx(16 / 9)
    assert full.dollars_per_million_tokens == pytest.approx(16 / 45)


def test_nothing_served_has_no_price_per_token_and_overload_is_not_served() -> None:
    assert fleet_cost(TWO, 1, 1, CHAT, 5.0, 0.0).dollars_per_million_output_tokens is None
    assert fleet_cost(TWO, 1, 1, CHAT, 5.0, None).utilisation is None
    assert fleet_cost(TWO, 1, 1, CHAT, 5.0, 99.0).utilisation == 1.0


def test_break_even_is_where_both_cost_the_same() -> None:
    api = ApiPrice(0.5, 1.5)
    share = break_even_utilisation(TWO, 1, CHAT, 4.0, api)
    served = 4.0 * share
    own = fleet_cost(TWO, 1, 1, CHAT, 4.0, served).dollars_per_hour
    assert own == pytest.approx(served * 3600 * api.dollars_per_request(CHAT))


def test_cached_input_is_cheaper_at_an_api() -> None:
    plain, cached = ApiPrice(1.0, 2.0), ApiPrice(1.0, 2.0, 0.1)
    hits = Workload(1000, 250, cached_share=0.5)
    assert plain.dollars_per_request(hits) == pytest.approx(1.5e-3)
    assert cached.dollars_per_request(hits) == pytest.approx((500 + 50 + 500) / 1e6)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_prices_that_cannot_be(price: float) -> None:
    with pytest.raises(InvalidInput):
        fleet_cost(Price(price, "given", "now"), 1, 1, CHAT, 1.0, 1.0)
    with pytest.raises(InvalidInput):
        break_even_utilisation(Price(price, "given", "now"), 1, CHAT, 1.0, ApiPrice(1, 1))


def test_fleets_that_cannot_be() -> None:
    with pytest.raises(InvalidInput):
        fleet_cost(TWO, 0, 1, CHAT, 1.0, 1.0)
    with pytest.raises(InvalidInput):
        fleet_cost(TWO, 1, 1, CHAT, 0.0, 1.0)
    with pytest.raises(InvalidInput):
        break_even_utilisation(TWO, 1, CHAT, 1.0, ApiPrice(-1, 1))
    with pytest.raises(InvalidInput):
        break_even_utilisation(TWO, 1, CHAT, 1.0, ApiPrice(0, 0))


@given(st.integers(1, 100), st.integers(1, 64), st.floats(0.01, 100), st.floats(0.01, 1000))
def test_more_replicas_for_the_same_demand_cost_more_per_token(
    replicas: int, gpus: int, capacity: float, rate: float
) -> None:
    fewer, more = (fleet_cost(TWO, count, gpus, CHAT, capacity, rate) for count in (replicas, replicas + 1))
    assert more.dollars_per_hour > fewer.dollars_per_hour
    assert more.utilisation <= fewer.utilisation
    served = min(rate, capacity * replicas)
    if served == rate:
        assert more.dollars_per_million_output_tokens > fewer.dollars_per_million_output_tokens
