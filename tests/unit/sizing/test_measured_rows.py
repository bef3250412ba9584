"""What the loaders of measured rows drop and mend (``benchmarks/sizing/measurements.py``)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sizing.replica.memory import fit as memory_fit
from sizing.replica.memory import resolve
from tests.unit.sizing.benchmark_modules import benchmark_module

data = benchmark_module("measurements")


@cache
def read() -> Any:
    try:
        return data.silicon()
    except FileNotFoundError:
        pytest.skip("the measured data sets are not beside this checkout")


def silicon() -> list[Any]:
    return read()[0]


def test_the_loader_keeps_each_measurement_once_and_mends_gpu_counts() -> None:
    rows, notes = read()
    assert len(rows) == 1521
    assert notes == {
        "duplicate": 691,
        "multi-token prediction": 158,
        "GPU count squared": 131,
        "GB200/GB300": 77,
        "GPUs counted once": 72,
        "doubtful ranks": 8,
    }
    assert {row.model for row in rows} == {*data.ARCHITECTURES.values()}
    keys = {
        (
            row.deployment.gpu,
            row.input_tokens,
            row.output_tokens,
            round(row.ttft_seconds, 5),
            round(row.tpot_seconds, 5),
        )
        for row in rows
    }
    assert len(keys) == len(rows)
    assert max(row.deployment.tensor_parallel for row in rows) <= 8
    assert not any(row.deployment.gpu.startswith("gb") for row in rows)
    given, nothing = data.silicon(corrected=False)
    assert len(given) == 2455
    assert not nothing
    assert max(row.deployment.tensor_parallel for row in given) > 8


@pytest.mark.parametrize(
    ("change", "drafts"),
    [
        ({"backend_version": "1.2.0rc6.post3"}, True),
        ({"backend_version": "1.2.0rc6.post2"}, False),
        ({"backend_version": "1.1.0rc2.post2"}, True),
        ({"backend_version": "1.1.0rc2.post2", "silicon_data_source": "measured=2025-12-15; a/b:c"}, False),
        ({"backend": "sglang", "backend_version": "0.5.9"}, True),
        ({"backend": "sglang", "backend_version": "0.5.9", "silicon_tpot_ms": "9.99"}, False),
        ({"backend": "sglang", "backend_version": "0.5.9", "precision": "fp4"}, False),
        ({"model_path": "Qwen3.5-397B", "silicon_data_source": "x; image=lmsysorg/sglang:v0.5.9-cu130"}, True),
        ({"model_path": "Qwen3.5-397B", "silicon_data_source": "x; image=lmsysorg/sglang:v0.5.9-cu130-amd64"}, False),
    ],
)
def test_rows_with_multi_token_prediction_are_told_by_their_recipes(change: dict[str, str], drafts: bool) -> None:
    raw = {
        "model_path": "DeepSeek-R1",
        "backend": "trtllm",
        "system": "b200_sxm",
        "precision": "fp8",
        "isl": "1024",
        "osl": "1024",
        "tp_size": "4" if "Qwen" in change.get("model_path", "") else "8",
        "moe_ep_size": "1",
        "silicon_ttft_ms": "200",
        "silicon_tpot_ms": "7",
        "backend_version": "0.5.9",
        "silicon_data_source": "measured=2026-01-14; a/b:c",
    } | change
    listed = {("b200_sxm", "1024", "1024", "200.00", "9.99")}  # of the recipe without it, in the later dump
    assert data._drafts(raw, listed) is drafts


def test_ranks_whose_gpus_are_counted_twice() -> None:
    """Only MiniMax-M2.5 on two GPUs ever had data-parallel attention, with many clients."""

    def shares(clients: int, **change: str) -> bool:
        raw = {"model_path": "MiniMax-M2.5", "tp_size": "2", "precision": "fp4", "system": "b200_sxm"}
        return data._shares_attention(raw | {"silicon_data_source": "measured=2026-04-22"} | change, clients)

    assert [shares(256), shares(512)] == [True, False]
    assert [shares(128, system="b300_sxm"), shares(256, system="b300_sxm")] == [True, False]
    assert [shares(512, precision="fp8"), shares(1024, precision="fp8", system="b300_sxm")] == [True, False]
    assert shares(512, tp_size="4")
    assert shares(512, model_path="Kimi-K2.5")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "fp8"),
        ({"backend": "sglang", "system": "h200_sxm"}, None),
        ({"backend": "sglang"}, "fp8"),
        ({"model_path": "MiniMaxAI/MiniMax-M2.5", "backend": "vllm"}, None),
        (
            {"model_path": "MiniMaxAI/MiniMax-M2.5", "backend": "vllm", "silicon_data_source": "measured=2026-04-08"},
            "fp8",
        ),
        ({"model_path": "Qwen/Qwen3-32B"}, "fp8"),
        ({"model_path": "Qwen/Qwen3-32B", "backend": "vllm"}, None),
        ({"model_path": "nvidia/Llama-3.1-8B-Instruct-FP8", "backend": "vllm"}, "fp8"),
        ({"model_path": "meta-llama/Llama-3.1-8B-Instruct", "backend": "sglang"}, None),
    ],
)
def test_the_kv_cache_of_a_row_is_told_by_its_recipe(change: dict[str, str], expected: str | None) -> None:
    raw = {
        "model_path": "deepseek-ai/DeepSeek-R1",
        "backend": "trtllm",
        "system": "b200_sxm",
        "silicon_data_source": "measured=2026-03-11; a/b:c",
    } | change
    assert data._kv_precision(raw, "fp8") == expected
    assert data._kv_precision(raw, "bf16") is None


def test_kimi_in_nvfp4_keeps_eight_bits_since_its_recipe_says_so() -> None:
    raw = {"model_path": "moonshotai/Kimi-K2.5", "backend": "vllm", "system": "b200_sxm"}
    dates = ("2026-03-27", "2026-04-20")
    found = [data._kv_precision(raw | {"silicon_data_source": f"measured={date}"}, "nvfp4") for date in dates]
    assert found == [None, "fp8"]


def test_more_tokens_ran_at_once_than_sixteen_bits_hold() -> None:
    """Why Qwen3-32B's FP8 rows under TensorRT-LLM are taken to keep an FP8 KV cache."""
    rows = [
        row for row in silicon() if (row.model, row.backend, row.deployment.precision) == ("qwen3-32b", "trtllm", "fp8")
    ]
    most = 0.0
    for row in rows:
        deployment = replace(row.deployment, observed_kv_tokens=None, memory_utilisation=0.95, kv_precision="bf16")
        room = memory_fit(resolve(replace(deployment, max_num_seqs=row.concurrency))).kv_tokens
        decode = row.output_tokens * row.tpot_seconds
        running = row.concurrency * decode / (decode + row.ttft_seconds)
        most = max(most, running * (row.input_tokens + row.output_tokens / 2) / room)
    assert most == pytest.approx(1.56, abs=0.05)


def test_a_loader_without_its_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        data.silicon(tmp_path)
