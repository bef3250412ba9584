"""Blocks as vLLM 0.18 lays them out; the figures in comments are its own start-up lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.catalog import resolve_model
from sizing.catalog.layers import Mixer
from sizing.catalog.models import CacheLayers
from sizing.replica.kv_cache import BlockLayout, block_layout

GIB = 2**30


def layout(model: str, kv_bytes: float, tensor_parallel: int = 1, **engine: bool) -> BlockLayout:
    return block_layout(
        resolve_model(model).caches,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=1,
        kv_bytes=kv_bytes,
        block_tokens=16,
        **engine,
    )


@pytest.mark.parametrize(
    ("model", "kv_bytes", "gib", "block", "tokens", "concurrency"),
    [
        # Nemotron-3-Nano, FP8 KV: 6 attention and 23 Mamba layers in 1 + 4 groups of 6.
        ("nemotron-3-nano-30b-a3b", 1.0, 95.04, 4176, 6_644_016, {8192: 1325.83, 10_000: 1136.43}),
        # Qwen3-Coder-Next: 12 and 36 layers in 1 + 3 groups, states in 16 bits.
        ("qwen3-coder-next", 2.0, 49.29, 544, 538_016, {8192: 208.32, 10_000: 179.91}),
        # Qwen3.5-35B: states in 32 bits.
        ("qwen3.5-35b-a3b", 2.0, 89.92, 1056, 1_178_496, {8192: 405.82, 10_000: 343.38}),
    ],
)
def test_hybrids_as_the_engine_prints_them(
    model: str, kv_bytes: float, gib: float, block: int, tokens: int, concurrency: dict[int, float]
) -> None:
    found = layout(model, kv_bytes)
    assert found.block_tokens == block
    # The printed budget is rounded to hundredths of a GiB.
    assert found.printed_tokens((gib + 0.004) * GIB) == pytest.approx(tokens, rel=1e-3)
    for length, printed in concurrency.items():
        assert found.printed_concurrency(gib * GIB, length, 8192) == pytest.approx(printed, rel=1e-3)


@pytest.mark.parametrize(
    ("attention", "state", "layers", "gib", "block", "tokens", "concurrency"),
    [
        # Falcon-H1-3B: both in each of 32 layers; "Setting attention block size to 2080 tokens", a state's block is the
        # 2,048 tokens that the server was started for (vLLM, a start-up line of 2026).
        (2 * 2 * 128, 32 * 128 * 256 + (4096 + 512) * 3, (32, 32), 5.28, 2080, 83_968, 41.50),
        # Zamba2-2.7B: 9 and 54 in 1 + 6 groups; "48 tokens", "Padding mamba page size by 43.12%".
        (2 * 32 * 160, 80 * 64 * 64 + (5120 + 128) * 3, (9, 54), 6.16, 48, 5_088, 15.27),
    ],
)
def test_states_beside_attention_as_the_engine_prints_them(
    attention: int, state: int, layers: tuple[int, int], gib: float, block: int, tokens: int, concurrency: float
) -> None:
    caches = [
        CacheLayers(Mixer.FULL, layers[0], attention, 32),
        CacheLayers(Mixer.MAMBA2, layers[1], narrow_state=state),
    ]
    found = block_layout(
        caches, tensor_parallel=1, pipeline_parallel=1, kv_bytes=2.0, block_tokens=16, longest_tokens=2048
    )
    assert max(group.block_tokens for group in found.groups) == block
    assert found.printed_tokens(gib * GIB) == tokens
    assert found.printed_concurrency(gib * GIB, 2048, 2048) == pytest.approx(concurrency, rel=0.003)


def test_a_model_of_states_alone_holds_sequences_of_any_length() -> None:
    # Mamba-2.8B in 16 bits: 64 layers of 5,120 · (16 + 3) elements.
    caches = [CacheLayers(Mixer.MAMBA1, 64, narrow_state=5120 * 19)]
    found = block_layout(
        caches, tensor_parallel=1, pipeline_parallel=1, kv_bytes=2.0, block_tokens=16, longest_tokens=4096
    )
    held = int(GIB // (64 * 5120 * 19 * 2))
    assert found.printed_concurrency(GIB, 1_000_000, 8192) == held
    assert found.printed_tokens(GIB) == held * 4096
    assert found.sequence_bytes(10) == found.sequence_bytes(1_000_000)


def test_one_kind_of_layer_is_one_group() -> None:
    found = layout("llama-3.3-70b", 2.0, tensor_parallel=4)
    assert found.group_count == 1
    # 91.57 GiB on each of 4 H200: 1,200,192 tokens, 146.51 sequences of 8,192.
    assert found.printed_tokens(91.57 * GIB) == pytest.approx(1_200_192, rel=1e-4)
    assert found.printed_concurrency(91.57 * GIB, 8192, 8192) == pytest.approx(146.51, rel=1e-3)


def test_an_indexer_adds_132_bytes_per_layer_and_token() -> None:
    assert layout("deepseek-v3.2", 2.0).sequence_bytes(1.0) == 78_324
    assert layout("deepseek-v3.2", 1.0).sequence_bytes(1.0) == 43_188


def test_a_window_and_one_step_are_counted_for_every_sequence() -> None:
    found = layout("gpt-oss-120b", 2.0)
    full, window = found.groups
    assert (full.count, window.count) == (1, 1)
    windowed = next(group for group in found.groups if group.window_tokens)
    assert windowed.reserved_blocks(131_072, 8192) == (127 + 8192 + 15) // 16 + 1
    # In operation a window stays a window.
    assert windowed.blocks(131_072) == 128 / 16


def test_chunked_layers_keep_everything_where_the_engine_does_not_free_them() -> None:
    kept, freed = layout("llama-4-maverick", 1.0, 8), layout("llama-4-maverick", 1.0, 8, chunks=True)
    assert kept.group_count == 1
    assert freed.group_count == 4
    assert kept.sequence_bytes(100_000) > 3 * freed.sequence_bytes(100_000)
    # vLLM 0.11.2, 70.91 GiB: 619.61 sequences of 10,000.
    assert kept.printed_concurrency(70.91 * GIB, 10_000, 8192) == pytest.approx(619.61, rel=1e-3)


def test_a_printed_size_gives_back_its_budget() -> None:
    found = layout("nemotron-3-nano-30b-a3b", 1.0)
    budget = found.budget_of(found.printed_tokens(95.04 * GIB))
    assert budget == pytest.approx(95.04 * GIB, rel=1e-3)


def test_layers_of_recurrence_alone_hold_states_only() -> None:
    found = block_layout(
        (CacheLayers(Mixer.MAMBA2, 10, wide_state=1000),),
        tensor_parallel=1,
        pipeline_parallel=1,
        kv_bytes=2.0,
        block_tokens=16,
    )
    assert found.sequence_bytes(1) == found.sequence_bytes(10**6) == 40_000


@given(
    st.integers(1, 60), st.integers(0, 60), st.integers(1, 8), st.sampled_from([0, 128, 4096]), st.integers(1, 10**6)
)
def test_longer_sequences_never_take_less(full: int, windowed: int, heads: int, window: int, tokens: int) -> None:
    caches = [CacheLayers(Mixer.FULL, full, heads * 256, heads)]
    if windowed and window:
        caches.append(CacheLayers(Mixer.WINDOW, windowed, heads * 256, heads, window_tokens=window))
    found = block_layout(caches, tensor_parallel=1, pipeline_parallel=1, kv_bytes=2.0, block_tokens=16)
    assert found.sequence_bytes(tokens) <= found.sequence_bytes(tokens + 1)
    assert found.printed_concurrency(1e12, tokens, 2048) >= found.printed_concurrency(1e12, tokens + 1, 2048)
