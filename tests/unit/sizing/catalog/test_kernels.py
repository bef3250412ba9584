"""Which precisions can be served on which GPU: every pair of the catalogue."""

from __future__ import annotations

import pytest

from sizing.catalog import Catalog, resolve_gpu
from sizing.catalog.kernels import check_kernel
from sizing.catalog.precision import BYTES_PER_PARAMETER
from sizing.compare import Option, compare, configurations
from sizing.errors import NoKernel
from sizing.replica.memory import resolve
from sizing.types import Deployment, Slo, Workload


def served(engine: str, gpu: str, precision: str, *, experts: bool = False) -> bool:
    try:
        check_kernel(engine, resolve_gpu(gpu), precision, experts=experts)
    except NoKernel:
        return False
    return True


def test_what_a_gpu_multiplies_itself_is_served_and_16_bits_everywhere() -> None:
    catalog = Catalog()
    for name in catalog.gpu_names():
        gpu = catalog.gpu(name)
        assert served("vllm", name, "bf16")
        assert served("vllm", name, "int4"), "unpacked to 16 bits"
        for precision in gpu.flops_per_second:
            assert served("vllm", name, precision, experts=True), f"{precision} of {name}"


def test_nvfp4_needs_an_nvidia_gpu_with_kernels_that_unpack_it() -> None:
    catalog = Catalog()
    found = {name for name in catalog.gpu_names() if served("vllm", name, "nvfp4", experts=True)}
    lacking = {name for name in catalog.gpu_names() if catalog.gpu(name).vendor == "amd" or name.startswith("v100")}
    assert found == set(catalog.gpu_names()) - lacking
    assert "mi300x" in lacking
    trtllm = {name for name in catalog.gpu_names() if served("tensorrt-llm", name, "nvfp4")}
    assert trtllm == {n for n in catalog.gpu_names() if "nvfp4" in catalog.gpu(n).flops_per_second}


@pytest.mark.parametrize(
    ("gpu", "engine", "precision", "experts", "expected"),
    [
        ("v100-sxm-32gb", "vllm", "fp8", False, False),
        ("v100-sxm-32gb", "vllm", "int8", False, False),
        ("t4", "vllm", "fp8", False, True),
        ("t4", "vllm", "mxfp4", True, False),
        ("a100-sxm-80gb", "vllm", "fp8", False, True),
        ("a100-sxm-80gb", "tensorrt-llm", "fp8", False, False),
        ("l40s", "tensorrt-llm", "fp8", False, True),
        ("mi300x", "vllm", "mxfp4", True, True),  # gpt-oss
        ("mi300x", "vllm", "mxfp4", False, False),
        ("mi355x", "vllm", "mxfp4", False, True),
        ("mi300x", "sglang", "nvfp4", True, False),
        ("mi300x", "tensorrt-llm", "bf16", False, False),
        ("mi300x", "an engine of my own", "nvfp4", False, True),  # nothing is known of it
    ],
)
def test_pairs(gpu: str, engine: str, precision: str, experts: bool, expected: bool) -> None:
    assert served(engine, gpu, precision, experts=experts) is expected


def test_a_comparison_names_what_cannot_be_served_and_sizes_the_rest() -> None:
    deployment = Deployment("llama-3.3-70b", "mi300x", tensor_parallel=2)
    base = Option("now", deployment, Workload(2000, 300), Slo(), 5.0)
    options = configurations(base, precisions=list(BYTES_PER_PARAMETER))
    outcomes = {o.option.deployment.precision: o for o in compare(options)}
    assert {name for name, o in outcomes.items() if o.replicas is None} == {"nvfp4", "mxfp4"}
    assert "only an emulation: take fp8 or bf16" in str(outcomes["nvfp4"].problem)
    with pytest.raises(NoKernel):
        resolve(Deployment("llama-3.3-70b", "mi300x", precision="nvfp4"))
