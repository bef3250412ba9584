from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sizing.calibration.measurement import COEFFICIENTS
from sizing.errors import DoesNotFit, InvalidInput
from sizing.replica.expert_tokens import moving_seconds
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.types import Constraint, Deployment, Workload

H100 = Deployment("llama-3.1-8b", "h100-sxm")


def replica(deployment: Deployment = H100, workload: Workload | None = None, **options: float) -> ReplicaModel:
    return ReplicaModel(resolve(deployment), workload or Workload(1000, 200), **options)


def test_the_fixed_point_of_the_mean_field_is_met() -> None:
    model = replica()
    step = model.step
    batch = model.lane_batch(10.0)
    assert batch is not None
    seconds = model.step_seconds(batch)
    assert batch == pytest.approx(10.0 * 200 * seconds)
    # T = a / (1 - βp·λ·n - λ·m·(βd + γ·context)) with the coefficients read off the step model
    prompt = step.prompt_token_seconds(500.0)
    load = 10.0 * (prompt * 1000 + 200 * (step.decode_seconds + step.kv_seconds * (1000 + 100)))
    base = step.mean_base_seconds(batch, batch * 1000 / 200, 1000.0)
    assert seconds == pytest.approx(base / (1 - load))


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_the_mean_step_is_that_of_steps_with_and_without_a_chunk(model: str) -> None:
    step = step_model(resolve(Deployment(model, "h200", tensor_parallel=4)), StepCoefficients())
    for batch, prompts, chunk in ((3.0, 40.0, 900.0), (0.5, 1e-3, 1e-12), (200.0, 5_000.0, 2_048.0)):
        share = -math.expm1(-prompts / max(chunk, 1e-9))
        alone, with_chunk = step.base_seconds(batch), step.base_seconds(batch + prompts / share)
        assert step.mean_base_seconds(batch, prompts, chunk) == (1.0 - share) * alone + share * with_chunk
    assert step.mean_base_seconds(3.0, 0.0, 900.0) == step.base_seconds(3.0)


def test_length_moments_enter() -> None:
    spread = replica(workload=Workload(1000, 200, 2e6, 1.2e5, 2.4e5))
    assert spread.context_tokens == pytest.approx((2.4e5 + 0.6e5) / 200)
    batch = 20.0
    assert spread.latency(batch, 0.95).ttft_seconds > replica().latency(batch, 0.95).ttft_seconds
    wide = replica(workload=Workload(1000, 200, input_quantile=8000))
    given = wide.latency(batch, 0.95, 0.95).ttft_seconds
    assert given > wide.latency(batch, 0.95).ttft_seconds + 0.05


def test_cached_tokens_cost_no_prefill_but_stay_in_the_context() -> None:
    plain, cached = replica(), replica(workload=Workload(1000, 200, cached_share=0.8))
    assert cached.context_tokens == plain.context_tokens
    assert cached.saturation_requests_per_second > plain.saturation_requests_per_second
    assert cached.point(10.0).prefill_tokens_per_second == pytest.approx(200 * cached.point(10.0).requests_per_second)


def test_what_bounds_the_batch() -> None:
    assert replica().limit is Constraint.MAX_NUM_SEQS
    assert replica(replace(H100, observed_kv_tokens=20_000)).limit is Constraint.KV_MEMORY
    prompts = replica(workload=Workload(8000, 4))
    assert prompts.limit is Constraint.PREFILL_COMPUTE
    # One chunk of prompt tokens per step at most.
    rate = prompts.saturation_requests_per_second
    assert rate * 8000 * prompts.step_seconds(prompts.max_lane_batch) <= 8192 * 1.0001


def test_rates_beyond_saturation_have_no_batch() -> None:
    model = replica()
    assert model.lane_batch(model.saturation_requests_per_second * 1.01) is None
    assert model.lane_batch(-1.0) is None
    assert model.lane_batch(0.0) == pytest.approx(0.0, abs=1e-9)


def test_waiting_explodes_at_saturation_only() -> None:
    model = replica()
    half, full = (model.lane_batch(model.saturation_requests_per_second * share) for share in (0.5, 0.999))
    assert half is not None
    assert full is not None
    assert model.latency(half, 0.95).ttft_seconds < 0.2
    assert model.latency(full, 0.95).ttft_seconds > 5
    assert model.latency(model.max_lane_batch, 0.95).ttft_seconds == math.inf
    assert model.latency(model.max_lane_batch, 0.95, waiting=False).ttft_seconds < 1


def test_burstier_arrivals_wait_longer() -> None:
    calm, bursty = replica(dispersion=0.0), replica(dispersion=8.0)
    assert bursty.latency(60.0, 0.95).ttft_seconds > calm.latency(60.0, 0.95).ttft_seconds
    assert bursty.latency(60.0, 0.95).tpot_seconds > calm.latency(60.0, 0.95).tpot_seconds


def test_data_parallel_dense_replicas_are_independent() -> None:
    one, four = replica(), replica(replace(H100, data_parallel=4))
    assert four.saturation_requests_per_second == pytest.approx(4 * one.saturation_requests_per_second)
    assert four.latency(10.0, 0.95) == one.latency(10.0, 0.95)


