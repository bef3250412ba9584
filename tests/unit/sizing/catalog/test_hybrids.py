"""Recurrent layers, layers with two mixers and shared blocks: parameters, KV cache and states of published models.

Fields are those that owners publish, in short; sizes are of their model cards or checkpoints. The classes of
transformers 5.24 have the same parameters within 0.5 % (2026-12-01).
"""

from __future__ import annotations

from typing import Any

import pytest

from sizing.catalog import from_hf_config
from sizing.catalog.layers import Mixer
from sizing.catalog.models import ModelSpec
from sizing.errors import InvalidInput, SizingError, UnknownModel
from sizing.replica.memory import kv_bytes_per_token

FALCON_H1: dict[str, Any] = {
    "model_type": "falcon_h1",
    "attn_layer_indices": None,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "key_multiplier": 0.1,
    "mamba_d_conv": 4,
    "mamba_d_head": 128,
    "mamba_d_ssm": 3072,
    "mamba_d_state": 256,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 24,
    "mamba_norm_before_gate": True,
    "mamba_use_mlp": True,
    "mlp_expansion_factor": 8,
    "mlp_multipliers": [0.8, 0.2],
    "num_attention_heads": 12,
    "num_hidden_layers": 44,
    "num_key_value_heads": 2,
    "ssm_in_multiplier": 1.2,
    "vocab_size": 130048,
}
LFM2: dict[str, Any] = {
    "model_type": "lfm2",
    "block_auto_adjust_ff_dim": True,
    "block_dim": 2048,
    "block_ff_dim": 12288,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
    "conv_L_cache": 3,
    "conv_dim": 2048,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "vocab_size": 65536,
}
LFM2_MOE: dict[str, Any] = {
    "model_type": "lfm2_moe",
    "conv_L_cache": 3,
    "hidden_size": 2048,
    "intermediate_size": 7168,
    "layer_types": ["full_attention" if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)],
    "moe_intermediate_size": 1792,
    "num_attention_heads": 32,
    "num_dense_layers": 2,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "use_expert_bias": True,
    "vocab_size": 65536,
}
_FULL = [4, 8, 12, 16, 20, 24, 27]
KIMI_LINEAR: dict[str, Any] = {
    "model_type": "kimi_linear",
    "first_k_dense_replace": 1,
    "head_dim": 72,
    "hidden_act": "silu",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "kv_lora_rank": 512,
    "linear_attn_config": {
        "full_attn_layers": _FULL,
        "head_dim": 128,
        "kda_layers": [i for i in range(1, 28) if i not in _FULL],
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
    "mla_use_nope": True,
    "moe_intermediate_size": 1024,
    "moe_layer_freq": 1,
    "num_attention_heads": 32,
    "num_experts": 256,
    "num_experts_per_token": 8,
    "num_hidden_layers": 27,
    "num_key_value_heads": 32,
    "num_shared_experts": 1,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 163840,
}
GEMMA_3N: dict[str, Any] = {
    "model_type": "gemma3n",
    "audio_config": {"model_type": "gemma3n_audio", "hidden_size": 1536, "conf_num_hidden_layers": 12},
    "vision_config": {"model_type": "gemma3n_vision", "architecture": "mobilenetv5_300m_enc", "hidden_size": 2048},
    "text_config": {
        "model_type": "gemma3n_text",
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 25,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_num_inputs": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2048,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": [16384] * 35,
        "laurel_rank": 64,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
        "num_attention_heads": 8,
        "num_hidden_layers": 35,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 15,
        "sliding_window": 512,
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
    },
}
ZAMBA2: dict[str, Any] = {
    "model_type": "zamba2",
    "adapter_rank": 128,
    "attention_head_dim": 160,
    "attention_hidden_size": 5120,
    "ffn_hidden_size": 10240,
    "gated_linear_unit": True,
    "hidden_act": "gelu",
    "hidden_size": 2560,
    "hybrid_layer_ids": [6, 12, 18, 24, 30, 36, 42, 47, 51],
    "intermediate_size": 10240,
    "kv_channels": 80,
    "mamba_d_conv": 4,
    "mamba_d_state": 64,
    "mamba_expand": 2,
    "mamba_headdim": 64,
    "mamba_ngroups": 1,
    "max_position_embeddings": 4096,
    "n_mamba_heads": 80,
    "num_attention_heads": 32,
    "num_hidden_layers": 54,
    "num_key_value_heads": 32,
    "num_mem_blocks": 2,
    "use_shared_attention_adapter": True,
    "vocab_size": 32000,
}
ZAMBA2_7B: dict[str, Any] = {
    **ZAMBA2,
    "attention_head_dim": 224,
    "attention_hidden_size": 7168,
    "ffn_hidden_size": 14336,
    "hidden_size": 3584,
    "hybrid_layer_ids": [6, *range(11, 78, 6)],
    "intermediate_size": 14336,
    "mamba_ngroups": 2,
    "n_mamba_heads": 112,
    "num_hidden_layers": 81,
    "use_shared_attention_adapter": False,
}
MAMBA: dict[str, Any] = {
    "model_type": "mamba",
    "conv_kernel": 4,
    "expand": 2,
    "hidden_size": 2560,
    "intermediate_size": 5120,
    "num_hidden_layers": 64,
    "state_size": 16,
    "time_step_rank": 160,
    "vocab_size": 50280,
}
FALCON_MAMBA: dict[str, Any] = {
    **MAMBA,
    "model_type": "falcon_mamba",
    "expand": 16,
    "hidden_size": 4096,
    "intermediate_size": 8192,
    "tie_word_embeddings": False,
    "time_step_rank": 256,
    "vocab_size": 65024,
}
MAMBA_CODESTRAL: dict[str, Any] = {
    "model_type": "mamba2",
    "chunk_size": 256,
    "conv_kernel": 4,
    "expand": 2,
    "head_dim": 64,
    "hidden_size": 4096,
    "intermediate_size": 8192,
    "n_groups": 8,
    "num_heads": 128,
    "num_hidden_layers": 64,
    "state_size": 128,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
}
GRANITE_MICRO: dict[str, Any] = {  # of the class of hybrids, but without a Mamba layer
    "model_type": "granitemoehybrid",
    "hidden_act": "silu",
    "hidden_size": 2560,
    "intermediate_size": 8192,
    "layer_types": ["attention"] * 40,
    "mamba_d_state": 256,
    "mamba_n_heads": 128,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "num_local_experts": 0,
    "shared_intermediate_size": 8192,
    "tie_word_embeddings": True,
    "vocab_size": 100352,
}
QWEN3_NEXT: dict[str, Any] = {  # its gate on queries is in no field
    "model_type": "qwen3_next",
    "decoder_sparse_step": 1,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "mlp_only_layers": [],
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}

# What each holds: billions of parameters as published, KV bytes per token in 16 bits, bytes of state of one sequence
# as vLLM keeps it (layers · (heads · dim · state + conv channels · (kernel - 1)), 2 bytes each).
PUBLISHED: dict[str, tuple[dict[str, Any], float, int, int]] = {
    "Falcon-H1-7B": (FALCON_H1, 7.59, 44 * 1024, 44 * 2 * (24 * 128 * 256 + (3072 + 512) * 3)),
    "LFM2-1.2B": (LFM2, 1.17, 6 * 2048, 10 * 2 * 2048 * 2),
    "LFM2-8B-A1B": (LFM2_MOE, 8.34, 6 * 2048, 18 * 2 * 2048 * 2),
    # The delta state is in 32 bits whatever is set.
    "Kimi-Linear-48B": (KIMI_LINEAR, 49.1, 7 * 1152, 20 * (4 * 32 * 128 * 128 + 2 * 3 * 4096 * 3)),
    "Gemma-3n-E4B": (GEMMA_3N, 7.85, 20 * 2048, 0),
    "Zamba2-2.7B": (ZAMBA2, 2.69, 9 * 20480, 54 * 2 * (80 * 64 * 64 + (5120 + 128) * 3)),
    "Zamba2-7B": (ZAMBA2_7B, 7.36, 13 * 28672, 81 * 2 * (112 * 64 * 64 + (7168 + 256) * 3)),
    "Mamba-2.8B": (MAMBA, 2.77, 0, 64 * 2 * 5120 * (16 + 3)),
    "Falcon-Mamba-7B": (FALCON_MAMBA, 7.27, 0, 64 * 2 * 8192 * (16 + 3)),
    "Mamba-Codestral-7B": (MAMBA_CODESTRAL, 7.29, 0, 64 * 2 * (128 * 64 * 128 + (8192 + 2048) * 3)),
    "Granite-4.0-Micro": (GRANITE_MICRO, 3.40, 40 * 2048, 0),
    "Qwen3-Next-80B": (QWEN3_NEXT, 79.67, 12 * 2048, 36 * 2 * (32 * 128 * 128 + 8192 * 3)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models(name: str) -> None:
    config, billions, kv, state = PUBLISHED[name]
    model = from_hf_config(config, name)
    assert model.total_parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert kv_bytes_per_token(model) == kv
    assert 2 * model.state_elements == state


def read(config: dict[str, Any], **change: Any) -> ModelSpec:
    return from_hf_config({**config, **change})


def test_two_mixers_of_a_layer_have_a_cache_each() -> None:
    model = read(FALCON_H1)
    assert model.layers == 44
    assert {cache.mixer: cache.layers for cache in model.caches} == {Mixer.FULL: 44, Mixer.MAMBA2: 44}
    assert model.kv_heads == 2


def test_blocks_that_layers_share_are_stored_once_and_read_at_every_place() -> None:
    shared = read(ZAMBA2)
    own = read(ZAMBA2, num_mem_blocks=9)
    assert own.total_parameters == shared.total_parameters + shared.repeated_parameters
    assert shared.repeated_parameters == 7 * (5120 * 96 * 160 + 32 * 160 * 2560 + 3 * 2560 * 10240)
    assert shared.widest == 10240
    assert own.repeated_parameters == 0
    assert shared.dense_parameters == own.dense_parameters
    assert shared.kv_elements_full == own.kv_elements_full


def test_a_named_layer_and_its_number_are_the_same() -> None:
    words = ["hybrid" if i in (6, 12, 18, 24, 30, 36, 42, 47, 51) else "mamba" for i in range(54)]
    assert read(ZAMBA2, layers_block_type=words, hybrid_layer_ids=None) == read(ZAMBA2)
    words = ["full_attention" if i in LFM2["full_attn_idxs"] else "conv" for i in range(16)]
    assert read(LFM2, layer_types=words) == read(LFM2)


def test_a_model_of_recurrent_layers_alone_has_no_heads_and_no_kv_cache() -> None:
    model = read(MAMBA)
    assert (model.heads, model.attention_width, kv_bytes_per_token(model)) == (None, 0, 0)
    assert model.embedding_parameters == 0  # tied, as its class is where nothing is said


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({**FALCON_H1, "attn_layer_indices": [1]}, "Falcon-H1 without attention"),
        ({**FALCON_H1, "mamba_use_mlp": False}, "Falcon-H1 without attention or MLP"),
        ({**ZAMBA2, "hybrid_layer_ids": None}, "without layers_block_type"),
        ({**ZAMBA2, "use_shared_mlp_adapter": False}, "without use_shared_mlp_adapter"),
        ({**LFM2, "full_attn_idxs": [99]}, "by their numbers"),
        ({**KIMI_LINEAR, "linear_attn_config": {"full_attn_layers": [4]}}, "'linear_attn_config'"),
        ({**KIMI_LINEAR, "kv_lora_rank": None}, "'linear_attn_config'"),
        ({**GEMMA_3N["text_config"], "intermediate_size": [8192] * 30 + [16384] * 5}, "differs between layers"),
    ],
)
def test_variants_that_are_not_known_are_refused(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UnknownModel, match=named):
        from_hf_config(config)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({**FALCON_H1, "mamba_d_ssm": 3000}, "24 Mamba heads of 128 are 3072, not 3000"),
        ({**ZAMBA2, "mamba_headdim": 128}, "80 Mamba heads of 128"),
        ({**LFM2, "conv_dim": 1024}, "conv_dim 1024"),
        ({**LFM2, "block_ffn_dim_multiplier": "wide"}, "block_ffn_dim_multiplier"),
        ({**ZAMBA2, "hybrid_layer_ids": [60]}, "hybrid_layer_ids"),
    ],
)
def test_sizes_that_cannot_be_are_errors(config: dict[str, Any], named: str) -> None:
    with pytest.raises((InvalidInput, UnknownModel), match=named):
        from_hf_config(config)


