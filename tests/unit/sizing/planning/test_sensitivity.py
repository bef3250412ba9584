from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.planning.operating_point import solve_replica
from sizing.planning.sensitivity import capacity_ratios
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Deployment, Slo, Workload

LLAMA_8B = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
LLAMA_70B = resolve(Deployment("llama-3.1-70b", "h100-sxm", tensor_parallel=4))
MOE = resolve(Deployment("deepseek-v3", "h200-sxm", tensor_parallel=8))


@pytest.mark.parametrize("slo", [Slo(1.0, 0.03), Slo(1.0, 0.1), Slo(0.3, None), Slo(None, None)])
@pytest.mark.parametrize("resolved", [LLAMA_8B, LLAMA_70B, MOE], ids=lambda resolved: resolved.model.name)
def test_it_is_what_solving_again_gives(resolved, slo) -> None:
    replica = ReplicaModel(resolved, Workload(1000, 250))
    point = solve_replica(replica, slo)
    assert point.feasible
    for ratio in (0.8, 0.95, 1.05, 1.25):
        again = solve_replica(replica.scaled(ratio), slo)
        found, _ = capacity_ratios(replica, point, slo, (ratio, 1.0))
        assert found == pytest.approx(again.requests_per_second / point.requests_per_second, rel=0.15)


def test_a_tight_objective_makes_a_small_error_of_the_step_a_large_one_of_the_capacity() -> None:
    replica = ReplicaModel(LLAMA_70B, Workload(1000, 250))
    tight, loose = (
        capacity_ratios(replica, solve_replica(replica, slo), slo, (0.8, 1.25))
        for slo in (Slo(None, 0.03), Slo(None, None))
    )
    assert loose[1] == pytest.approx(0.8)
    assert tight[0] > 1.5
    assert tight[1] < 0.6


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.05, 3.0),
    st.floats(0.005, 0.2),
    st.floats(100, 20_000),
    st.floats(10, 4000),
    st.floats(0.2, 1.0),
    st.floats(1.0, 5.0),
)
def test_slower_steps_never_carry_more_and_some_load_always(ttft, tpot, tokens_in, tokens_out, fast, slow) -> None:
    slo = Slo(ttft, tpot)
    replica = ReplicaModel(LLAMA_8B, Workload(tokens_in, tokens_out))
    point = solve_replica(replica, slo)
    most, least = capacity_ratios(replica, point, slo, (fast, slow))
    assert 0.0 < least <= 1.0 + 1e-6
    assert 1.0 - 1e-6 <= most < float("inf")
