from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest

from sizing.errors import DoesNotFit, InvalidInput, UnknownModel
from sizing.planning.demand_needs import demand_quantile
from sizing.planning.plan import Planner, operating_point, plan
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Constraint, Demand, Deployment, PolicyConfig, Provision, Slo, Workload

H100 = Deployment("llama-3.1-8b", "h100-sxm")
CHAT = Workload(1000, 200, 1.5e6, 6e4)
LEVELS = (0.1, 0.5, 0.9)


def demand(low: float, middle: float, high: float, **fields: object) -> Demand:
    return Demand(LEVELS, (low, middle, high), CHAT, 600.0, **fields)


def test_the_operating_point_meets_the_slo_and_a_little_more_does_not() -> None:
    slo = Slo(ttft_seconds=1.0, tpot_seconds=0.015)
    point = operating_point(H100, CHAT, slo)
    assert point.feasible
    assert point.constraint is Constraint.DECODE_LATENCY
    assert point.at_slo.tpot_seconds <= 0.015
    model = ReplicaModel(resolve(H100), CHAT)
    batch = model.lane_batch(point.requests_per_second * 1.01)
    assert batch is not None
    assert model.latency(batch, 0.95, 0.95).tpot_seconds > 0.015
    assert point.decode_tokens_per_second == pytest.approx(point.requests_per_second * 200)
    assert point.p50.ttft_seconds <= point.p95.ttft_seconds


@pytest.mark.parametrize(
    ("deployment", "workload", "slo", "expected"),
    [
        (H100, Workload(8000, 50), Slo(ttft_seconds=0.6, tpot_seconds=None), Constraint.QUEUE_WAIT),
        (H100, Workload(8000, 500, 1.6e8), Slo(ttft_seconds=0.9, tpot_seconds=None), Constraint.PREFILL_COMPUTE),
        (replace(H100, observed_kv_tokens=30_000), CHAT, Slo(), Constraint.KV_MEMORY),
        (replace(H100, max_num_seqs=1000), CHAT, Slo(), Constraint.UTILISATION_MARGIN),
        (replace(H100, max_num_seqs=8), CHAT, Slo(), Constraint.MAX_NUM_SEQS),
        (replace(H100, max_num_seqs=8), CHAT, Slo(None, None), Constraint.MAX_NUM_SEQS),
    ],
)
def test_what_binds(deployment: Deployment, workload: Workload, slo: Slo, expected: Constraint) -> None:
    assert operating_point(deployment, workload, slo).constraint is expected


def test_an_infeasible_slo_says_what_would_help() -> None:
    point = operating_point(H100, CHAT, Slo(tpot_seconds=0.005))
    assert not point.feasible
    assert point.constraint is Constraint.SLO_INFEASIBLE
    assert point.advice == "fp8 weights"
    assert "no number of replicas" in point.message
    assert point.requests_per_second > 0
    helped = operating_point(replace(H100, precision="fp8"), CHAT, Slo(tpot_seconds=0.005))
    assert helped.feasible
    hopeless = operating_point(H100, CHAT, Slo(ttft_seconds=0.001, tpot_seconds=None))
    assert hopeless.advice is not None
    needed = float(hopeless.advice.split()[-2])
    assert operating_point(H100, CHAT, Slo(ttft_seconds=needed, tpot_seconds=None)).feasible


def test_replicas_follow_the_newsvendor_quantile() -> None:
    planner = Planner(H100, Slo())
    capacity = planner.operating_point(CHAT).requests_per_second
    asked = demand(1 * capacity, 2.5 * capacity, 4.5 * capacity)
    assert planner.plan(asked, PolicyConfig()).desired == 5
    assert planner.plan(asked, PolicyConfig(under_to_over_cost=1.0)).desired == 3
    careful = planner.plan(asked, PolicyConfig())
    assert careful.lower <= 3 <= careful.upper
    assert careful.lower < careful.desired <= careful.upper
    assert careful.demand_quantile == pytest.approx(0.9)


def test_the_largest_currency_decides() -> None:
    planner = Planner(H100, Slo())
    point = planner.operating_point(CHAT)
    one = point.requests_per_second * 0.9
    base = demand(one, one, one)
    assert planner.plan(base, PolicyConfig()).currency == "requests"
    tokens = (point.prefill_tokens_per_second * 2.5,) * 3
    prefill = planner.plan(replace(base, prefill_tokens_per_second=tokens), PolicyConfig())
    assert (prefill.currency, prefill.desired) == ("prefill_tokens", 3)
    memory = planner.plan(replace(base, kv_tokens=(point.kv_capacity_tokens * 3,) * 3), PolicyConfig())
    assert (memory.currency, memory.desired, memory.constraint) == ("kv_tokens", 4, Constraint.KV_MEMORY)


def test_limits_and_zero_demand() -> None:
    nothing = plan(demand(0, 0, 0), H100, Slo(), PolicyConfig(min_replicas=2))
    assert (nothing.desired, nothing.unclamped, nothing.constraint) == (2, 0, Constraint.MIN_REPLICAS)
    assert plan(demand(0, 0, 0), H100, Slo(), PolicyConfig(min_replicas=0)).desired == 0
    much = plan(demand(1e3, 1e5, 1e6), H100, Slo(), PolicyConfig(max_replicas=7))
    assert much.desired == much.upper == 7
    assert much.unclamped > 1000


