from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.catalog import Catalog, from_hf_config
from sizing.catalog.quantization import Quantization, assumed_quantization, checkpoint_quantization
from sizing.errors import InvalidInput, SizingError
from sizing.replica.memory import resolve
from sizing.types import Deployment

MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "mlp_only_layers": [0],
    "vocab_size": 1000,
}
GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}


def read(quantization: dict[str, Any], **more: Any) -> Quantization:
    found = from_hf_config({**MOE, **more, "quantization_config": quantization}).quantization
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "precision", "scales", "size"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", "block", 1 + 4 / 128**2),
        ({"quant_method": "fp8"}, "fp8", "tensor", 1.0),
        ({"quant_method": "fbgemm_fp8"}, "fp8", "channel", 1.0),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", "group", 0.5 + 2.5 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}, "int4", "group", 0.5 + 2 / 32),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8", "group", 1 + 3 / 128),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, "int4", "group", 0.5 + 2 / 128),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", "group", 0.5 + 4 / 64),
        ({"quant_method": "mxfp4"}, "mxfp4", "group", 0.5 + 1 / 32),
        ({"quant_algo": "NVFP4", "quant_method": "modelopt"}, "nvfp4", "group", 0.5 + 1 / 16),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "fp8", "tensor", 1.0),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}}, "int4", "group", 0.5 + 2 / 32),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
            },
            "fp8",
            "tensor",
            1.0,
        ),
    ],
)
def test_every_method(given: dict[str, Any], precision: str, scales: str, size: float) -> None:
    found = read(given)
    assert (found.precision, found.scales) == (precision, scales)
    assert found.bytes_per_parameter == pytest.approx(size)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("x", "must be a mapping"),
        ({"quant_method": "aqlm"}, "'aqlm'"),
        ({"quant_method": "gguf"}, "'gguf'"),
        ({"quant_method": "gptq", "bits": 3}, "3 bits"),
        ({"quant_algo": "W2A2"}, "'W2A2'"),
        ({"quant_method": "compressed-tensors"}, "config_groups"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 2}}}}, "2 bits"),
        ({"quant_method": "awq", "group_size": "x"}, "group_size"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int2"}}}, "'int2'"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}, "ignore": ["re:(a+)+b"]}, "pattern"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}, "ignore": ["re:("]}, "pattern"),
        ({"quant_algo": "NVFP4", "ignore": [f"model.layers.{i}*" for i in range(3000)]}, "3,000 patterns"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(given: Any, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        read(given)


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        (["lm_head", "re:.*self_attn.*"], {"attention": 1.0}),
        (["model.layers.*.self_attn"], {"attention": 1.0}),
        (["model.language_model.layers.0.self_attn*", "language_model.model.layers.1.self_attn*"], {"attention": 0.5}),
        (["model.layers.1.mlp.experts"], {"experts": 1 / 3}),
        (["re:.*mlp\\.(gate|up|gate_up|down)_proj.*"], {"mlp": 1.0}),
        (["gate", "model.layers.1.mlp.gate", "e_score_correction_bias"], {}),
        (["model.layers.0*"], {"attention": 0.25, "mlp": 1.0}),
    ],
)
def test_ignore_lists_in_every_style(ignore: list[str], kept: dict[str, float]) -> None:
    found = read({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}, "ignore": ignore})
    assert dict(found.kept) == pytest.approx(kept)


def test_mixed_checkpoints_keep_each_part_in_its_own_precision() -> None:
    layers = {f"model.layers.{i}.mlp.experts.0.up_proj": {"quant_algo": "NVFP4"} for i in range(1, 4)}
    layers |= {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(4)}
    found = read({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    assert found.precision == "nvfp4"
    assert found.of("attention").precision == "fp8"
    assert found.share_kept("attention") == 0.0
    assert found.share_kept("mlp") == 1.0
    fp8 = {"targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    groups = {"a": fp8, "b": {**GROUP, "targets": ["re:.*experts.*"]}}
    found = read({"quant_method": "compressed-tensors", "config_groups": groups})
    assert (found.precision, found.of("attention").precision, found.share_kept("mlp")) == ("int4", "fp8", 1.0)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*self_attn.*": {}}}, {"attention": 1.0}),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*": {"bits": 4}}}, {}),
        (
            {"quant_method": "auto-round", "bits": 4, "extra_config": {"model.layers.1.self_attn": {"bits": 16}}},
            {"attention": 0.25},
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["self_attn", "lm_head"]},
            {"attention": 1.0},
        ),
    ],
)
def test_rules_for_single_modules_count(given: dict[str, Any], kept: dict[str, float]) -> None:
    assert dict(read(given).kept) == kept


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*down_proj.*": {"bits": 8}}}, "dynamic with 8 bits"),
        ({"quant_method": "auto-round", "bits": 4, "extra_config": ["x"]}, "extra_config"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": GROUP},
                "sparsity_config": {"format": "sparse-24-bitmask"},
            },
            "sparse weights",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float", "group_size": 32}}},
            },
            "MXFP8",
        ),
    ],
)
def test_rules_that_change_the_size_are_read_or_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        read(given)


