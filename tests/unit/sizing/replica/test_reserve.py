"""What an engine keeps free; "printed" are figures of vLLM's own logs."""

from __future__ import annotations

import pytest

from sizing.catalog import resolve_gpu
from sizing.catalog.engines import engine_defaults, engine_memory, engine_release
from sizing.catalog.user import catalog_from_mapping
from sizing.errors import InvalidInput
from sizing.replica.memory import fit, resolve
from sizing.types import Deployment

GIB = 2**30


def reserve(model: str, gpu: str = "h100", **more: object):
    return fit(resolve(Deployment(model, gpu, max_num_seqs=1024, **more))).reserve


@pytest.mark.parametrize(
    ("model", "printed"),
    # Peak activation on one H100 at 1,024 sequences and 8,192 tokens (llm-d/llm-d-benchmark, config_explorer, 2025-10).
    [("llama-3.1-8b", 4.76), ("qwen3-0.6b", 5.56), ("qwen3-32b", 5.64), ("gpt-oss-20b", 7.38), ("llama-3.3-70b", 4.84)],
)
def test_the_sampling_step_decides_the_peak(model: str, printed: float) -> None:
    assert reserve(model, engine_version="0.11.2").activations / GIB == pytest.approx(printed, rel=0.01)


def test_it_grows_with_sequences_vocabulary_and_tokens() -> None:
    def activations(**more: int) -> float:
        return fit(resolve(Deployment("llama-3.3-70b", "h100", **more))).reserve.activations

    assert activations(max_num_seqs=1024) > activations(max_num_seqs=256)
    assert activations(max_num_seqs=1, max_batched_tokens=16384) > activations(max_num_seqs=1, max_batched_tokens=8192)
    # Few sequences: the layers of the largest step decide.
    assert activations(max_num_seqs=1) == activations(max_num_seqs=2)


def test_releases_differ() -> None:
    sorting, triton = (reserve("llama-3.1-8b", engine_version=v).activations for v in ("0.13.0", "0.18.0"))
    assert sorting > 2 * triton
    assert reserve("llama-3.1-8b", engine_version="0.18.0").graphs == 0
    assert reserve("llama-3.1-8b", engine_version="0.20.0").graphs > 0
    assert reserve("llama-3.1-8b").graphs > 0  # the newest known
    assert engine_defaults("vllm", resolve_gpu("h100"), "0.18.0").memory_utilisation == 0.90
    assert engine_defaults("vllm", resolve_gpu("h100"), "0.20.0").memory_utilisation == 0.92
    assert engine_defaults("vllm", resolve_gpu("h100")).memory_utilisation == 0.92


def test_groups_need_communication_buffers() -> None:
    assert reserve("llama-3.3-70b").communication == 0
    pair = reserve("llama-3.3-70b", tensor_parallel=2, engine_version="0.13.0")
    assert pair.communication / GIB == pytest.approx(0.53, abs=0.01)
    assert reserve("llama-3.3-70b", tensor_parallel=2, engine_version="0.18.0").communication > pair.communication
    # No NVLink, none of its buffers: "0.21 GiB for non-torch memory" on four L40S, the runtime's 0.13 among them.
    alone = reserve("llama-3.3-70b", "l40s", tensor_parallel=4, engine_version="0.10.2")
    assert (alone.communication + alone.runtime) / GIB == pytest.approx(0.21, abs=0.005)
    assert reserve("llama-3.3-70b", "mi300x", tensor_parallel=2).communication > 0


def test_engines_without_figures_keep_the_gpus_reserve() -> None:
    assert engine_memory("sglang") is None
    kept = reserve("llama-3.1-8b", engine="sglang", tensor_parallel=2)
    assert kept.activations == resolve_gpu("h100").other_reserve_bytes
    assert kept.communication == resolve_gpu("h100").comm_reserve(2)


def test_a_device_of_ones_own_keeps_the_reserve_of_its_entry() -> None:
    fields = {
        "memory_bytes": 64 * GIB,
        "memory_bandwidth_bytes_per_second": 1e11,
        "flops_per_second": {"bf16": 1e12},
        "compute_efficiency": {"bf16": 1.0},
        "other_reserve_bytes": GIB,
        "source": "fitted",
        "as_of": "2026-11",
    }
    own = catalog_from_mapping({"gpus": {"box": fields, "ours": {"like": "h100", "memory_bytes": 8e10}}})
    assert fit(resolve(Deployment("qwen3-0.6b", "box"), own)).reserve.total == GIB
    # One that is like a board of the catalogue is sized as that board.
    like = fit(resolve(Deployment("qwen3-0.6b", "ours"), own))
    assert like.reserve.total == fit(resolve(Deployment("qwen3-0.6b", "h100"))).reserve.total


@pytest.mark.parametrize("version", ["latest", "v", "-1", "x0.18"])
def test_versions_that_cannot_be_read(version: str) -> None:
    with pytest.raises(InvalidInput, match="engine_version"):
        engine_release(version)
    with pytest.raises(InvalidInput, match="engine_version"):
        resolve(Deployment("llama-3.1-8b", "h100", engine_version=version))
