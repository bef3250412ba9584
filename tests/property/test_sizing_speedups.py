"""What is worked out the quick way against the plain way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.errors import SizingError
from sizing.planning.demand_needs import demand_quantile
from sizing.planning.operating_point import operating_point
from sizing.replica.memory import resolve
from sizing.replica.queueing import StateDependentQueue
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.replica.root_finding import narrow
from sizing.types import Deployment, Slo, Workload

deployments = st.builds(
    Deployment,
    st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-20b", "qwen3-32b"]),
    st.sampled_from(["h100-sxm", "h200-sxm", "l40s", "mi300x"]),
    tensor_parallel=st.sampled_from([1, 2, 8]),
    precision=st.sampled_from(["bf16", "fp8", "int4"]),
    max_num_seqs=st.sampled_from([16, 256, 1024]),
)
workloads = st.builds(
    Workload, st.floats(10, 20_000), st.floats(1, 4000), cached_share=st.sampled_from([0.0, 0.5, 1.0])
)


def _replica(deployment: Deployment, workload: Workload) -> ReplicaModel | None:
    try:
        return ReplicaModel(resolve(deployment), workload)
    except SizingError:
        return None


def _bisected(good, high: float) -> float:
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


@settings(max_examples=60, deadline=None)
@given(deployments, workloads, st.sampled_from([0.1, 0.5, 2.0, 20.0]), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_operating_point_is_where_bisection_finds_it(
    deployment: Deployment, workload: Workload, ttft: float, tpot: float
) -> None:
    replica = _replica(deployment, workload)
    if replica is None:
        return
    slo = Slo(ttft, tpot)
    point = operating_point(deployment, workload, slo)
    if not point.feasible:
        return
    rate = replica.saturation_requests_per_second * MAX_UTILISATION
    ceiling = _bisected(lambda batch: replica.requests_per_second(batch) < rate, replica.max_lane_batch)

    def good(batch: float) -> bool:
        latency = replica.latency(batch, slo.percentile, slo.percentile)
        return latency.ttft_seconds <= ttft and latency.tpot_seconds <= tpot

    plain = ceiling if good(ceiling) else _bisected(good, ceiling)
    assert point.batch / replica.lanes == pytest.approx(plain, rel=2e-6)
    assert point.at_slo.ttft_seconds <= ttft
    assert point.at_slo.tpot_seconds <= tpot


@settings(max_examples=60, deadline=None)
@given(deployments, workloads, st.floats(1e-6, 0.999999))
def test_the_batch_of_a_rate_has_that_rate(deployment: Deployment, workload: Workload, share: float) -> None:
    replica = _replica(deployment, workload)
    if replica is not None:
        rate = share * replica.saturation_requests_per_second
        batch = replica.lane_batch(rate)
        assert batch is not None
        assert replica.requests_per_second(batch) == pytest.approx(rate, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(deployments, st.lists(st.floats(0.01, 4000), min_size=1, max_size=20), st.floats(0.01, 100), st.floats(1, 8192))
def test_steps_of_many_batches_at_once(
    deployment: Deployment, sizes: list[float], per_output: float, chunk: float
) -> None:
    replica = _replica(deployment, Workload(100, 100))
    if replica is not None:
        batches = np.array(sizes)
        together = replica.step.mean_base_seconds_of(batches, batches * per_output, chunk)
        alone = [replica.step.mean_base_seconds(size, size * per_output, chunk) for size in sizes]
        assert together == pytest.approx(alone, rel=1e-12)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_the_queue_is_the_chain_solved_state_by_state(growth: list[float], load: float) -> None:
    rates = np.cumsum(growth)
    arrivals = float(load * rates[-1])
    weights = [1.0]
    for rate in rates:
        weights.append(weights[-1] * arrivals / rate)
    waiting = weights[-1] / (1.0 - arrivals / float(rates[-1]))
    expected = waiting / (math.fsum(weights[:-1]) + waiting)
    assert StateDependentQueue(rates).wait_probability(arrivals) == pytest.approx(expected, rel=1e-9)


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9, unique=True),
    st.lists(st.floats(0, 1e6), min_size=9, max_size=9),
    st.floats(0.001, 0.999),
)
def test_demand_quantiles_are_numpys_interpolation(levels: list[float], values: list[float], level: float) -> None:
    grid, quantiles = tuple(sorted(levels)), tuple(values[: len(levels)])
    expected = np.interp(level, grid, np.maximum.accumulate(quantiles))
    assert demand_quantile(grid, quantiles, level) == pytest.approx(float(expected), rel=1e-12, abs=1e-9)


@given(st.floats(1e-6, 1.0), st.floats(0.2, 5.0), st.floats(1e-9, 1e-2))
def test_narrowing_keeps_the_zero(zero: float, power: float, tolerance: float) -> None:
    def function(x: float) -> float:
        return x**power - zero**power

    low, high = narrow(function, 0.0, 2.0, function(0.0), function(2.0), tolerance)
    assert function(low) <= 0 < function(high)
    assert high - low <= tolerance * high
