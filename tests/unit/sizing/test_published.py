"""Published figures that no fit has seen, and gpt-oss's parts beside the timings of their kernels."""

from __future__ import annotations

import statistics

import pytest

from sizing.catalog import resolve_gpu
from sizing.replica.memory import resolve
from sizing.replica.step_time import step_model
from sizing.types import Deployment
from tests.unit.sizing.benchmark_modules import benchmark_module


@pytest.mark.parametrize(("gpu", "tflops"), [("mi300x", (708, 1273)), ("mi325x", (843, 1519))])
def test_amd_boards_compute_at_what_their_maker_measured(gpu: str, tflops: tuple[int, int]) -> None:
    spec = resolve_gpu(gpu)
    for precision, measured in zip(("bf16", "fp8"), tflops, strict=True):
        assert spec.effective_flops_per_second(precision) == pytest.approx(measured * 1e12, rel=0.003)


def test_cdna3_unpacks_mxfp4_no_faster_than_a_timed_board_and_cdna4_as_before() -> None:
    older, newer = (resolve(Deployment("gpt-oss-120b", gpu, precision="mxfp4")) for gpu in ("mi300x", "mi355x"))
    assert older.gpu.unpacks("mxfp4")
    timed = [resolve_gpu(name).unpacked_weights_per_second for name in ("h100", "h200", "b200")]
    assert older.gpu.unpacked_weights_per_second == min(rate for rate in timed if rate is not None)
    unpacking = older.model.expert_parameters / 5.0e12
    assert step_model(older).base_seconds(512) > unpacking  # 512 tokens touch nearly all experts
    assert newer.gpu.unpacked_weights_per_second is None


def test_published_times_lie_within_the_intervals_and_most_near_the_prediction() -> None:
    module = benchmark_module("published")
    errors = []
    for row in module.PUBLISHED:
        for clients, published in row.milliseconds.items():
            value, lower, upper = module.predicted_milliseconds(row, clients)
            assert lower <= published <= upper, (row.gpu, clients)
            errors.append(abs(value / published - 1))
    assert statistics.median(errors) < 0.12


@pytest.mark.parametrize(("board", "tp"), [("h100_sxm", 1), ("h200_sxm", 1), ("h100_sxm", 8), ("h200_sxm", 8)])
def test_gpt_oss_s_experts_take_what_their_kernels_were_timed_at(board: str, tp: int) -> None:
    pytest.importorskip("duckdb")
    module = benchmark_module("components")
    if not (module.DATA / "aic_ops").is_dir():
        pytest.skip("the measured data sets are not beside this checkout")
    ratios = module.experts(module.DATA, board, tp)
    for tokens in (32, 128, 512):
        assert 0.85 < ratios[tokens] < 1.2, (tokens, ratios[tokens])