def test_experts_are_covered_gradually() -> None:
    step = step_model(resolve(Deployment("qwen3-30b-a3b", "h100")))
    step = replace(step, dense_corner_tokens=math.inf, expert_corner_tokens=math.inf)
    read = step.fixed_seconds + step.dense_seconds
    one, many = step.base_seconds(1), step.base_seconds(512)
    assert read < one < many
    assert many == pytest.approx(read + step.expert_seconds, rel=1e-6)
    assert one - read == pytest.approx(step.expert_seconds * 8 / 128)


def test_reading_weights_hides_behind_computing() -> None:
    step = step_model(resolve(H100))
    corner = step.dense_corner_tokens
    # 2 bytes a parameter at 3.35 TB/s against 2 FLOPs a parameter at 0.8 · 989 TFLOP/s
    assert corner == pytest.approx(989e12 * 0.8 / 3.35e12)
    hidden = [1 - (step.base_seconds(n) - step.fixed_seconds) / step.dense_seconds for n in (1, corner, 50 * corner)]
    assert hidden[0] < 0.01
    assert hidden[1] == pytest.approx(2 - 2 ** (1 / 1.6))  # 1.54 of either alone, not 2
    assert hidden[2] > 0.9


def test_dispatch_of_experts_replaces_one_of_two_all_reduces() -> None:
    split = step_model(resolve(Deployment("qwen3-30b-a3b", "h100", tensor_parallel=2)), factors=(1.0,) * 10)
    spread = step_model(resolve(Deployment("qwen3-30b-a3b", "h100", data_parallel=2)), factors=(1.0,) * 10)
    free = step_model(resolve(Deployment("qwen3-30b-a3b", "h100")), factors=(1.0,) * 10)
    # Twice as many all-reduces; the tokens of two lanes, each computed on one GPU instead of two. Slices of experts
    # move more activations than whole ones.
    alone, sliced = (
        moving_seconds(resolve(Deployment("qwen3-30b-a3b", "h100", tensor_parallel=group))) for group in (1, 2)
    )
    reduced = split.prefill_seconds - sliced - (free.prefill_seconds - alone) / 2
    assert spread.prefill_seconds - free.prefill_seconds == pytest.approx(reduced)


def test_pcie_makes_tensor_parallel_prefill_slow() -> None:
    fast = step_model(resolve(Deployment("llama-3.3-70b", "h100-sxm", tensor_parallel=8)))
    slow = step_model(resolve(Deployment("llama-3.3-70b", "l40s", tensor_parallel=8)))
    assert slow.prefill_seconds > 10 * fast.prefill_seconds


def test_coefficients_can_be_given() -> None:
    slow = ReplicaModel(resolve(H100), Workload(1000, 200), coefficients=StepCoefficients(weight_ratio=2.0))
    assert slow.step_seconds(1.0) > replica().step_seconds(1.0) * 1.5


def test_a_closed_loop_keeps_its_clients() -> None:
    model = replica(dispersion=0.0)
    batch = model.closed_loop_lane_batch(64)
    ttft = model.closed_loop_ttft_seconds(batch, 64)
    cycle = ttft + model.decode_seconds(batch)
    assert model.requests_per_second(batch) * cycle == pytest.approx(64)
    assert model.closed_loop_lane_batch(1e6) == model.max_lane_batch
    with pytest.raises(InvalidInput):
        model.closed_loop_lane_batch(0)


@pytest.mark.parametrize(
    "workload",
    [
        Workload(-1, 10),
        Workload(float("nan"), 10),
        Workload(10, float("inf")),
        Workload(10, 10, cached_share=1.1),
        Workload(10, 10, input_tokens_squared=-1),
        Workload(10, 10, input_quantile=float("nan")),
    ],
)
def test_workloads_that_cannot_be(workload: Workload) -> None:
    with pytest.raises(InvalidInput):
        replica(workload=workload)


def test_a_request_that_does_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="less than one request"):
        replica(workload=Workload(2e6, 10))


def test_odd_but_possible_workloads() -> None:
    for workload in (Workload(0, 0), Workload(1, 1), Workload(1000, 1, cached_share=1.0)):
        assert replica(workload=workload).saturation_requests_per_second > 0


@pytest.mark.parametrize("share", [0.1, 0.6, 0.9, 0.99])
def test_a_scaled_replica_is_that_of_scaled_coefficients(share: float) -> None:
    resolved, workload = resolve(Deployment("llama-3.1-8b", "h100-sxm")), Workload(1000, 200)
    prior = StepCoefficients()
    slower = replace(prior, **{name: getattr(prior, name) * 1.4 for name in COEFFICIENTS})
    expected = ReplicaModel(resolved, workload, coefficients=slower)
    scaled = ReplicaModel(resolved, workload).scaled(1.4)
    rate = share * expected.saturation_requests_per_second
    batch, other = expected.lane_batch(rate), scaled.lane_batch(rate)
    assert batch is not None
    assert other == pytest.approx(batch, rel=1e-9)
    for level in (0.5, 0.95):
        one, two = expected.latency(batch, level), scaled.latency(batch, level)
        assert two.ttft_seconds == pytest.approx(one.ttft_seconds, rel=1e-9)
        assert two.tpot_seconds == pytest.approx(one.tpot_seconds, rel=1e-9)
