"""Experts in few bits: read and multiplied natively, or unpacked to 16 bits first."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from sizing.calibration.global_fit import STEP_TERMS
from sizing.catalog import resolve_gpu
from sizing.catalog.gpus import gpu_from_mapping
from sizing.errors import InvalidInput
from sizing.replica.expert_tokens import moving_seconds
from sizing.replica.memory import Resolved, resolve
from sizing.replica.step_time import StepModel, step_model
from sizing.replica.weights import expert_padding
from sizing.types import Deployment
from tests.unit.sizing.benchmark_modules import benchmark_module

ONE = (1.0,) * len(STEP_TERMS)


def resolved(gpu: str, precision: str = "mxfp4", tp: int = 1, model: str = "gpt-oss-120b") -> Resolved:
    return resolve(Deployment(model, gpu, tensor_parallel=tp, precision=precision))


def step(gpu: str, precision: str = "mxfp4", tp: int = 1) -> StepModel:
    return step_model(resolved(gpu, precision, tp), factors=ONE)


def test_boards_with_equal_cores_unpack_alike_whatever_their_memory() -> None:
    """H100 and H200 differ in bandwidth by 43 %; bf16 experts profit by it, unpacked ones by what cores unpack."""
    for precision, least, most in (("bf16", 1.40, 1.47), ("mxfp4", 1.0, 1.2), ("int4", 1.0, 1.2)):
        ratio = step("h100-sxm", precision).expert_seconds / step("h200-sxm", precision).expert_seconds
        assert least < ratio < most, precision


def test_native_four_bits_are_read_at_the_memory_s_speed() -> None:
    spec, board = resolved("b200-sxm"), step("b200-sxm")
    padding = expert_padding(spec.model, "mxfp4", "blackwell", 1, whole=False)
    ideal = padding * spec.model.expert_parameters * (0.5 + 1 / 32) / spec.gpu.memory_bandwidth_bytes_per_second
    assert board.expert_seconds == pytest.approx(1.13 * ideal)
    assert step("b200-sxm", "int4").expert_seconds > 1.4 * step("b200-sxm", "nvfp4").expert_seconds


def test_boards_without_four_bit_cores_multiply_in_sixteen() -> None:
    hopper, blackwell = resolve_gpu("h100"), resolve_gpu("b200")
    assert [hopper.unpacks(p) for p in ("bf16", "fp8", "int4", "mxfp4", "nvfp4")] == [False, False, True, True, True]
    assert [blackwell.unpacks(p) for p in ("int4", "mxfp4", "nvfp4")] == [True, False, False]
    assert hopper.expert_flops_per_second("nvfp4") == hopper.expert_flops_per_second("int4")
    a100 = resolve_gpu("a100")
    assert a100.expert_flops_per_second("fp8") == a100.expert_flops_per_second("bf16")


def test_slicing_experts_divides_products_but_hardly_what_is_moved() -> None:
    def moving(tp: int, **more: int) -> float:
        spec = resolved("h200-sxm", "fp8", tp, "minimax-m2.5")
        return moving_seconds(replace(spec, deployment=replace(spec.deployment, **more)))  # type: ignore[arg-type]

    assert moving(8) == pytest.approx(moving(1) * (3 * 3072 + 6 * 1536 / 8) / (3 * 3072 + 6 * 1536))
    assert moving(8, expert_parallel=8) == pytest.approx(moving(1) / 8)
    assert moving_seconds(resolved("h200-sxm", "fp8", 1, "qwen3-32b")) == 0.0


@pytest.mark.parametrize(("group", "tokens"), [(2, 4), (4, 8), (8, 1), (8, 8), (8, 40)])
def test_a_layer_waits_for_the_gpu_whose_experts_are_touched_most(group: int, tokens: int) -> None:
    """Whole experts, 8 of 256 drawn for every token: the fullest GPU reads what drawing them many times says."""
    random = np.random.default_rng(tokens)
    drawn = random.random((500, tokens, 256)).argsort(axis=2)[:, :, :8].reshape(500, -1)
    touched = np.zeros((500, 256), dtype=bool)
    np.put_along_axis(touched, drawn, True, axis=1)
    fullest = touched.reshape(500, group, -1).mean(axis=2).max(axis=1).mean()

    spec = resolved("h200-sxm", "fp8", group, "deepseek-v3")
    sliced = step_model(spec, factors=ONE)
    whole = step_model(replace(spec, deployment=replace(spec.deployment, expert_parallel=group)), factors=ONE)
    read = replace(whole, fixed_seconds=0.0, dense_seconds=0.0, expert_corner_tokens=math.inf)
    assert read.base_seconds(tokens) / read.expert_seconds == pytest.approx(fullest, rel=0.08)
    assert read.mean_base_seconds_of(np.array([float(tokens)]), np.zeros(1), 1.0)[0] == read.base_seconds(tokens)
    assert sliced.expert_spread == 0.0
    # With all of them touched there is nothing to wait for.
    assert whole.base_seconds(1e9) == pytest.approx(sliced.base_seconds(1e9), rel=0.02)


def test_data_parallel_experts_wait_for_two_collectives() -> None:
    """Dispatch and combine, in the place of one all-reduce: 1.77 times its latency by NCCL's timings."""
    spec = resolved("h200-sxm", "fp8", 1, "deepseek-v3")
    alone = step_model(spec, factors=ONE).fixed_seconds
    ranks = step_model(replace(spec, deployment=replace(spec.deployment, data_parallel=8)), factors=ONE).fixed_seconds
    assert ranks - alone == pytest.approx(1.4 * 1.77 * spec.model.layers * spec.gpu.link(8).latency_seconds)


