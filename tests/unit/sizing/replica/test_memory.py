from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from sizing.catalog import resolve_model
from sizing.errors import DoesNotFit, InvalidInput, UnknownGpu
from sizing.replica.memory import explain_misfit, fit, kv_bytes_per_token, require_fit, resolve, weight_bytes
from sizing.replica.weights import ResidentWeights
from sizing.types import Deployment


@pytest.mark.parametrize(
    ("name", "expected"), [("llama-3.1-8b", 131_072), ("llama-3.3-70b", 327_680), ("deepseek-v3", 70_272)]
)
def test_kv_bytes_per_token(name: str, expected: int) -> None:
    assert kv_bytes_per_token(resolve_model(name)) == expected
    assert kv_bytes_per_token(resolve_model(name), "fp8") == expected / 2


def test_kv_is_split_until_the_heads_run_out() -> None:
    def per_gpu(tensor_parallel: int, model: str = "llama-3.1-8b") -> float:
        return fit(resolve(Deployment(model, "h200", tensor_parallel=tensor_parallel))).kv_bytes_per_token

    assert per_gpu(8) == 131_072 / 8
    assert per_gpu(16) == per_gpu(8)
    assert per_gpu(8, "deepseek-v3") == 70_272


def test_windowed_layers_stop_growing() -> None:
    memory = fit(resolve(Deployment("gpt-oss-120b", "h100", precision="mxfp4")))
    assert memory.context_bytes(10_000) - memory.context_bytes(9_000) == memory.kv_bytes_per_token_full * 1000
    assert memory.context_bytes(100) == memory.kv_bytes_per_token * 100


def test_experts_are_spread_over_data_parallel_ranks_and_the_rest_is_copied() -> None:
    def weights(**shape: int) -> ResidentWeights:
        return fit(resolve(Deployment("deepseek-v3", "h200", **shape))).weights

    one, spread = weights(tensor_parallel=8), weights(data_parallel=8)
    whole = weights()
    assert spread.experts == one.experts == pytest.approx(whole.experts / 8)
    assert spread.dense == whole.dense
    assert spread.ends == whole.ends == 8 * one.ends
    # Eight caches of one rank each instead of one replicated eight times.
    replica = fit(resolve(Deployment("deepseek-v3", "h200", data_parallel=8)))
    assert replica.kv_tokens > 4 * fit(resolve(Deployment("deepseek-v3", "h200", tensor_parallel=8))).kv_tokens


def test_pipelines_hold_more_context() -> None:
    one = fit(resolve(Deployment("llama-3.1-8b", "h100")))
    two = fit(resolve(Deployment("llama-3.1-8b", "h100", pipeline_parallel=2)))
    assert two.kv_tokens > 2 * one.kv_tokens


def test_what_the_engine_observed_wins() -> None:
    memory = fit(resolve(Deployment("llama-3.1-8b", "h100", observed_kv_tokens=41_408)))
    assert memory.kv_tokens == 41_408
    # 41,408 tokens at a mean context of 1,204 ran 34.4 sequences on a real engine.
    assert memory.max_sequences(1204) == pytest.approx(34.4, abs=0.1)


def test_a_misfit_says_by_how_much_and_what_helps() -> None:
    resolved = resolve(Deployment("llama-3.3-70b", "h100"))
    with pytest.raises(DoesNotFit, match=r"62\.8 GiB more than the 71\.3 GiB usable on h100-sxm; tensor parallelism 4"):
        require_fit(resolved)
    # Two changes together, and where even they do not do: how many GPUs it takes.
    assert "fp8 weights with tensor parallelism 8 would fit" in explain_misfit(
        resolve(Deployment("llama-3.1-405b", "h100"))
    )
    # Its checkpoint is in FP8: 4 bits are another checkpoint, so the nodes that hold this one are named, too.
    assert "int4 weights would fit, or at this precision 16 GPUs, 2 nodes" in explain_misfit(
        resolve(Deployment("deepseek-v3", "h100", tensor_parallel=8))
    )
    assert "it fits on 32 GPUs, 4 nodes" in explain_misfit(resolve(Deployment("kimi-k2", "l40s")))


@pytest.mark.parametrize(
    ("precision", "gib"), [("bf16", 131.4), ("fp8", 67.7), ("int4", 37.1), ("nvfp4", 39.8), ("mxfp4", 37.8)]
)
def test_four_bit_formats_weigh_their_scales(precision: str, gib: float) -> None:
    """70.6 B parameters of which 2.1 B, embedding and head, stay in bf16."""
    assert sum(weight_bytes(resolve_model("llama-3.3-70b"), precision)) / 2**30 == pytest.approx(gib, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"tensor_parallel": 0},
        {"data_parallel": -1},
        {"max_num_seqs": 0},
        {"memory_utilisation": 1.5},
        {"memory_utilisation": float("nan")},
        {"observed_kv_tokens": 0},
        {"precision": "fp99"},
        {"kv_precision": "x"},
        {"tensor_parallel": 100_000},
    ],
)
def test_deployments_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        resolve(replace(Deployment("llama-3.1-8b", "h100"), **change))


def test_unknown_gpu() -> None:
    with pytest.raises(UnknownGpu):
        resolve(Deployment("llama-3.1-8b", "h1000000"))


@pytest.mark.parametrize("version", ["0.18.0", None])
@pytest.mark.parametrize("model", ["gpt-oss-120b", "nemotron-3-nano-30b-a3b", "gemma-3-27b", "llama-3.1-8b"])
def test_the_size_that_an_engine_prints_means_the_same_memory_in_every_release(model: str, version: str | None) -> None:
    deployment = Deployment(model, "h200", engine_version=version, max_model_len=32_768)
    computed = fit(resolve(deployment))
    reported = fit(resolve(replace(deployment, observed_kv_tokens=int(computed.kv_tokens))))
    assert reported.cache_bytes == pytest.approx(computed.cache_bytes, rel=0.002)
    assert reported.max_sequences(4000) == pytest.approx(computed.max_sequences(4000), rel=0.002)


def test_gpt_oss_120b_runs_on_one_h100_as_its_checkpoint_is() -> None:
    resolved = resolve(Deployment("gpt-oss-120b", "h100", max_num_seqs=1024, memory_utilisation=0.92))
    memory = require_fit(resolved)
    assert resolved.precision == "mxfp4"
    assert f"{memory.weight_bytes / 2**30:.1f}" == "64.4"


def test_deployments_that_are_read_are_one_object() -> None:
    made = [
        resolve(Deployment("llama-3.1-8b", "h200", tensor_parallel=tensor_parallel)) for tensor_parallel in (1, 1, 2)
    ]
    first, second, other = (pickle.loads(pickle.dumps(one)) for one in made)
    assert first is second
    assert (first, other) == (made[0], made[2])
