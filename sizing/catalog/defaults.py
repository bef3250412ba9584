"""What a ``config.json`` may leave out: defaults of configuration classes in transformers, by ``model_type``.

Source: huggingface/transformers 4.57 and 5.x, ``models/<type>/configuration_<type>.py``; read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["class_defaults"]

_GEMMA3 = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
}
_GEMMA2 = {
    "vocab_size": 256000,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
_GEMMA3N = {
    "vocab_size": 262400,
    "vocab_size_per_layer_input": 262144,
    "hidden_size": 2048,
    "hidden_size_per_layer_input": 256,
    "intermediate_size": 16384,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 512,
    "sliding_window_pattern": 5,
    "num_kv_shared_layers": 15,
    "laurel_rank": 64,
    "altup_num_inputs": 4,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
}
_DEFAULTS: dict[str, Mapping[str, Any]] = {
    "gemma": {"vocab_size": 256000, "head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 8192},
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
    "gemma3": _GEMMA3,
    "gemma4_text": {"head_dim": 256, "tie_word_embeddings": True, "sliding_window": 512, "vocab_size": 262144},
    "cohere": {"tie_word_embeddings": True, "vocab_size": 256000},
    "cohere2": {"tie_word_embeddings": True, "vocab_size": 256000, "sliding_window_pattern": 4},
    # Activations that a class has where nothing is said; other classes have a gated one (SiLU).
    "apertus": {"hidden_act": "xielu"},
    "arcee": {"hidden_act": "relu2"},
    "nemotron_h": {"mlp_hidden_act": "relu2"},
    "afmoe": {"attn_output_gate": True},
    "falcon": {"tie_word_embeddings": True, "multi_query": True, "vocab_size": 65024, "max_position_embeddings": 2048},
    "mamba": {"tie_word_embeddings": True, "conv_kernel": 4, "expand": 2, "state_size": 16},
    "falcon_mamba": {"tie_word_embeddings": True, "conv_kernel": 4, "expand": 2, "state_size": 16},
    "mamba2": {"conv_kernel": 4, "expand": 2},
    "lfm2": {
        "tie_word_embeddings": True,
        "vocab_size": 65536,
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": True,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
    },
    "lfm2_moe": {"tie_word_embeddings": True, "vocab_size": 65536, "conv_L_cache": 3, "num_dense_layers": 2},
    "gemma3n_text": _GEMMA3N,
    "zamba2": {
        "tie_word_embeddings": True,
        "vocab_size": 32000,
        "mamba_d_state": 64,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "max_position_embeddings": 4096,
    },
    "gpt_oss": {"head_dim": 64, "num_key_value_heads": 8},
    "qwen3_next": {
        "head_dim": 256,
        "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4,
        "attn_output_gate": True,
    },
    # Their queries have a gate beside them whether the configuration says so or not (modeling_qwen3_5).
    "qwen3_5_text": {"attn_output_gate": True},
    "qwen3_5_moe_text": {"attn_output_gate": True},
    # Every checkpoint of this type that IBM publishes ties them.
    "granitemoehybrid": {
        "tie_word_embeddings": True,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_d_head": None,
    },
    "bamba": {"mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_d_state": 256},
    "jamba": {"mamba_d_conv": 4, "mamba_expand": 2, "mamba_d_state": 16},
    "llama4_text": {"attention_chunk_size": 8192, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 16384},
    "mistral": {"num_key_value_heads": 8},
    "mixtral": {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    "phi3": {"vocab_size": 32064},
    "phi3small": {"tie_word_embeddings": True, "vocab_size": 100352, "num_key_value_heads": 8},
    "ernie4_5": {"tie_word_embeddings": True, "head_dim": 128},
    "ernie4_5_moe": {"tie_word_embeddings": True},
    "smollm3": {"tie_word_embeddings": True},
    "starcoder2": {"tie_word_embeddings": True},
}
_LATENT = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_SEVEN = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
#: Of a language model inside a larger one, whose configuration may say no more than where it differs from its class.
_NESTED: dict[str, Mapping[str, Any]] = {
    "llama": {**_SEVEN, "vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048},
    "mistral": {
        **_SEVEN,
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
    "qwen2": {**_SEVEN, "vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
}


def class_defaults(model_type: Any, *, nested: bool = False) -> Mapping[str, Any]:
    """Return the defaults of a configuration class; empty where none are known.

    ``nested``: it is that of a language model inside a larger one, of which transformers may write only what differs.
    """
    if not isinstance(model_type, str):
        return {}
    return {**(_NESTED.get(model_type, {}) if nested else {}), **_DEFAULTS.get(model_type, {})}
