from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sizing.calibration.global_fit import builtin_learned, features
from sizing.calibration.intervals import IntervalBins, bins_from_mapping, interval_kind
from sizing.replica.memory import resolve
from sizing.types import Deployment

BINS = IntervalBins((1.0, math.inf), (0.8, 0.5), (1.2, 2.0), (("dense, vllm", 0.9, 1.1),))


@pytest.mark.parametrize(
    ("distance", "kind", "expected"),
    [
        (0.0, "dense, vllm", (0.9, 1.1)),
        (1.0, "dense, vllm", (0.9, 1.1)),
        (1.01, "dense, vllm", (0.5, 2.0)),
        (0.0, "dense, other engine", (0.8, 1.2)),
        (0.0, None, (0.8, 1.2)),
    ],
)
def test_near_measurements_a_kind_has_its_own_interval(
    distance: float, kind: str | None, expected: tuple[float, float]
) -> None:
    assert BINS.factors(distance, kind) == expected


def test_bins_are_read_as_they_are_written() -> None:
    written = {"upto": [1.0, None], "lower": [0.8, 0.5], "upper": [1.2, 2.0], "near": {"dense, vllm": [0.9, 1.1]}}
    assert bins_from_mapping(written) == BINS
    del written["near"]
    assert bins_from_mapping(written) == replace(BINS, near=())


def test_kinds_of_deployments() -> None:
    dense, experts = (Deployment(model, "h100-sxm", tensor_parallel=8) for model in ("llama-3.3-70b", "gpt-oss-120b"))
    assert interval_kind(resolve(dense)) == "dense, vllm"
    assert interval_kind(resolve(replace(experts, engine="TensorRT-LLM"))) == "mixture of experts, other engine"


def test_no_shipped_interval_far_away_is_narrower_than_one_near() -> None:
    learned = builtin_learned()
    assert {kind for kind, _, _ in learned.tpot_interval.near} == {kind for kind, _, _ in learned.tpot_interval_80.near}
    assert len(learned.tpot_interval.near) == 4
    for bins in (learned.tpot_interval, learned.tpot_interval_80):
        for _, low, high in bins.near:
            assert bins.lower[1] <= low < 1 < high <= bins.upper[1]


@pytest.mark.parametrize(
    ("model", "gpu", "precision", "expected"),
    [
        ("llama-3.3-70b", "h100-sxm", "bf16", 0.0),
        ("llama-3.3-70b", "h100-sxm", "fp8", 1.0),
        # No 8-bit cores: the weights are multiplied as 16 bits, and nothing is quantised before.
        ("llama-3.3-70b", "a100-sxm-80gb", "fp8", 0.0),
        ("llama-3.3-70b", "b200-sxm", "nvfp4", 1.0),
        # All but the experts stays in bf16.
        ("deepseek-v3", "b200-sxm", "nvfp4", 0.0),
        ("deepseek-v3", "b200-sxm", "fp8", 1.0),
    ],
)
def test_products_whose_input_is_quantised_first(model: str, gpu: str, precision: str, expected: float) -> None:
    resolved = resolve(Deployment(model, gpu, tensor_parallel=8, precision=precision))
    assert features(resolved)["quantized_products"] == expected
