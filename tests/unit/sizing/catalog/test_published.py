"""Published models whose fields have names or meanings of their own, with the parameters and caches of their owners."""

from __future__ import annotations

from typing import Any

import pytest

from sizing.catalog import from_hf_config
from sizing.errors import InvalidInput
from sizing.replica.memory import kv_bytes_per_token


@pytest.mark.parametrize(
    ("config", "billions", "kv"),
    [
        # The heads of Falcons by their forms: groups, one head for all, one for each.
        (
            {
                "model_type": "falcon", "hidden_size": 8192, "new_decoder_architecture": True, "multi_query": True,
                "num_attention_heads": 128, "num_hidden_layers": 60, "num_kv_heads": 8, "parallel_attn": True,
                "vocab_size": 65024,
            },
            41.3, 60 * 2048,
        ),
        (
            {
                "model_type": "falcon", "hidden_size": 14848, "new_decoder_architecture": True, "multi_query": True,
                "num_attention_heads": 232, "num_hidden_layers": 80, "num_kv_heads": 8, "parallel_attn": True,
                "vocab_size": 65024,
            },
            178.6, 80 * 2048,
        ),
        (
            {
                "model_type": "falcon", "hidden_size": 4544, "new_decoder_architecture": False, "multi_query": True,
                "num_attention_heads": 71, "num_hidden_layers": 32, "num_kv_heads": 71, "parallel_attn": True,
                "vocab_size": 65024,
            },
            6.92, 32 * 256,
        ),
        # Step 3: queries through a narrow space, one group of keys and values, layers with experts as text.
        (
            {
                "model_type": "step3_text", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 64,
                "num_attention_groups": 1, "num_hidden_layers": 61, "vocab_size": 128815, "share_q_dim": 2048,
                "moe_intermediate_size": 5120, "moe_num_experts": 48, "moe_top_k": 3, "share_expert_dim": 5120,
                "head_dim": 256, "moe_layers_enum": ",".join(map(str, range(4, 60))),
            },
            316, 61 * 1024,
        ),
        # Grok 2: a dense part beside the experts, under the model type of something else.
        (
            {
                "architectures": ["Grok1ForCausalLM"], "model_type": "git", "residual_moe": True, "head_dim": 128,
                "hidden_size": 8192, "intermediate_size": 32768, "moe_intermediate_size": 16384,
                "num_attention_heads": 64, "num_experts_per_tok": 2, "num_hidden_layers": 64, "num_key_value_heads": 8,
                "num_local_experts": 8, "sliding_window_size": -1, "vocab_size": 131072,
            },
            269.5, 64 * 4096,
        ),
        # Apertus, whose activation has no gate, also where nothing is said.
        (
            {
                "model_type": "apertus", "hidden_size": 4096, "intermediate_size": 21504, "num_attention_heads": 32,
                "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 131072,
            },
            8.05, 32 * 4096,
        ),
        (
            {
                "model_type": "phi3small", "blocksparse_block_size": 64, "dense_attention_every_n_layers": 2,
                "ff_intermediate_size": 14336, "hidden_act": "gegelu", "hidden_size": 4096, "num_attention_heads": 32,
                "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 100352,
            },
            7.39, 32 * 4096,
        ),
        # InfLLM reads a part of the cache, and keeps all of it.
        (
            {
                "model_type": "minicpm", "hidden_size": 4096, "intermediate_size": 16384, "num_attention_heads": 32,
                "num_hidden_layers": 32, "num_key_value_heads": 2, "sparse_config": {"topk": 64, "window_size": 2048},
                "tie_word_embeddings": False, "vocab_size": 73448,
            },
            8.19, 32 * 1024,
        ),
        # Ling 2: the first layer is dense, one shared expert.
        (
            {
                "model_type": "bailing_moe", "first_k_dense_replace": 1, "head_dim": 128, "hidden_size": 2048,
                "intermediate_size": 5120, "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 256,
                "num_experts_per_tok": 8, "num_hidden_layers": 20, "num_key_value_heads": 4, "num_shared_experts": 1,
                "vocab_size": 157184,
            },
            16.26, 20 * 2048,
        ),
        # Trinity: dense layers by number, a gate beside the queries.
        (
            {
                "model_type": "afmoe", "global_attn_every_n_layers": 4, "head_dim": 128, "hidden_size": 2048,
                "intermediate_size": 6144, "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 8,
                "moe_intermediate_size": 1408, "num_attention_heads": 16, "num_dense_layers": 1, "num_experts": 64,
                "num_experts_per_tok": 6, "num_hidden_layers": 32, "num_key_value_heads": 16, "num_shared_experts": 2,
                "sliding_window": 1024, "vocab_size": 200192,
            },
            19.23, 32 * 8192,
        ),
    ],
)  # fmt: skip
def test_published_sizes(config: dict[str, Any], billions: float, kv: int) -> None:
    model = from_hf_config(config)
    assert model.total_parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert kv_bytes_per_token(model) == kv


EXPERTS: dict[str, Any] = {
    "model_type": "step3_text",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "moe_intermediate_size": 1024,
    "moe_num_experts": 8,
    "moe_top_k": 2,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
}


@pytest.mark.parametrize("enum", ["4,5,six", "61", "4;5", "-1", "9" * 40])
def test_layers_with_experts_as_text_must_be_numbers_of_layers(enum: str) -> None:
    with pytest.raises(InvalidInput, match="moe_layers_enum"):
        from_hf_config({**EXPERTS, "moe_layers_enum": enum})