DAMAGE = [None, -1, 0, 1, 2.5, 10**12, True, "x", "4,5", [], [None], [[1]], {"a": 1}, float("inf"), float("nan")]


@pytest.mark.parametrize("name", ["Falcon-H1-7B", "LFM2-1.2B", "Kimi-Linear-48B", "Zamba2-2.7B", "Mamba-Codestral-7B"])
def test_damaged_fields_are_refused_or_make_sense(name: str) -> None:
    config = PUBLISHED[name][0]
    for key in (*config, "architectures", "layer_types", "moe_layers_enum", "per_layer_config", "transformers_version"):
        for value in DAMAGE:
            try:
                model = read(config, **{key: value})
            except SizingError:
                continue
            assert 0 <= model.total_parameters < float("inf"), (key, value)


@pytest.mark.parametrize(
    ("config", "part", "modules"),
    [
        (LFM2, "mamba", "model.layers.{}.conv.in_proj"),
        (FALCON_H1, "mamba", "model.layers.{}.mamba.in_proj"),
        (KIMI_LINEAR, "linear_attention", "model.layers.{}.self_attn.q_proj"),
    ],
)
def test_modules_of_recurrent_layers_on_ignore_lists(config: dict[str, Any], part: str, modules: str) -> None:
    # Of layers with two mixers the second one is found by the number of its layer, too.
    ignore = [modules.format(i) for i in range(config["num_hidden_layers"])]
    fp8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ignore}
    found = read(config, quantization_config=fp8).quantization
    assert found is not None
    assert found.share_kept(part) == 1.0
    assert found.share_kept("mlp") == 0.0
