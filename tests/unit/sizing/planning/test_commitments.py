"""Commitments: equal to enumeration on small instances, the newsvendor's quantile, and never worse than none."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.catalog import Price
from sizing.planning.commitments import Commitment, CommitmentOption, HourlyPrices, best_commitments, spend
from sizing.planning.quarter import PoolDemand, gpus_needed, plan_gpu_type, week_bands


def price(dollars):
    return Price(dollars, "given", "2026-11-01")


def option(name, dollars, most=None):
    return CommitmentOption(name, "h100", "reserved", price(dollars), 52.0, most)


HOURS = st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=4).map(np.array)


@settings(max_examples=200, deadline=None)
@given(
    HOURS,
    st.floats(0.5, 8),
    st.one_of(st.none(), st.tuples(st.floats(0.1, 8), st.floats(0, 1))),
    st.lists(st.tuples(st.floats(0.1, 9), st.integers(0, 4)), min_size=1, max_size=2),
)
def test_the_commitments_cost_as_little_as_any_by_enumeration(needed, on_demand, spot, offers):
    # Spot dearer than on demand would not be bought.
    hourly = HourlyPrices(
        price(on_demand), None if spot is None else price(min(spot[0], on_demand)), spot[1] if spot else 0
    )
    options = [option(str(i), dollars, most) for i, (dollars, most) in enumerate(offers)]
    found = spend(needed, hourly, best_commitments(needed, hourly, options)).total.mean()
    every = itertools.product(*(range(most + 1) for _, most in offers))
    least = min(
        spend(needed, hourly, [Commitment(o, n, None) for o, n in zip(options, numbers, strict=True)]).total.mean()
        for numbers in every
    )
    assert found == pytest.approx(least)


def test_one_option_is_the_newsvendors_quantile():
    needed = np.random.default_rng(1).integers(0, 200, (50, 168))
    (found,) = best_commitments(needed, HourlyPrices(price(4.0)), [option("year", 1.0)])
    # Needed in a quarter of the hours at least: the 75 % quantile.
    assert abs(found.gpus - np.quantile(needed, 0.75)) <= 1
    assert found.worth_dollars_per_hour >= 1.0


def test_pools_share_the_gpus_of_their_type_hour_by_hour():
    day, night = np.tile([8.0, 0.0], (3, 84)), np.tile([0.0, 8.0], (3, 84))
    flat = {"flat": np.ones(168)}
    pools = [PoolDemand(name, rates, 2.0, 2, 0, flat) for name, rates in (("day", day), ("night", night))]
    assert gpus_needed(pools[0]).max() == 8
    found = plan_gpu_type("h100", pools, HourlyPrices(price(4.0)), [option("year", 3.0)])
    # Four replicas of two GPUs, at any hour one pool or the other.
    assert [c.gpus for c in found.commitments] == [8]
    assert found.expected_dollars == pytest.approx(8 * 168 * 3.0)
    assert found.expected_dollars_on_demand_only == pytest.approx(8 * 168 * 4.0)
    assert found.after_quarter_dollars == pytest.approx(8 * 3.0 * 51 * 168)
    assert found.hourly_peak_gpus == (0.0, 0.0, 0.0)
    assert week_bands(gpus_needed(pools[0]))[0].mean == (4.0, 4.0, 4.0)
