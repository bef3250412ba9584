"""Cost per token, the utilisation trap, break-even and savings: figures worked out by hand, and their properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.economics import ApiPrice
from sizing.usage_cost import Usage, compare_with_api, savings, usage_cost

# Three hours with 4 replicas of 2 GPUs at $2.50: 24 GPU-hours, $60. Each replica carries 5 requests/s: 216,000 requests
# at most; 54,000 came (a quarter), with 900 input tokens, 300 of them cached, and 200 output tokens each.
USAGE = Usage(3.0, 12.0, 216_000.0, 54_000.0, 48.6e6, 16.2e6, 10.8e6)
API = ApiPrice(0.50, 1.50, 0.05, "an API", "2026-11-01", 0.25, 0.75)


def test_the_figures_worked_out_by_hand():
    cost = usage_cost(USAGE, 2 * 2.50)
    assert cost.dollars == 60.0
    assert cost.dollars_per_hour == 20.0
    assert cost.utilisation == 0.25
    assert cost.utilisation_trap_ratio == 4.0
    assert cost.dollars_per_request == pytest.approx(60 / 54_000)
    assert cost.dollars_per_million_input_tokens == pytest.approx(60 / 48.6)
    assert cost.dollars_per_million_output_tokens == pytest.approx(60 / 10.8)
    assert cost.dollars_per_million_tokens == pytest.approx(60 / 59.4)
    # At capacity four times as many tokens for the same dollars.
    assert cost.dollars_per_million_tokens_at_capacity == pytest.approx(60 / 237.6)

    there = compare_with_api(USAGE, cost, API)
    # 32.4M uncached · 0.50 + 16.2M cached · 0.05 + 10.8M output · 1.50 = 16.20 + 0.81 + 16.20
    assert there.dollars == pytest.approx(33.21)
    assert there.own_to_api_ratio == pytest.approx(60 / 33.21)
    # Full replicas would serve four times as much, worth $132.84 at the API: 60 / 132.84 of that must be in use.
    assert there.break_even_utilisation == pytest.approx(60 / 132.84)
    # 48.6M · 0.25 + 10.8M · 0.75 = 12.15 + 8.10
    assert there.batch_dollars == pytest.approx(20.25)
    assert there.batch_break_even_utilisation == pytest.approx(60 / 81.0)

    # Advised 12 replica-hours at a peak of 6; in the two hours that were reported 10 ran and 8 were advised.
    ran = Usage(2.0, 10.0, 180_000.0, 36_000.0, 0.0, 0.0, 0.0)
    saved = savings(USAGE, 6, ran, 8.0, 5.0)
    assert saved.against_static_peak == (6 * 3 - 12) * 5
    assert saved.against_ran == (10 - 8) * 5


@given(*[st.floats(1e-3, 1e6)] * 3, st.floats(0.01, 1), *[st.floats(1, 1e9)] * 2)
def test_at_the_break_even_both_cost_the_same(replica_hours, per_hour, capacity, share, given_tokens, got):
    usage = Usage(1.0, replica_hours, capacity, share * capacity, given_tokens, 0.0, got)
    even = compare_with_api(usage, usage_cost(usage, per_hour), API).break_even_utilisation
    scaled = even / share
    at_it = Usage(1.0, replica_hours, capacity, even * capacity, given_tokens * scaled, 0.0, got * scaled)
    cost = usage_cost(at_it, per_hour)
    assert cost.dollars == pytest.approx(compare_with_api(at_it, cost, API).dollars)


def test_what_is_not_known_is_none():
    nothing = Usage(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    cost = usage_cost(nothing, 3.0)
    assert (cost.dollars, cost.utilisation, cost.dollars_per_million_tokens) == (0.0, None, None)
    there = compare_with_api(nothing, cost, ApiPrice(0.5, 1.5))
    assert (there.break_even_utilisation, there.batch_dollars) == (None, None)
    assert savings(nothing, None, None, 0.0, 3.0) == savings(nothing, None, None, 0.0, 5.0)
