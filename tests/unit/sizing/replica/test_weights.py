"""Weights on one GPU; the figures are "Model loading took" lines of vLLM where a release is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sizing.catalog import from_hf_config
from sizing.replica.memory import fit, resolve
from sizing.types import Deployment

GIB = 2**30


def gib(model: str, gpu: str = "h200", **more: object) -> float:
    return fit(resolve(Deployment(model, gpu, **more))).weight_bytes / GIB


@pytest.mark.parametrize(
    ("model", "gpu", "shape", "version", "printed"),
    [
        ("openai/gpt-oss-120b", "h100", {}, None, 64.38),
        ("openai/gpt-oss-20b", "h100", {}, None, 13.47),
        ("meta-llama/Llama-3.3-70B-Instruct", "h200", {"tensor_parallel": 4}, "0.18.0", 32.89),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "h100", {}, "0.11.0", 67.72),
        ("Qwen/Qwen3-32B", "h100", {}, "0.11.0", 61.03),
        ("Qwen/Qwen3-0.6B", "h100", {}, "0.11.0", 1.12),
        ("deepseek-ai/DeepSeek-V3.2", "h200", {"tensor_parallel": 8}, "0.18.0", 80.76),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "h200", {}, "0.13.0", 30.52),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "h200", {}, "0.18.0", 31.4),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", "h200", {"tensor_parallel": 2}, "0.18.0", 59.91),
        ("RedHatAI/Llama-4-Maverick-17B-128E-Instruct-FP8", "h200", {"tensor_parallel": 8}, "0.11.2", 48.87),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", "mi300x", {"tensor_parallel": 8}, "0.11.2", 126.72),
        ("RedHatAI/Qwen3-Coder-Next-FP8-dynamic", "h200", {}, "0.18.0", 76.27),
        ("MiniMaxAI/MiniMax-M2.5", "h200", {"tensor_parallel": 8}, "0.18.0", 27.01),
    ],
)
def test_what_engines_print(model: str, gpu: str, shape: dict[str, int], version: str | None, printed: float) -> None:
    assert gib(model, gpu, engine_version=version, **shape) == pytest.approx(printed, rel=0.012)


def test_routers_and_latent_projections_are_on_every_rank() -> None:
    one, eight = gib("deepseek-v3"), gib("deepseek-v3", tensor_parallel=8)
    assert 8 * eight - one > 7 * 61 * 7168 * (512 + 64 + 1536) / GIB


def test_kv_heads_are_copied_beyond_their_number() -> None:
    config = {
        "num_hidden_layers": 4, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 2,
        "intermediate_size": 2048, "vocab_size": 1000,
    }  # fmt: skip
    model = from_hf_config(config)
    keys = 4 * 1024 * 2 * 2 * 64

    def weights(size: int) -> float:
        resolved = resolve(Deployment("llama-3.1-8b", "h200", tensor_parallel=size))
        return fit(replace(resolved, model=model)).weight_bytes

    assert 8 * weights(8) - 2 * weights(2) == pytest.approx(2 * keys * (8 / 2 - 1))


def test_a_precision_that_is_not_the_checkpoints_is_sized_as_asked() -> None:
    assert gib("gpt-oss-20b", precision="bf16") == pytest.approx(2 * 20.91e9 / GIB, rel=0.01)
    resolved = resolve(Deployment("gpt-oss-20b", "h100", precision="bf16"))
    assert resolved.precision_source == "given; the checkpoint is in mxfp4"
    assert "quantization_config" in resolve(Deployment("gpt-oss-20b", "h100")).precision_source


def test_expert_parallelism_splits_whole_experts() -> None:
    apart = gib("minimax-m2.5", tensor_parallel=8, expert_parallel=8)
    assert apart == pytest.approx(gib("minimax-m2.5", tensor_parallel=8), rel=0.001)
