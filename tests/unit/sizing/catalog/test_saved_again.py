"""Configurations as transformers 5 writes them when a checkpoint is saved again: other words, the same model."""

from __future__ import annotations

from typing import Any

import pytest

from sizing.catalog import from_hf_config
from sizing.errors import UnknownModel

DENSE: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
GRANITE: dict[str, Any] = {
    "model_type": "granitemoehybrid",
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 512,
    "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)],
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_n_heads": 48,
    "num_attention_heads": 12,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 40,
    "num_key_value_heads": 4,
    "num_local_experts": 64,
    "shared_intermediate_size": 1024,
    "vocab_size": 100352,
}
NEMOTRON_H: dict[str, Any] = {
    "model_type": "nemotron_h",
    "conv_kernel": 4,
    "head_dim": 128,
    "hidden_size": 4096,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "intermediate_size": 21504,
    "mamba_head_dim": 64,
    "mamba_num_heads": 128,
    "mlp_hidden_act": "relu2",
    "n_groups": 8,
    "num_attention_heads": 32,
    "num_hidden_layers": 52,
    "num_key_value_heads": 8,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}
GEMMA_4: dict[str, Any] = {
    "model_type": "gemma4_text",
    "attention_k_eq_v": True,
    "global_head_dim": 512,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
    "num_attention_heads": 32,
    "num_global_key_value_heads": 4,
    "num_hidden_layers": 60,
    "num_key_value_heads": 16,
    "sliding_window": 1024,
    "vocab_size": 262144,
}


def without(config: dict[str, Any], *keys: str, **change: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys} | change


def test_every_recurrent_layer_is_called_linear_attention() -> None:
    words = ["full_attention" if word == "attention" else "linear_attention" for word in GRANITE["layer_types"]]
    assert from_hf_config({**GRANITE, "layer_types": words}) == from_hf_config(GRANITE)
    assert from_hf_config(GRANITE).total_parameters / 1e9 == pytest.approx(6.94, rel=0.005)
    names = {"M": "linear_attention", "*": "full_attention", "-": "mlp"}
    saved = without(
        NEMOTRON_H,
        "hybrid_override_pattern",
        "num_hidden_layers",
        layers_block_type=[names[letter] for letter in NEMOTRON_H["hybrid_override_pattern"]],
        # Written for every model of the class, with or without experts.
        moe_intermediate_size=7688,
        moe_shared_expert_intermediate_size=7688,
        n_routed_experts=8,
        n_shared_experts=1,
        num_experts_per_tok=2,
    )
    assert from_hf_config(saved).total_parameters == from_hf_config(NEMOTRON_H).total_parameters
    assert from_hf_config(saved).caches == from_hf_config(NEMOTRON_H).caches


def test_sparse_attention_is_called_indexed() -> None:
    sparse = {
        **DENSE,
        "model_type": "glm_moe_dsa",
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "index_head_dim": 128,
        "index_n_heads": 32,
        "index_topk": 2048,
    }
    assert from_hf_config({**sparse, "layer_types": ["indexed_attention"] * 32}) == from_hf_config(sparse)


def test_overrides_of_layers_that_attend_to_everything() -> None:
    override = {"head_dim": 512, "num_key_value_heads": 4}
    saved = without(
        GEMMA_4,
        "global_head_dim",
        "num_global_key_value_heads",
        per_layer_config={f"{i:02}": override for i in range(5, 60, 6)},
    )
    assert from_hf_config(saved) == from_hf_config(GEMMA_4)
    assert from_hf_config({**GEMMA_4, "per_layer_config": {}}) == from_hf_config(GEMMA_4)


@pytest.mark.parametrize(
    "overrides",
    [
        {"05": {"head_dim": 512}},  # one of the ten
        {f"{i:02}": {"head_dim": 512 if i < 30 else 256} for i in range(5, 60, 6)},
        {f"{i:02}": {"num_attention_heads": 64} for i in range(5, 60, 6)},
        {f"{i:02}": {"head_dim": 512} for i in range(60)},
        {"every": {"head_dim": 512}},
    ],
)
def test_other_overrides_are_refused_by_name(overrides: dict[str, Any]) -> None:
    saved = without(GEMMA_4, "global_head_dim", "num_global_key_value_heads", per_layer_config=overrides)
    with pytest.raises(UnknownModel, match="'per_layer_config'"):
        from_hf_config(saved)


@pytest.mark.parametrize(
    ("release", "outer", "inner", "tied"),
    [
        ("5.24.0", False, True, False),
        ("5.24.0", True, False, True),
        ("5.24.0", None, True, True),
        ("4.57.1", True, False, False),
        (None, True, False, False),
        ("dev", False, True, True),
    ],
)
def test_who_says_whether_embeddings_are_tied(release: str | None, outer: bool | None, inner: bool, tied: bool) -> None:
    config: dict[str, Any] = {"text_config": {**DENSE, "tie_word_embeddings": inner}, "transformers_version": release}
    if outer is not None:
        config["tie_word_embeddings"] = outer
    assert (from_hf_config(config).embedding_parameters == 0) is tied