def test_slices_of_padded_experts_are_read_padded() -> None:
    """2,880 / 8 = 360 channels become 512 on Blackwell: eight GPUs do not read eight times less."""
    whole, sliced = step("b200-sxm").expert_seconds, step("b200-sxm", tp=8).expert_seconds
    assert sliced == pytest.approx(whole / 8 * (512 / 360) / (3072 / 2880))
    spec = resolved("b200-sxm", tp=8)
    assert expert_padding(spec.model, "fp8", "blackwell", 8, whole=False) == 1.0
    whole_experts = replace(spec, deployment=replace(spec.deployment, expert_parallel=8))
    assert step_model(whole_experts, factors=ONE).expert_seconds == pytest.approx(whole / 8)


def test_an_efficiency_above_the_peak_is_refused() -> None:
    entry = {
        "memory_bytes": 1e10,
        "memory_bandwidth_bytes_per_second": 1e11,
        "flops_per_second": {"bf16": 1e13},
        "compute_efficiency": {"bf16": 0.5},
        "expert_efficiency": {"mxfp4": 1.5},
        "source": "me",
        "as_of": "2026-11",
    }
    with pytest.raises(InvalidInput, match="efficiencies within"):
        gpu_from_mapping("mine", entry)


@pytest.mark.parametrize("name", ["l40s", "h100_sxm", "h200_sxm", "b200_sxm"])
def test_shares_are_those_of_the_kernel_timings(name: str) -> None:
    pytest.importorskip("duckdb")
    module = benchmark_module("experts")
    tables = sorted((module.DATA / "aic_ops" / name).glob("moe/*/*/moe_perf.parquet"))
    if not tables:
        pytest.skip("the measured data sets are not beside this checkout")
    gpu = resolve_gpu(name)
    moving = []
    for precision, share in gpu.expert_efficiency.items():
        found = module.kernels(tables[0], gpu, precision)
        peak = gpu.flops_per_second[gpu.compute_precision(precision)]
        assert found.flops_per_second == pytest.approx(share * peak, rel=0.01), precision
        if not gpu.unpacks(precision) or gpu.unpacked_weights_per_second is None:
            assert found.read_ratio == pytest.approx(gpu.expert_reading_ratio(precision), rel=0.01), precision
        assert found.error < min(0.11, 0.55 * found.error_without_moving), precision
        if not (gpu.unpacks(precision) and gpu.architecture == "blackwell"):
            moving.append(found.moving_ratio)
    assert statistics.median(moving) == pytest.approx(gpu.expert_moving_ratio, rel=0.01)
    if gpu.unpacked_weights_per_second is not None:
        packed = [precision for precision in ("int4", "mxfp4") if gpu.unpacks(precision)]
        rates = [module.kernels(tables[0], gpu, precision).weights_per_second for precision in packed]
        assert sum(rates) / len(rates) == pytest.approx(gpu.unpacked_weights_per_second, rel=0.02)
