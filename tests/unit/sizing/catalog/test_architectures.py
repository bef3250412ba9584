"""Architectures are read right or refused by name; sizes in comments are those that their owners publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizing.catalog import from_hf_config
from sizing.catalog.models import ModelSpec
from sizing.errors import SizingError, UnknownModel
from sizing.replica.memory import kv_bytes_per_token

SHARED = Path(__file__).resolve().parents[5] / "shared"
DENSE = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
MOE = {**DENSE, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 1024}


def read(**change: Any) -> ModelSpec:
    return from_hf_config({**DENSE, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"kv_reuse_layers": 4},
        {"layer_group_size": 2},
        {"num_memory_layers": 3},
        {"attention_stride": 8},
        {"moe_expert_groups_shared": 2},
        {"sparse_block_size": 64},
        {"ffn_dim_multiplier": 1.3},
        {"cross_layer_share": [0, 1]},
        {"altup_num_inputs": 4, "laurel_rank": 64},
        {"use_cla": True, "cla_share_factor": 2},
        {"hc_mult": 4},
    ],
)
def test_an_unknown_key_that_may_change_parameters_or_the_cache_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(UnknownModel, match=next(reversed(change))):
        read(**change)


@pytest.mark.parametrize(
    "change",
    [
        {
            "layer_norm_eps": 1e-5,
            "attention_dropout": 0.1,
            "rope_theta": 1e6,
            "bos_token_id": 1,
            "torch_dtype": "bfloat16",
        },
        {"router_aux_loss_coef": 0.01, "output_router_logits": False, "num_nextn_predict_layers": 1},
        {"mystery_layers": None, "mystery_experts": 0, "mystery_heads": False, "mystery_blocks": []},
        {"use_cla": False, "cla_share_factor": 2},
        {"license": "other", "kernel_name": "x"},
    ],
)
def test_keys_that_change_neither_are_let_be(change: dict[str, Any]) -> None:
    assert read(**change).total_parameters == read().total_parameters


@pytest.mark.parametrize(
    ("change", "full", "windowed", "window"),
    [
        ({"sliding_window": 4096}, 0, 32, 4096),
        ({"sliding_window": 4096, "use_sliding_window": False}, 32, 0, 0),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 28}, 28, 4, 4096),
        ({"sliding_window": 512, "sliding_window_pattern": 4}, 8, 24, 512),
        ({"sliding_window": 512, "sliding_window_pattern": "LLLG"}, 8, 24, 512),
        ({"model_type": "gemma2", "head_dim": 128}, 16, 16, 4096),
        ({"model_type": "cohere2", "sliding_window": 4096}, 8, 24, 4096),
        ({"attention_chunk_size": 8192}, 8, 24, 8192),
        ({"attention_chunk_size": 8192, "no_rope_layers": [1, 0] * 16}, 16, 16, 8192),
        ({"layer_types": ["sliding_attention", "full_attention"] * 16, "sliding_window": 128}, 16, 16, 128),
    ],
)
def test_windows(change: dict[str, Any], full: int, windowed: int, window: int) -> None:
    model = read(**change)
    layer = 2 * model.kv_heads * 128
    assert (model.kv_elements_full, model.kv_elements_windowed) == (full * layer, windowed * layer)
    assert model.window_tokens == window


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        ({"moe_layer_freq": [0, 1] * 16}, 16),
        ({"first_k_dense_replace": 3}, 29),
        ({"decoder_sparse_step": 2}, 16),
        ({"mlp_only_layers": [0, 1]}, 30),
        ({"mlp_layer_types": ["dense"] * 4 + ["sparse"] * 28}, 28),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, 16),
        ({"moe_layer_start_index": 2, "moe_layer_end_index": 30, "moe_layer_interval": 1}, 29),
        ({"moe_layers": [1, 5, 9]}, 3),
    ],
)
def test_which_layers_have_experts(change: dict[str, Any], layers: int) -> None:
    model = from_hf_config({**MOE, **change})
    assert model.expert_parameters == layers * 8 * 3 * 4096 * 1024


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "is an encoder"),
        ({"architectures": ["Qwen3ForSequenceClassification"], **DENSE}, "is an encoder"),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "encoder-decoder"),
        ({**DENSE, "is_encoder_decoder": True}, "encoder-decoder"),
        ({**DENSE, "layer_types": ["conv"] * 32}, "'conv'"),
        ({**DENSE, "block_configs": [{}]}, "'block_configs'"),
        ({**DENSE, "compress_ratios": [4]}, "'compress_ratios'"),
        ({**DENSE, "linear_attn_config": {"a": 1}}, "'linear_attn_config'"),
        ({**DENSE, "mamba_num_heads": 8}, "without a pattern"),
        ({**DENSE, "intermediate_size": [128, 256]}, "intermediate_size differs between layers"),
        ({**DENSE, "hidden_act": "gelu", "model_type": "something"}, "hidden_act 'gelu'"),
        ({**DENSE, "hidden_act": "xielu", "model_type": "something"}, "hidden_act 'xielu'"),
        ({"model_type": "gpt2", "n_embd": 768}, "model_type 'gpt2'"),
        # Switches, and the number one, are no habits.
        ({**DENSE, "residual_moe": True}, "'residual_moe'"),
        ({**DENSE, "parallel_attn_mlp_res": True}, "'parallel_attn_mlp_res'"),
        ({**DENSE, "kv_n_heads": 1}, "'kv_n_heads'"),
        ({**DENSE, "double_wide_layers": 2}, "'double_wide_layers'"),
        ({**DENSE, "model_type": "jetmoe"}, "model_type 'jetmoe'"),
        ({**DENSE, "hidden_act": "relu2", "model_type": "something"}, "hidden_act 'relu2'"),
        ({"text_config": DENSE, "perceiver_config": {"resampler_depth": 3}}, "'perceiver_config'"),
        ({"text_config": DENSE, "vision_config": {"model_type": "odd", "patches": 4}}, "vision_config .odd."),
        ({**DENSE, "architectures": ["LlamaModel"]}, "generates no tokens"),
        ({**DENSE, "is_causal": False}, "generates no tokens"),
        ({**DENSE, "use_bidirectional_attention": True}, "generates no tokens"),
        # Rankers and the like in the layers of a language model.
        ({**DENSE, "architectures": ["JinaForRanking"]}, "embeds or scores"),
        ({**DENSE, "architectures": ["LlamaForTextEncoding"]}, "embeds or scores"),
        ({**DENSE, "architectures": ["Qwen2ForProcessRewardModel"]}, "embeds or scores"),
        ({**DENSE, "architectures": ["Qwen3ForReranking"]}, "embeds or scores"),
        ({"model_type": "t5gemma", "architectures": ["T5GemmaForConditionalGeneration"]}, "encoder-decoder"),
        ({"model_type": "m2m_100", "d_model": 1024}, "encoder-decoder"),
        ({"model_type": "rwkv7", "hidden_size": 4096, "num_hidden_layers": 32}, "model_type 'rwkv7'"),
        ({"model_type": "recurrent_gemma", **{k: v for k, v in DENSE.items() if k != "model_type"}}, "recurrent_gemma"),
        ({**DENSE, "model_type": "gemma4_assistant"}, "'gemma4_assistant'"),
        ({**DENSE, "model_type": "video_llava"}, "'video_llava'"),
        ({**DENSE, "model_type": "falcon", "attention_window": 8}, "'attention_window'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(SizingError, match=named):
        from_hf_config(config)


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config"])
def test_the_language_model_inside_a_larger_one(key: str) -> None:
    assert from_hf_config({"model_type": "x", key: DENSE}).layers == 32
    assert from_hf_config({"thinker_config": {key: DENSE}}).layers == 32


@pytest.mark.parametrize(
    "habits",
    [
        # What owners write beside the fields that count.
        {"moe_capacity": [64, 64, 64], "moe_use_aux_free": True},
        {"use_mixed_mlp_moe": True, "moe_layer_num_skipped": 0, "org_vocab_size": 128167, "num_media_embeds": 257},
        {
            "layernorm_full_attention_alpha": 3.5,
            "layernorm_mlp_beta": 1.0,
            "shared_moe_mode": "sigmoid",
            "postnorm": True,
        },
        {
            "emb_dropout_prob": 0.0,
            "onnx_safe": None,
            "rotary_emb_base": 10000,
            "scale_attn_weights": True,
            "fp32": False,
        },
        {"use_flash_attn": "auto", "use_logn_attn": True, "use_cache_quantization": False, "no_bias": True},
        {"attention_multiplier": 0.01, "normalization_function": "rmsnorm", "init_method": "mup"},
    ],
)
def test_habits_of_owners_are_let_be(habits: dict[str, Any]) -> None:
    assert read(**habits).total_parameters == read().total_parameters


def test_a_window_as_long_as_the_context_is_none() -> None:
    whole = read(max_position_embeddings=4096)
    for window in (4096, 8192):
        model = read(max_position_embeddings=4096, sliding_window=window)
        assert (model.window_tokens, model.kv_elements_windowed) == (0, 0)
        assert model.kv_elements_full == whole.kv_elements_full
    assert read(max_position_embeddings=4096, sliding_window=2048).window_tokens == 2048


@pytest.mark.parametrize(
    ("tower", "size"),
    [
        # Qwen2-VL: embed_dim is the tower's width, hidden_size the language model's.
        ({"embed_dim": 1280, "hidden_size": 4096, "depth": 32, "mlp_ratio": 4, "spatial_merge_size": 2}, 0.68e9),
        ({"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120, "output_dim": 4096}, 0.63e9),
        ({"width": 1792, "layers": 63, "mlp_ratio": 8.57}, 4.3e9),
        ({"model_type": "pixtral", "image_size": 1024}, 0.4e9),
        (
            {
                "model_type": "glm4v",
                "depth": 24,
                "hidden_size": 1536,
                "intermediate_size": 13696,
                "out_hidden_size": 4096,
                "spatial_merge_size": 2,
            },
            0.89e9,
        ),
    ],
)
def test_towers_by_the_names_that_owners_give_their_sizes(tower: dict[str, Any], size: float) -> None:
    for holder in (
        {"text_config": DENSE, "vision_config": tower},
        {"thinker_config": {"text_config": DENSE, "audio_config": tower}},
    ):
        assert from_hf_config(holder).encoder_parameters == pytest.approx(size, rel=0.03)


def test_a_language_model_inside_may_leave_out_the_defaults_of_its_class() -> None:
    vicuna = from_hf_config({"text_config": {"model_type": "llama", "vocab_size": 32064}})
    assert vicuna.total_parameters / 1e9 == pytest.approx(6.74, rel=0.01)
    with pytest.raises(UnknownModel, match="num_hidden_layers"):
        from_hf_config({"model_type": "llama", "vocab_size": 32064})
    latent = {k: v for k, v in DENSE.items() if k != "num_key_value_heads"} | {"model_type": "deepseek_v3"}
    assert from_hf_config({"text_config": latent}).kv_elements_full == 32 * 576


def test_classes_whose_embeddings_are_tied_where_nothing_is_said() -> None:
    for model_type in ("smollm3", "ernie4_5", "ernie4_5_moe"):
        assert read(model_type=model_type, head_dim=128).embedding_parameters == 0
    assert read(model_type="llama").embedding_parameters > 0


def test_squared_relu_has_a_gate_in_bitnet_alone() -> None:
    gated, plain = (read(model_type=kind, hidden_act="relu2").dense_parameters for kind in ("bitnet", "arcee"))
    assert gated - plain == 32 * 4096 * 14336


def test_an_index_of_blocks_keeps_a_key_of_every_token() -> None:
    index = {
        "use_sparse_attention": True,
        "sparse_attention_freq": [0] * 8 + [1] * 24,
        "sparse_disable_index_value": [0] * 8 + [1] * 24,
        "sparse_index_dim": 128,
        "sparse_num_index_heads": 4,
    }
    plain, sparse = read(), read(sparse_attention_config=index)
    assert sparse.kv_elements_full == plain.kv_elements_full + 24 * 128
    assert sparse.total_parameters == plain.total_parameters + 24 * 4096 * 5 * 128
    assert sparse.kv_heads == plain.kv_heads
    assert read(sparse_attention_config={**index, "use_sparse_attention": False}) == plain
    for change in ({"sparse_disable_index_value": [0] * 32}, {"sparse_attention_freq": 3}):
        with pytest.raises(UnknownModel, match="are not supported yet"):
            read(sparse_attention_config={**index, **change})


def test_layers_that_share_a_cache_keep_none() -> None:
    whole, shared = read(), read(num_kv_shared_layers=8)
    assert shared.kv_elements_full == whole.kv_elements_full * 24 / 32
    assert shared.total_parameters == whole.total_parameters


def test_two_matrices_where_there_is_no_gate() -> None:
    assert (
        read().dense_parameters - read(model_type="starcoder2", hidden_act="gelu").dense_parameters == 32 * 4096 * 14336
    )


# What each file's fields give: billions of parameters with towers, KV bytes per token in full and in windowed layers.
FIELD = {
    "ernie-4.5-21b-a3b.json": (21.8, 57_344, 0),
    "minimax-m1-80k.json": (456, 40_960, 0),
    "jamba-1.5-mini.json": (51.6, 16_384, 0),
    "gemma-4-e2b-it.json": (5.1, 6_144, 12_288),
    "gemma-3-12b-it.json": (12.2, 65_536, 327_680),
    "qwen-7b-chat-v1.json": (7.72, 524_288, 0),
    "hunyuan-a13b.json": (80.4, 131_072, 0),
    "granite-4.0-h-1b.json": (1.46, 8_192, 0),
    "deepseek-ai--DeepSeek-V3.2.json": (671.9, 78_324, 0),
    "deepseek-ai--DeepSeek-V3.json": (671, 70_272, 0),
    "nvidia--Gemma-4-31B-IT-NVFP4.json": (31.2, 81_920, 819_200),
}


@pytest.mark.parametrize("file", FIELD)
def test_configurations_that_were_misread_before(file: str) -> None:
    path = SHARED / "field" / "sizing" / "configs" / file
    if not path.exists():
        pytest.skip(f"{file} is not beside this checkout")
    model = from_hf_config(json.loads(path.read_text()), file)
    total, full, windowed = FIELD[file]
    assert model.total_parameters / 1e9 == pytest.approx(total, rel=0.015)
    assert kv_bytes_per_token(model) - 2 * model.kv_elements_windowed == full
    assert 2 * model.kv_elements_windowed == windowed


#: Billions of parameters by the beginning of a file's name: model cards and the checkpoints' own index files; names
#: that round by more than 1.5 % are not among them.
PUBLISHED = {
    "MiniMaxAI--MiniMax-M2.5": 228.7,
    "MiniMaxAI--MiniMax-M2.7": 228.7,
    "Qwen--Qwen3-0.6B": 0.596,
    "Qwen--Qwen3-1.7B": 1.72,
    "Qwen--Qwen3-235B": 235.1,
    "Qwen--Qwen3-30B": 30.5,
    "Qwen--Qwen3-32B": 32.8,
    "Qwen--Qwen3-8B": 8.19,
    "Qwen--Qwen3-Coder-480B": 480.2,
    "Qwen--Qwen3-VL-2B": 2.13,
    "Qwen--Qwen3-VL-4B": 4.44,
    "Qwen--Qwen3-VL-8B": 8.77,
    "Qwen--Qwen3-VL-32B": 33.4,
    "Qwen--Qwen3-VL-30B": 31.1,
    "Qwen--Qwen3-VL-235B": 235.7,
    "Qwen--Qwen3.5-397B": 397,
    "deepseek-ai--DeepSeek-R1": 671,
    "deepseek-ai--DeepSeek-V3_": 671,
    "deepseek-ai--DeepSeek-V3.2": 671.9,
    "nvidia--DeepSeek-V3.1": 671,
    "meta-llama--Meta-Llama-3.1-405B": 405.9,
    "meta-llama--Meta-Llama-3.1-70B": 70.6,
    "meta-llama--Meta-Llama-3.1-8B": 8.03,
    "meta-llama--Llama-4-Maverick": 401.6,
    "meta-llama--Llama-4-Scout": 108.6,
    "mistralai--Mixtral-8x22B": 140.6,
    "mistralai--Mixtral-8x7B": 46.7,
    "moonshotai--Kimi-K2": 1026.4,
    "nvidia--Kimi-K2": 1026.8,
    "openai--gpt-oss-120b": 116.8,
    "openai--gpt-oss-20b": 20.9,
    "zai-org--GLM-5": 744,
    "nvidia--GLM-5": 744,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B": 31.6,
    "nvidia--NVIDIA-Nemotron-3-Super-120B": 120.6,
    "XiaomiMiMo--MiMo-V2-Flash": 309,
    "google--gemma-4-26B": 25.8,
}


def test_every_configuration_beside_the_checkout_is_read_or_refused_by_name() -> None:
    folders = (SHARED / "data" / "sizing" / "aic_specs" / "model_configs", SHARED / "field" / "sizing" / "configs")
    files = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    if not files:
        pytest.skip("the collected configurations are not beside this checkout")
    checked, refused = 0, []
    for path in files:
        try:
            model = from_hf_config(json.loads(path.read_text()), path.stem)
        except UnknownModel as error:
            refused.append(f"{path.stem}: {error}")
            continue
        size = next((size for name, size in PUBLISHED.items() if path.stem.startswith(name)), None)
        if size is not None:
            checked += 1
            assert model.total_parameters / 1e9 == pytest.approx(size, rel=0.015), path.stem
    assert checked >= 50
    # DeepSeek V4's compressed attention, Kimi K3's delta attention, and NAS blocks that differ one by one.
    unknown = ("DeepSeek-V4", "Kimi-K3", "Nemotron-Super-49B")
    assert all("are not supported yet" in text and any(name in text for name in unknown) for text in refused)