def test_the_interval_contains_both_kinds_of_error() -> None:
    planner = Planner(H100, Slo())
    policy = PolicyConfig(max_replicas=10_000)
    certain = planner.plan(demand(2000, 2000, 2000), policy)
    uncertain = planner.plan(demand(1000, 2000, 4000), policy)
    assert certain.lower < certain.desired < certain.upper
    assert uncertain.lower < certain.lower
    assert uncertain.upper > certain.upper


def test_the_message_is_a_sentence_with_numbers() -> None:
    message = plan(demand(20, 40, 60), H100, Slo(), PolicyConfig()).message
    assert message.startswith("10-min-ahead p90 of 60 req/s needs ")
    assert "req/s each" in message


def test_the_message_names_the_currency_that_decides() -> None:
    planner = Planner(H100, Slo())
    point = planner.operating_point(CHAT)
    few = demand(1, 1, 1)
    tokens = planner.plan(replace(few, decode_tokens_per_second=(9.0, 9.0, 12_000.0)), PolicyConfig())
    assert "p90 of 12,000 output tokens/s needs " in tokens.message
    assert tokens.message.endswith("output tokens/s each)")
    resident = planner.plan(replace(few, kv_tokens=(point.kv_capacity_tokens * 3,) * 3), PolicyConfig())
    assert "resident KV tokens needs 4 replicas (KV memory binds at " in resident.message


def test_demand_that_cannot_be() -> None:
    for broken in (
        replace(demand(1, 2, 3), requests_per_second=(1.0, math.nan, 2.0)),
        replace(demand(1, 2, 3), requests_per_second=(1.0, 2.0)),
        replace(demand(1, 2, 3), requests_per_second=(-1.0, 2.0, 3.0)),
        replace(demand(1, 2, 3), levels=(0.5, 0.1, 0.9)),
        replace(demand(1, 2, 3), levels=(), requests_per_second=()),
        replace(demand(1, 2, 3), dispersion=math.nan),
        replace(demand(1, 2, 3), workload=Workload(math.nan, 1)),
        replace(demand(1, 2, 3), kv_tokens=(1.0, math.inf, 2.0)),
    ):
        with pytest.raises(InvalidInput):
            plan(broken, H100, Slo(), PolicyConfig())


def test_questions_that_cannot_be() -> None:
    with pytest.raises(UnknownModel):
        Planner(Deployment("no-such-model", "h100"), Slo())
    with pytest.raises(InvalidInput):
        Planner(H100, Slo(percentile=1.0))
    with pytest.raises(InvalidInput):
        Planner(H100, Slo(ttft_seconds=-1.0))
    with pytest.raises(DoesNotFit):
        operating_point(Deployment("llama-3.3-70b", "h100"), CHAT, Slo())
    for policy in (
        PolicyConfig(min_replicas=5, max_replicas=4),
        PolicyConfig(under_to_over_cost=0),
        PolicyConfig(max_step_up_ratio=1.0),
    ):
        with pytest.raises(InvalidInput):
            plan(demand(1, 2, 3), H100, Slo(), policy)


def test_quantiles_between_and_beyond_the_given_ones() -> None:
    assert demand_quantile((0.1, 0.5), (1.0, 3.0), 0.3) == pytest.approx(2.0)
    assert demand_quantile((0.1, 0.5), (1.0, 3.0), 0.99) == 3.0
    # Crossing quantiles are read as their running maximum.
    assert demand_quantile((0.1, 0.5, 0.9), (1.0, 4.0, 3.0), 0.9) == 4.0


def test_what_is_remembered_does_not_change_the_answer() -> None:
    fresh, used = Planner(H100, Slo(), max_entries=2), Planner(H100, Slo(), max_entries=2)
    for tokens in (900.0, 2000.0, 400.0):
        used.operating_point(Workload(tokens, 200))
    again = pickle.loads(pickle.dumps(used))
    near = Workload(1000.4, 200.1)
    assert fresh.operating_point(near) == used.operating_point(near) == again.operating_point(near)
    assert fresh.operating_point(Workload(1000.0, 200.0)) == fresh.operating_point(near)


def test_a_provision_stands_in_for_the_quantile() -> None:
    provision = Provision(30.0, 1.0, 1.0, 1.0, (("observed_x1.2", 0.6), ("trend_x1", 0.2)))
    planned = Planner(H100, Slo()).plan(demand(1.0, 2.0, 3.0, provision=provision), PolicyConfig())
    capacity = planned.operating_point.requests_per_second
    assert planned.unclamped == math.ceil(30.0 / capacity)
    assert planned.lower <= planned.desired <= planned.upper
    assert planned.message.startswith("30 req/s in 10 min, mostly by observed demand × 1.2, needs ")
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidInput):
            Planner(H100, Slo()).plan(
                demand(1.0, 2.0, 3.0, provision=replace(provision, decode_tokens_per_second=wrong)), PolicyConfig()
            )
