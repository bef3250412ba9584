"""Advice adds up: what its words name, divided, is the replicas that they name; and so is its evidence."""

from __future__ import annotations

import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.planning.demand_needs import Need
from sizing.planning.plan import Planner
from sizing.replica.replica_model import MAX_UTILISATION
from sizing.scaling.controller import ReplicaController
from sizing.types import Demand, Deployment, PolicyConfig, Slo, Workload

CHAT = Workload(1000, 200)
H100 = Deployment("llama-3.1-8b", "h100")
PLANNERS = [Planner(H100, slo) for slo in (Slo(), Slo(tpot_seconds=0.001))]
UNITS = {
    "requests": "req/s",
    "prefill_tokens": "uncached input tokens/s",
    "decode_tokens": "output tokens/s",
    "kv_tokens": "resident KV tokens",
}
NUMBER = r"([0-9][0-9,.]*(?:e[+-]?[0-9]+)?)"
#: Replicas that a currency needs: mostly odd numbers, and whole ones, where rounding decides.
REPLICAS = st.one_of(st.floats(0, 5000), st.integers(0, 300).map(float), st.floats(1e-9, 1.0))


def named(message: str) -> tuple[float, str, int, float]:
    """The demand, its unit, the replicas and what one carries, as a reader takes them from the words."""
    found = re.search(rf"{NUMBER} ([A-Za-z /]+) needs ([0-9,]+) replicas?.*?{NUMBER} \2 each", message)
    assert found, message
    demand, unit, replicas, each = found.groups()
    return float(demand.replace(",", "")), unit, int(replicas.replace(",", "")), float(each.replace(",", ""))


def divided(demand: float, each: float) -> int:
    return math.ceil(demand / each - 1e-6)


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(PLANNERS),
    st.lists(st.one_of(st.none(), REPLICAS), min_size=3, max_size=3),
    REPLICAS,
    st.integers(0, 6),
)
def test_the_numbers_in_a_message_divide_to_its_replicas(
    planner: Planner, tokens: list[float | None], requests: float, least: int
) -> None:
    point = planner.operating_point(CHAT)
    capacities = (
        point.prefill_tokens_per_second,
        point.decode_tokens_per_second,
        point.kv_capacity_tokens * MAX_UTILISATION,
    )
    wanted = [None if n is None else (n * each,) * 3 for n, each in zip(tokens, capacities, strict=True)]
    demand = Demand((0.1, 0.5, 0.9), (requests * point.requests_per_second,) * 3, CHAT, 300.0, *wanted)
    plan = planner.plan(demand, PolicyConfig(min_replicas=least, max_replicas=10**6))
    asked, unit, replicas, each = named(plan.message)
    assert unit == UNITS[plan.currency]
    assert replicas == plan.unclamped == divided(asked, each), plan.message
    assert math.isclose(asked, plan.decisive.demand, rel_tol=0.005)
    assert math.isclose(each, plan.decisive.capacity, rel_tol=0.005)


@given(st.floats(1e-300, 1e300), st.floats(1e-6, 1e12))
def test_figures_round_to_the_same_replicas_at_any_size(demand: float, capacity: float) -> None:
    need = Need("requests", demand, capacity)
    printed, each = (float(figure.replace(",", "")) for figure in need.figures())
    if need.exact < 1e9:
        assert divided(printed, each) == need.replicas


@settings(deadline=None, max_examples=100)
@given(st.lists(REPLICAS, min_size=5, max_size=5), st.booleans())
def test_the_evidence_of_advice_divides_to_what_it_needs(needs: list[float], warm: bool) -> None:
    who = ReplicaController("m", "p", H100, Slo(), PolicyConfig(max_replicas=10**6), "hash", "H100")
    assert who.planner is not None
    point = who.planner.operating_point(CHAT)
    rate, prefill, decode, kv, seen = needs
    demand = Demand(
        (0.1, 0.5, 0.9),
        (rate * point.requests_per_second,) * 3,
        CHAT,
        300.0,
        (prefill * point.prefill_tokens_per_second,) * 3,
        (decode * point.decode_tokens_per_second,) * 3,
        (kv * point.kv_capacity_tokens * MAX_UTILISATION,) * 3,
        observed_requests_per_second=seen * point.requests_per_second,
    )
    advice = who.decide(0.0, demand, 1, gap=False, warm=warm)
    evidence = advice.evidence
    for currency, asked, each in (
        ("requests", "demand_requests_per_second", "capacity_requests_per_second_per_replica"),
        ("prefill_tokens", "demand_prefill_tokens_per_second", "capacity_prefill_tokens_per_second_per_replica"),
        ("decode_tokens", "demand_decode_tokens_per_second", "capacity_decode_tokens_per_second_per_replica"),
        ("kv_tokens", "demand_kv_tokens", "usable_kv_tokens_per_replica"),
        ("observed_requests", "observed_requests_per_second", "capacity_requests_per_second_per_replica"),
    ):
        if warm or "requests" in currency:  # a cold pool is sized on the requests that it observes
            assert evidence[f"replicas_needed_by_{currency}"] == evidence[asked] / evidence[each]
        else:
            assert asked not in evidence
    asked, _, replicas, each = named(advice.message)
    assert replicas == divided(asked, each), advice.message
    told = [value for name, value in evidence.items() if name.startswith("replicas_needed_by_")]
    assert replicas == max(divided(value, 1.0) for value in told)
