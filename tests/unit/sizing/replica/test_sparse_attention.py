"""Sparse attention: what a step reads of long contexts, and what its indexer adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.calibration.measurement import COEFFICIENTS, steady_step_seconds, step_terms
from sizing.catalog.models import from_hf_config
from sizing.replica.memory import resolve
from sizing.replica.sparse_attention import LEAST_HEADS, sparse_attention
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.types import Deployment, Workload

SELECTED = 2048


def deployment(model: str, gpu: str = "h200-sxm", **more: object) -> Deployment:
    return replace(Deployment(model, gpu, tensor_parallel=8, engine="sglang"), **more)  # type: ignore[arg-type]


SPARSE, DENSE = (step_model(resolve(deployment(name))) for name in ("deepseek-v3.2", "deepseek-v3"))


@given(st.floats(1, 100_000), st.floats(1, 100_000))
def test_a_step_reads_the_whole_index_and_the_kv_of_the_selected(first: float, second: float) -> None:
    short, long = sorted((first, second))
    more = SPARSE.sequence_seconds(long) - SPARSE.sequence_seconds(short)
    selected = min(long, SELECTED) - min(short, SELECTED)
    expected = SPARSE.kv_seconds * (long - short) + DENSE.kv_seconds * selected
    assert more == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_the_index_is_read_at_its_bytes_and_not_at_those_of_the_kv() -> None:
    resolved = resolve(deployment("deepseek-v3.2"))
    ideal = 61 * 132 / resolved.gpu.memory_bandwidth_bytes_per_second
    assert ideal < SPARSE.kv_seconds < 1.5 * ideal
    fp8 = step_model(resolve(deployment("deepseek-v3.2", kv_precision="fp8")))
    assert fp8.kv_seconds == SPARSE.kv_seconds
    assert fp8.kv_window_seconds == pytest.approx(SPARSE.kv_window_seconds / 2)


def test_short_contexts_pay_for_the_indexer_and_long_ones_are_spared() -> None:
    assert SPARSE.step_seconds(1, 500) > DENSE.step_seconds(1, 500) + 1e-3
    assert SPARSE.step_seconds(64, 60_000) < DENSE.step_seconds(64, 60_000)
    assert SPARSE.attention_seconds > DENSE.attention_seconds  # eight ranks score what each attends an eighth of
    alone, dense = (
        step_model(resolve(deployment(name, tensor_parallel=1))) for name in ("deepseek-v3.2", "deepseek-v3")
    )
    assert alone.prompt_token_seconds(200_000) < dense.prompt_token_seconds(200_000)


def test_layers_that_share_an_indexer_pay_for_their_own_only() -> None:
    own, shared = (sparse_attention(resolve(deployment(name))) for name in ("glm-5", "glm-5.2"))
    assert shared.step_seconds == pytest.approx(own.step_seconds * 21 / 78)
    assert shared.index_read_seconds == pytest.approx(own.index_read_seconds * 21 / 78)
    assert shared.index_multiply_seconds == pytest.approx(own.index_multiply_seconds * 21 / 78)
    assert shared.selected_multiply_seconds == own.selected_multiply_seconds


def test_kernels_take_no_fewer_heads_than_they_are_made_for() -> None:
    alone, two, eight = (
        sparse_attention(resolve(deployment("deepseek-v3.2", tensor_parallel=split))) for split in (1, 2, 8)
    )
    assert two.selected_multiply_seconds == pytest.approx(alone.selected_multiply_seconds / 2)
    assert two.selected_multiply_seconds == eight.selected_multiply_seconds  # 64 heads at least
    assert LEAST_HEADS == 64


def test_how_many_tokens_are_selected_is_read_and_is_not_taken_for_a_window_of_the_cache() -> None:
    config = {
        "model_type": "deepseek_v32", "num_hidden_layers": 4, "hidden_size": 1024, "num_attention_heads": 16,
        "q_lora_rank": 512, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "intermediate_size": 4096, "vocab_size": 32000, "index_head_dim": 128, "index_n_heads": 8,
    }  # fmt: skip
    assert from_hf_config(config).selected_tokens == SELECTED
    few = from_hf_config({**config, "index_topk": 512})
    assert (few.selected_tokens, few.window_tokens, few.index_layers, few.index_width) == (512, 0, 4, 4 * 64 * 128)


@pytest.mark.parametrize(
    ("model", "gpu"), [("deepseek-v3.2", "h200-sxm"), ("glm-5", "b200-sxm"), ("gpt-oss-120b", "h200-sxm")]
)
def test_steps_stay_linear_in_the_coefficients(model: str, gpu: str) -> None:
    """What calibration relies on: the terms times the coefficients are the step."""
    resolved, workload, prior = resolve(deployment(model, gpu)), Workload(6000, 300), StepCoefficients()
    values = np.array([getattr(prior, name) for name in COEFFICIENTS])
    expected = steady_step_seconds(resolved, workload, 20.0, prior)
    assert step_terms(resolved, workload, 20.0) @ values == pytest.approx(expected)
