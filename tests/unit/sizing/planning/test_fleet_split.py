"""Splits of advice: the advised number on the own GPU, nothing beyond the need, and a mix that does not tremble."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.catalog import Price
from sizing.planning.fleet_split import AdvisedPool, own_candidates, split_fleet
from sizing.planning.fleet_types import Candidate, CapacityType, Fleet, FleetPool, Stock
from sizing.types import Confidence, Workload

KINDS = list(CapacityType)


def stock(name, gpu, count, dollars, kind=CapacityType.ON_DEMAND):
    return Stock(name, gpu, kind, count, Price(dollars, "list", "2026-11-01"))


def pool(name, priority=1, spot=0.0, gpus=()):
    return FleetPool(
        name, "llama-3.1-8b", (0.5,), (1.0,), Workload(100.0, 10.0), priority=priority, max_spot_share=spot, gpus=gpus
    )


def advised(name, replicas, rate=3.0, gpu="L40S"):
    return AdvisedPool(name, gpu, 1, 1, replicas, rate, Confidence.CALIBRATED)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.floats(0.01, 500), st.integers(0, 6))
def test_on_its_own_gpu_a_pool_gets_the_advised_replicas(replicas, rate, reserved):
    lines = (stock("r", "L40S", reserved, 0.5, CapacityType.RESERVED), stock("d", "L40S", 50, 1.0))
    fleet = Fleet((pool("a"),), lines)
    told = advised("a", replicas, rate)
    split = split_fleet(fleet, own_candidates(told, fleet.pools[0], lines, []), {"a": told.demand}, None)
    assert split.mix.holds
    used = {c.stock: n for c, n in split.mix.replicas}
    assert used.get("r", 0) == min(replicas, reserved)
    assert sum(used.values()) == replicas


def test_other_shapes_carry_in_proportion_to_what_the_own_one_really_carries():
    lines = (stock("own", "L40S", 9, 1.0), stock("big", "H100-SXM", 9, 3.0))
    found = [Candidate("a", "own", "L40S", 1, 1, 2.0), Candidate("a", "big", "H100-SXM", 1, 1, 8.0)]
    by_gpu = {c.gpu: c for c in own_candidates(advised("a", 2, 3.0), pool("a"), lines, found)}
    assert by_gpu["L40S"].requests_per_second == 3.0
    assert by_gpu["L40S"].confidence is Confidence.CALIBRATED
    assert by_gpu["H100-SXM"].requests_per_second == pytest.approx(12.0)
    only = own_candidates(advised("a", 2), pool("a", gpus=("H100-SXM",)), lines, found[1:])
    assert [c.gpu for c in only] == ["H100-SXM"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_no_replica_is_more_than_needed_and_late_priorities_go_short_first(seed):
    draw = random.Random(seed)
    lines = tuple(
        stock(f"s{i}", gpu, draw.randint(0, 8), draw.uniform(0.5, 4), draw.choice(KINDS))
        for i, gpu in enumerate(("L40S", "H100-SXM", "L40S"))
    )
    pools = tuple(pool(f"p{i}", i + 1, draw.choice((0.0, 0.5, 1.0))) for i in range(2))
    fleet = Fleet(pools, lines, change_dollars=draw.choice((0.0, 5.0)), hold_hours=1.0)
    candidates, demand = [], {}
    for one in pools:
        told = advised(one.name, draw.randint(0, 6), draw.uniform(0.5, 9))
        others = [
            Candidate(one.name, line.name, line.gpu, 1, 1, told.requests_per_second * 2.3)
            for line in lines
            if line.gpu == "H100-SXM" and one.may_use(line)
        ]
        candidates += own_candidates(told, one, lines, others)
        demand[one.name] = told.demand
    before = {c.key: draw.randint(0, 5) for c in candidates} if draw.random() < 0.7 else None
    split = split_fleet(fleet, candidates, demand, before)
    mix = split.mix
    alone = split_fleet(Fleet(pools[:1], lines), [c for c in candidates if c.pool == "p0"], demand, None)
    assert mix.short["p0"] == pytest.approx(alone.mix.short["p0"], abs=1e-5)  # priority 2 takes nothing of priority 1
    assert mix.holds == (split.smallest_budget_dollars_per_hour is not None)
    for one in pools:
        mine = [(c, n) for c, n in mix.replicas if c.pool == one.name]
        firm = {line.name for line in lines if line.capacity_type is not CapacityType.SPOT}
        if mix.short[one.name]:
            continue
        for candidate, _ in mine:  # one fewer is too few, or breaks the limit of spot
            left = [(c, n - (c == candidate)) for c, n in mine]
            carried = sum(c.requests_per_second * n for c, n in left)
            lasting = sum(c.requests_per_second * n for c, n in left if c.stock in firm)
            assert min(carried, lasting / (1 - one.max_spot_share + 1e-12)) < demand[one.name] * (1 + 1e-9)


@pytest.mark.slow
def test_a_mix_is_left_only_for_one_that_saves_more_than_the_change():
    """Two GPU types at nearly one cost: what a replica carries trembles by 1 %, the mix does not."""
    lines = (stock("a", "L40S", 50, 1.0), stock("b", "H100-SXM", 50, 2.0))
    moved = []
    for change in (0.0, 0.2):
        fleet = Fleet((pool("p"),), lines, change_dollars=change, hold_hours=1.0)
        before, moves = None, 0
        for step in range(12):
            rate = 2.0 * (0.99 if step % 2 else 1.01)
            told = advised("p", 20)
            found = [Candidate("p", "b", "H100-SXM", 1, 1, 3.0 * rate)]
            split = split_fleet(fleet, own_candidates(told, fleet.pools[0], lines, found), {"p": told.demand}, before)
            assert split.mix.holds
            moves += split.mix.changes if before is not None else 0
            before = {c.key: n for c, n in split.mix.replicas}
        moved.append(moves)
    assert moved[0] > 100  # all of them at each step
    assert moved[1] <= 11  # the one that the smaller rate needs


def test_a_budget_too_small_says_who_goes_short_and_what_would_do():
    lines = (stock("d", "L40S", 50, 1.0),)
    fleet = Fleet((pool("late", 2), pool("early", 1)), lines, budget_dollars_per_hour=7.0)
    told = {name: advised(name, 5) for name in ("late", "early")}
    candidates = [c for p in fleet.pools for c in own_candidates(told[p.name], p, lines, [])]
    split = split_fleet(fleet, candidates, {name: one.demand for name, one in told.items()}, None)
    assert split.mix.short["early"] == 0
    assert split.mix.short["late"] == pytest.approx(0.6)
    assert split.smallest_budget_dollars_per_hour == pytest.approx(10.0)
