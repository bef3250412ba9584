"""Fleet plans: equal to enumeration, monotone in the budget, steady, and least regret."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sizing.catalog import Price, resolve_gpu
from sizing.catalog.engines import engine_defaults
from sizing.economics import ApiPrice
from sizing.errors import InvalidInput
from sizing.planning.fleet import plan_fleet, stale_prices
from sizing.planning.fleet_candidates import fleet_candidates, pool_candidates
from sizing.planning.fleet_mix import cheapest_mix, mix_of, smallest_budget
from sizing.planning.fleet_money import idle_reserved_dollars_per_hour, pool_money
from sizing.planning.fleet_regret import Scenario, least_regret_mix, regret, sampled_scenarios
from sizing.planning.fleet_types import Candidate, CapacityType, Fleet, FleetPool, Stock
from sizing.replica.speculative_step import Drafting
from sizing.report import size_report
from sizing.types import Confidence, Deployment, PolicyConfig, Slo, Workload

TODAY = datetime.date(2026, 11, 30)
WORK = Workload(1000, 200)


def pool(name="chat", rate=10.0, **more):
    return FleetPool(name, "llama-3.1-8b", (0.5,), (rate,), WORK, **more)


def stock(name, count, dollars, kind=CapacityType.ON_DEMAND, gpu="h100-sxm", as_of="2026-11-01"):
    return Stock(name, gpu, kind, count, Price(dollars, "a price list", as_of))


def test_of_precisions_and_drafts_the_choice_that_carries_most_is_the_candidate():
    fleet = Fleet((pool(rate=60.0, tensor_parallel=(1,)),), (stock("a", 8, 3.0), stock("b", 8, 2.0)))
    ((own, _), ()) = pool_candidates(fleet.pools[0], fleet)
    assert (own.precision, own.drafting, own.caveats) == (None, None, ())
    drafting = Drafting(4, 0.8, 0.05)
    for more, precision, drafts in (
        ({"precisions": ("fp8", "int4")}, "fp8", None),
        ({"drafting": drafting}, None, drafting),
        ({"precisions": ("fp8",), "drafting": drafting}, "fp8", drafting),
        ({"drafting": replace(drafting, acceptance=0.0)}, None, None),  # carries less than without
    ):
        asked = pool(rate=60.0, tensor_parallel=(1,), **more)
        ((first, second), ()) = pool_candidates(asked, fleet)
        assert (first.precision, first.drafting) == (precision, drafts)
        assert (first.stock, second.stock) == ("a", "b")
        assert (first.requests_per_second > own.requests_per_second) == (precision is not None or drafts is not None)
        assert ("the quality of the answers is not judged" in first.caveats) == (precision is not None)
        assert ("the acceptance is given, not measured" in first.caveats) == (drafts is not None)
        assert (first.confidence is Confidence.EXTRAPOLATED) == (drafts is not None)
    # What does not fit as it is may fit with fewer bits.
    tight = pool("big", 1.0, tensor_parallel=(1,), precisions=("int4",))
    tight = replace(tight, model="llama-3.3-70b")
    ((found, _), ()) = pool_candidates(tight, fleet)
    assert found.precision == "int4"


def small_fleet(rng):
    """A fleet of at most 3 pools and 3 lines of stock, with candidates made up."""
    pools = tuple(
        pool(
            f"p{i}",
            rng.choice([0.0, rng.uniform(1, 12)]),
            priority=rng.randint(1, 2),
            max_spot_share=rng.choice([0, 0.5, 1]),
        )
        for i in range(rng.randint(1, 2 if rng.random() < 0.7 else 3))
    )
    lines = tuple(
        stock(f"s{i}", rng.randint(0, 4), round(rng.uniform(1, 9), 2), rng.choice(list(CapacityType)))
        for i in range(rng.randint(1, 3))
    )
    candidates = [
        Candidate(p.name, s.name, s.gpu, size, size, rng.uniform(1, 6) * size)
        for p in pools
        for s in lines
        for size in rng.sample([1, 2], rng.randint(0, 2 if len(pools) == 1 else 1))
        if s.capacity_type is not CapacityType.SPOT or p.max_spot_share > 0
    ]
    fleet = Fleet(pools, lines)
    budget = rng.choice([None, fleet.committed_dollars_per_hour + rng.uniform(0, 25)])
    current = {c.key: rng.randint(0, 2) for c in candidates if rng.random() < 0.3}
    return replace(
        fleet, budget_dollars_per_hour=budget, current=current, change_dollars=rng.choice([0.0, 30.0])
    ), candidates


def every_mix(fleet, candidates, demand):
    """Every mix that stock and budget allow."""
    counts = {line.name: line.count for line in fleet.stock}
    for numbers in itertools.product(*(range(counts[c.stock] // c.gpus + 1) for c in candidates)):
        used = dict.fromkeys(counts, 0)
        for candidate, number in zip(candidates, numbers, strict=True):
            used[candidate.stock] += candidate.gpus * number
        if any(used[name] > counts[name] for name in counts):
            continue
        mix = mix_of(fleet, candidates, numbers, demand)
        if fleet.budget_dollars_per_hour is None or mix.dollars_per_hour <= fleet.budget_dollars_per_hour + 1e-9:
            yield mix


def score(fleet, mix):
    """What is made small: the shares that go short by priority, then the cost."""
    short = [
        round(sum(mix.short[p.name] for p in fleet.pools if p.priority == priority), 5)
        for priority in sorted({p.priority for p in fleet.pools})
    ]
    return [*short, mix.dollars_per_hour + mix.changes * fleet.change_dollars_per_hour]


@pytest.mark.slow
def test_the_cheapest_mix_equals_enumeration_on_240_random_fleets():
    rng = random.Random(7)
    held = 0
    for number in range(240):
        fleet, candidates = small_fleet(rng)
        demand = {p.name: p.demand_at(0.95) for p in fleet.pools}
        found = cheapest_mix(fleet, candidates, demand)
        best = min(score(fleet, mix) for mix in every_mix(fleet, candidates, demand))
        assert score(fleet, found) == pytest.approx(best, abs=3e-5), number
        held += found.holds
    assert 60 < held < 200  # both kinds were tried


@pytest.mark.slow
def test_more_budget_never_costs_slo_and_the_smallest_budget_is_the_smallest():
    rng = random.Random(11)
    for _ in range(25):
        fleet, candidates = small_fleet(rng)
        demand = {p.name: p.demand_at(0.95) for p in fleet.pools}
        budgets = [fleet.committed_dollars_per_hour + extra for extra in (0, 3, 8, 20, 60)]
        shorts = [
            score(fleet, cheapest_mix(replace(fleet, budget_dollars_per_hour=b), candidates, demand))[:-1]
            for b in budgets
        ]
        assert all(more <= less for less, more in itertools.pairwise(shorts))
        least = smallest_budget(fleet, candidates, demand)
        steady = replace(fleet, current={}, change_dollars=0.0, budget_dollars_per_hour=None)
        if least is None:
            assert not cheapest_mix(steady, candidates, demand).holds
            continue
        assert cheapest_mix(replace(steady, budget_dollars_per_hour=least), candidates, demand).holds
        if least > fleet.committed_dollars_per_hour + 0.01:
            below = replace(steady, budget_dollars_per_hour=least - 0.01)
            assert not cheapest_mix(below, candidates, demand).holds


def test_who_goes_short_is_the_pool_of_the_later_priority():
    fleet = Fleet((pool("batch", 10, priority=2), pool("chat", 10)), (stock("h", 3, 2.0),))
    candidates = [Candidate(p, "h", "h100-sxm", 1, 1, 5.0) for p in ("batch", "chat")]
    found = plan_fleet(fleet, candidates, quantile=0.95, reference_date=TODAY)
    assert found.mix.short == {"batch": pytest.approx(0.5), "chat": 0.0}
    assert found.smallest_budget_dollars_per_hour is None
    assert found.one_type_dollars_per_hour is None


def test_spot_carries_its_share_at_most_and_regions_and_types_are_kept():
    lines = (stock("firm", 9, 3.0), stock("spot", 9, 1.0, CapacityType.SPOT))
    candidates = [Candidate("chat", line.name, line.gpu, 1, 1, 5.0) for line in lines]
    for share, wanted in (
        (0.0, {"firm": 4}),
        (0.5, {"firm": 2, "spot": 2}),
        (0.8, {"firm": 1, "spot": 3}),
        (1.0, {"spot": 4}),
    ):
        fleet = Fleet((pool(max_spot_share=share),), lines)
        found = cheapest_mix(fleet, candidates, {"chat": 20.0})
        assert {c.stock: n for c, n in found.replicas} == wanted
    here = replace(stock("here", 4, 3.0), region="eu")
    there = [
        replace(here, name="there", region="us"),
        replace(here, name="other", gpu="l40s"),
        stock("nowhere", 4, 3.0),
    ]
    only = pool(regions=("eu",), gpus=("h100",), tensor_parallel=(1,))
    assert [c.stock for c in fleet_candidates(Fleet((only,), (here, *there)))[0]] == ["here"]


def test_a_tiny_demand_takes_one_replica():
    fleet = Fleet((pool(),), (stock("h", 2, 3.0),))
    found = cheapest_mix(fleet, [Candidate("chat", "h", "h100-sxm", 1, 1, 5.0)], {"chat": 1e-9})
    assert (found.holds, found.replicas[0][1]) == (True, 1)


def test_a_change_that_saves_less_than_it_costs_is_not_made():
    lines = (stock("old", 4, 2.0), stock("new", 4, 1.9))
    candidates = [Candidate("chat", line.name, line.gpu, 1, 1, 5.0) for line in lines]
    fleet = Fleet((pool(),), lines, current={("chat", "old", 1): 2}, change_dollars=2.0, hold_hours=10)
    demand = {"chat": 10.0}
    assert [c.stock for c, _ in cheapest_mix(fleet, candidates, demand).replicas] == ["old"]
    moved = cheapest_mix(replace(fleet, hold_hours=100), candidates, demand)
    assert ([c.stock for c, _ in moved.replicas], moved.changes) == (["new"], 4)


def test_a_plan_on_one_gpu_type_has_the_replicas_of_size():
    fleet = Fleet((pool(rate=200.0, tensor_parallel=(1,)),), (stock("h", 64, 3.0),))
    candidates, excluded = fleet_candidates(fleet)
    assert excluded == ()
    unset = engine_defaults("vllm", resolve_gpu("h100-sxm"))
    deployment = Deployment(
        "llama-3.1-8b",
        "h100-sxm",
        max_num_seqs=unset.max_num_seqs,
        max_batched_tokens=unset.max_batched_tokens,
        memory_utilisation=unset.memory_utilisation,
    )
    report = size_report(deployment, WORK, Slo(), 200.0, PolicyConfig(max_replicas=1_000_000))
    ((candidate, replicas),) = cheapest_mix(fleet, candidates, {"chat": 200.0}).replicas
    assert candidate.requests_per_second == report.operating_point.requests_per_second
    assert replicas == math.ceil(200 / candidate.requests_per_second)


def test_shapes_that_cannot_serve_are_named_with_the_reason():
    wanted = FleetPool("big", "llama-3.3-70b", (0.5,), (1.0,), WORK, tensor_parallel=(1, 4, 16))
    lines = (stock("h", 8, 3.0), stock("spot", 8, 1.0, CapacityType.SPOT))
    candidates, excluded = fleet_candidates(Fleet((wanted,), lines))
    assert {(c.stock, c.tensor_parallel) for c in candidates} == {("h", 4)}
    # One replica of 4 carries the demand: larger ones are not looked at, but for the size that runs.
    assert [(e.tensor_parallel, "tensor parallelism 4 would fit" in e.reason) for e in excluded] == [(1, True)]
    running = Fleet((wanted,), lines, current={("big", "h", 16): 1})
    assert fleet_candidates(running)[1][-1].reason == "16 GPUs are more than the 8 of one node"
    more = pool_candidates(wanted, Fleet((wanted,), lines), scenarios=[Scenario({"big": 1e3})])
    assert more[1][-1].tensor_parallel == 16


def test_the_least_regret_is_the_newsvendor_with_one_type_and_equals_enumeration():
    rates = [float(rate) for rate in range(1, 101)]
    fleet = Fleet((pool(under_to_over_cost=4.0),), (stock("h", 200, 3.0),))
    candidates = [Candidate("chat", "h", "h100-sxm", 1, 1, 1.0)]
    scenarios = [Scenario({"chat": rate}) for rate in rates]
    found = least_regret_mix(fleet, candidates, scenarios)
    # The quantile 4 / (1 + 4) of 1 … 100; between 80 and 81 the cost is flat.
    assert found.replicas[0][1] in (80, 81)
    rng = random.Random(3)
    for _ in range(12):
        fleet, candidates = small_fleet(rng)
        fleet = replace(fleet, current={}, change_dollars=0.0)
        few = [Scenario({p.name: rng.uniform(0, 12) for p in fleet.pools}, rng.uniform(0.5, 2)) for _ in range(3)]
        mixes = list(every_mix(fleet, candidates, few[0].requests_per_second))[:300]
        chosen, *others = regret(fleet, candidates, few, [least_regret_mix(fleet, candidates, few), *mixes])
        assert chosen.expected_dollars_per_hour <= min(o.expected_dollars_per_hour for o in others) + 1e-4


def test_scenarios_are_drawn_by_the_seed_and_follow_the_quantiles():
    quantiles = FleetPool("a", "llama-3.1-8b", (0.1, 0.5, 0.9), (10.0, 20.0, 40.0), WORK)
    fleet = Fleet((quantiles, replace(quantiles, name="b")), (stock("h", 1, 1.0),))
    drawn = sampled_scenarios(fleet, 400, 5, correlation=1.0)
    assert drawn == sampled_scenarios(fleet, 400, 5, correlation=1.0)
    assert all(s.requests_per_second["a"] == s.requests_per_second["b"] for s in drawn)
    rates = sorted(s.requests_per_second["a"] for s in drawn)
    assert (rates[0], rates[-1]) == (10.0, 40.0)
    assert rates[200] == pytest.approx(20.0, rel=0.1)


def test_old_undated_and_future_prices_are_flagged():
    lines = [
        stock(n, 1, 1.0, as_of=d)
        for n, d in (("new", "2026-09-01"), ("old", "2026-08-31"), ("future", "2026-12-01"), ("undated", "given"))
    ]
    found = stale_prices(lines, TODAY)
    assert [(s.stock, s.age_days) for s in found] == [("old", 91), ("future", -1), ("undated", None)]


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_numbers_that_cannot_be_are_refused(bad):
    fleet = Fleet((pool(),), (stock("h", 1, 1.0, CapacityType.RESERVED),))
    for make in (
        lambda: pool(rate=bad),
        lambda: pool(max_spot_share=bad),
        lambda: pool(under_to_over_cost=bad),
        lambda: stock("h", 1, bad),
        lambda: replace(fleet, budget_dollars_per_hour=bad),
        lambda: replace(fleet, change_dollars=bad),
        lambda: replace(fleet, hold_hours=bad),
        lambda: sampled_scenarios(fleet, 5, 0, correlation=bad * 2),
        lambda: least_regret_mix(fleet, [], [Scenario({"chat": bad})]),
        lambda: least_regret_mix(fleet, [], [Scenario({"chat": 1.0}, bad)]),
    ):
        with pytest.raises(InvalidInput):
            make()
    with pytest.raises(InvalidInput, match=r"must not be below the cost of the reserved stock \(1\)"):
        replace(fleet, budget_dollars_per_hour=0.5)


def test_the_money_of_a_pool_is_what_a_hand_computes():
    lines = (stock("own", 4, 2.0, CapacityType.RESERVED), stock("cloud", 9, 3.0))
    fleet = Fleet((replace(pool(), levels=(0.5, 0.9), requests_per_second=(8.0, 10.0)),), lines)
    candidates = [Candidate("chat", "own", "h100-sxm", 4, 4, 6.0), Candidate("chat", "cloud", "h100-sxm", 2, 2, 4.0)]
    mix = cheapest_mix(fleet, candidates, {"chat": 10.0})
    # 4 reserved GPUs at 2 dollars and 2 at 3: 14 dollars an hour for 8 of 10 requests per second.
    found = pool_money(fleet, fleet.pools[0], mix, ApiPrice(0.5, 1.5))
    assert (found.gpus, found.replicas, found.capacity_requests_per_second) == (6, 2, 10.0)
    assert (found.cost.dollars_per_hour, found.cost.utilisation) == (14.0, 0.8)
    # 14 / (8 · 200 · 3600) · 1e6 and 14 / (8 · 1200 · 3600) · 1e6; at capacity 10 in place of 8.
    assert found.cost.dollars_per_million_output_tokens == pytest.approx(2.430556, rel=1e-6)
    assert found.cost.dollars_per_million_tokens == pytest.approx(0.405093, rel=1e-5)
    assert found.cost.dollars_per_million_output_tokens_at_capacity == pytest.approx(1.944444, rel=1e-6)
    assert found.dollars_per_request == pytest.approx(14 / 28_800)
    # The API: (1000 · 0.5 + 200 · 1.5) / 1e6 = 0.0008 a request, 28,800 requests: 23.04 dollars; 14 / 28.8 at capacity.
    assert found.api_dollars_per_hour == pytest.approx(23.04)
    assert found.break_even_utilisation == pytest.approx(14 / 28.8)
    assert idle_reserved_dollars_per_hour(fleet, mix) == 0.0
    unused = cheapest_mix(fleet, candidates, {"chat": 0.0})
    assert (unused.dollars_per_hour, idle_reserved_dollars_per_hour(fleet, unused)) == (8.0, 8.0)
    assert pool_money(fleet, fleet.pools[0], unused) is None


def test_the_public_assignment_instance_is_solved_at_its_published_cost():
    """27 servers of 9 models in 3 classes over 9 accelerator types, with one type for each server.

    What one replica carries is taken from the published solution: its rate over its replicas. A model's replica in a
    class with tighter objectives also serves the looser classes.
    """
    folder = Path(__file__).resolve().parents[5] / "shared" / "data" / "sizing" / "inferno_sample_data"
    if not folder.is_dir():
        pytest.skip("no data/sizing/inferno_sample_data")

    def read(name):
        return json.loads((folder / f"{name}-data.json").read_text(encoding="utf-8"))

    published = read("solution")["allocations"]
    devices = {a["name"]: a for a in read("accelerator")["accelerators"]}
    rank = {c["name"]: c["priority"] for c in read("serviceclass")["serviceClasses"]}
    lines = tuple(
        stock(c["type"], c["count"], devices[c["type"]]["cost"], gpu=c["type"]) for c in read("capacity")["count"]
    )
    pools, candidates, floor = [], {}, 0.0
    for name, row in published.items():
        kind, model = name.split("-", 1)
        pools.append(pool(name, row["load"]["arrivalRate"] / 60, priority=rank[kind]))
        for other, found in published.items():
            other_kind, other_model = other.split("-", 1)
            if other_model == model and rank[other_kind] <= rank[kind]:
                device = devices[found["accelerator"]]
                size, rate = device["multiplicity"], found["load"]["arrivalRate"] / 60 / found["numReplicas"]
                key = name, device["type"], size
                if key not in candidates or candidates[key].requests_per_second < rate:
                    candidates[key] = Candidate(name, device["type"], device["type"], size, size, rate)
        mine = [c for key, c in candidates.items() if key[0] == name]
        prices = {line.name: line.price.dollars_per_gpu_hour for line in lines}
        rate = pools[-1].demand_at(0.5)
        floor += min(prices[c.stock] * c.gpus * math.ceil(rate / c.requests_per_second - 1e-6) for c in mine)
    fleet, demand = Fleet(tuple(pools), lines), {p.name: p.demand_at(0.5) for p in pools}
    single = cheapest_mix(fleet, list(candidates.values()), demand, one_type_per_pool=True)
    mixed = cheapest_mix(fleet, list(candidates.values()), demand)
    assert single.holds
    assert mixed.holds
    cost = sum(row["cost"] for row in published.values())
    assert cost == 27_007
    # Stock binds: the cheapest allocation of each server alone would cost less.
    assert floor < single.dollars_per_hour == cost
    assert mixed.dollars_per_hour <= single.dollars_per_hour
    for line in lines:
        assert sum(c.gpus * n for c, n in mixed.replicas if c.stock == line.name) <= line.count