def test_awq_without_zero_points_has_none() -> None:
    assert read({"quant_method": "awq", "bits": 4, "zero_point": True}).zeros
    assert not read({"quant_method": "awq", "bits": 4, "zero_point": False}).zeros


def test_the_kv_cache_is_as_the_checkpoint_asks() -> None:
    asked = {"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    catalog = Catalog(extra_models={"mine": {**MOE, "quantization_config": asked}})
    assert resolve(Deployment("mine", "h100"), catalog).kv_precision == "fp8"
    # Not before vLLM 0.14, and not where it is set to auto.
    assert resolve(Deployment("mine", "h100", engine_version="0.13.0"), catalog).kv_precision == "bf16"
    assert resolve(Deployment("mine", "h100", kv_precision="auto"), catalog).kv_precision == "bf16"
    assert resolve(Deployment("mine", "h100", kv_precision="bf16"), catalog).kv_precision == "bf16"


@pytest.mark.parametrize(
    ("name", "precision", "scales"),
    [
        ("openai/gpt-oss-120b", "mxfp4", "group"),
        ("deepseek-ai/DeepSeek-V3", "fp8", "block"),
        ("moonshotai/Kimi-K2.5", "int4", "group"),
        ("qwen3-8b", "bf16", None),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8", "channel"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "fp8", "tensor"),
        ("Qwen/Qwen3-32B-AWQ", "int4", "group"),
        ("someone/Llama-3.1-8B-Instruct-quantized.w4a16", "int4", "group"),
    ],
)
def test_the_checkpoint_decides(name: str, precision: str, scales: str | None) -> None:
    resolved = resolve(Deployment(name, "h100"))
    assert resolved.precision == precision
    assert (resolved.quantization.scales if resolved.quantization else None) == scales


def test_llama_4_keeps_all_but_the_experts() -> None:
    found = assumed_quantization("fp8", experts=True, model_type="llama4_text")
    assert found is not None
    assert (found.share_kept("attention"), found.share_kept("shared_expert"), found.share_kept("experts")) == (1, 1, 0)
    assert assumed_quantization("fp16", experts=True) is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("quant_method", "quant_algo", "bits", "group_size", "config_groups", "ignore", "quantized_layers", "weights")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), junk, max_size=5),
    st.sampled_from(["fp8", "awq", "compressed-tensors", "modelopt", "quark", "mxfp4", None]),
)
def test_any_damage_is_read_or_refused(fields: dict[str, Any], method: str | None) -> None:
    given_fields = fields if method is None else {**fields, "quant_method": method}
    try:
        found = checkpoint_quantization({"quantization_config": given_fields})
        model = from_hf_config({**MOE, "quantization_config": given_fields})
    except SizingError:
        return
    assert (found is None) == (model.quantization is None)
