from __future__ import annotations

import pytest

from sizing.catalog import Catalog, resolve_gpu, resolve_model
from sizing.catalog.engines import engine, engine_defaults, engine_warnings
from sizing.report import size_report
from sizing.types import Deployment, Slo, Workload


@pytest.mark.parametrize("name", ["vllm", "SGLang", "trtllm", "TensorRT-LLM"])
def test_defaults_on_every_gpu(name: str) -> None:
    catalog = Catalog()
    for gpu in catalog.gpu_names():
        found = engine_defaults(name, catalog.gpu(gpu))
        assert found.max_num_seqs >= 1
        assert found.max_batched_tokens >= 2048
        assert 0.5 < found.memory_utilisation < 1
        assert "2026-11" in found.source


def test_small_gpus_get_small_batches_and_an_a100_too() -> None:
    assert engine_defaults("vllm", resolve_gpu("l40s")).max_batched_tokens == 2048
    assert engine_defaults("vllm", resolve_gpu("a100-80gb")).max_batched_tokens == 2048
    assert engine_defaults("vllm", resolve_gpu("mi300x")).max_batched_tokens == 8192


def test_an_engine_that_nobody_knows_is_said() -> None:
    assert engine("abacus") is None
    assert "assumed" in engine_defaults("abacus", resolve_gpu("h100")).source
    assert "not in the catalogue" in engine_warnings("abacus", resolve_model("qwen3-8b"), 1, "bf16")[0]


def test_what_an_engine_would_refuse_is_in_the_report() -> None:
    assert engine_warnings("vllm", resolve_model("llama-3.1-8b"), 4, "fp8") == ()
    assert engine_warnings("sglang", resolve_model("llama-3.1-8b"), 1, "int8") == ("sglang keeps no KV cache in int8",)
    report = size_report(
        Deployment("llama-4-scout", "h200", tensor_parallel=3, precision="fp8"), Workload(2000, 300), Slo(), 1.0
    )
    assert "vllm splits 40 attention heads evenly: not over 3 GPUs" in report.assumptions


def test_requests_longer_than_the_model_are_said() -> None:
    report = size_report(Deployment("qwen3-0.6b", "h100"), Workload(50_000, 100), Slo(60.0, 1.0), 1.0)
    assert any("more than the 40,960" in text for text in report.assumptions)
