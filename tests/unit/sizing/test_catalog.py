from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.catalog import Catalog, from_hf_config, resolve_gpu, resolve_model
from sizing.catalog.precision import kv_precision, weight_precision
from sizing.catalog.quantization import checkpoint_quantization
from sizing.errors import InvalidInput, SizingError, UnknownGpu, UnknownModel

OPS = Path(__file__).resolve().parents[4] / "shared" / "data" / "sizing" / "aic_ops"

# Published totals and active parameters in billions: model cards, or (name) the model's own name, which rounds.
PUBLISHED = {
    "llama-3.1-8b": (8.03, None),
    "llama-3.1-405b": (405, None),  # name
    "llama-3.3-70b": (70.6, None),
    "llama-4-scout": (109, 17),
    "llama-4-maverick": (400, 17),
    "mistral-small-24b": (24, None),  # name
    "qwen3-0.6b": (0.6, None),  # name
    "qwen3-1.7b": (1.7, None),  # name
    "qwen3-8b": (8.2, None),
    "qwen3-32b": (32.8, None),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235, 22),
    "qwen3-coder-480b-a35b": (480, 35),  # name
    "qwen3.5-27b": (27, None),  # name
    "qwen3.5-35b-a3b": (35, 3),  # name
    "qwen3.5-122b-a10b": (122, 10),  # name
    "qwen3.5-397b-a17b": (397, 17),  # name
    "mixtral-8x7b": (46.7, 12.9),
    "mixtral-8x22b": (141, 39),
    "gemma-3-12b": (12.2, None),
    "gemma-3-27b": (27.4, None),
    "gemma-4-26b-a4b": (26, 4),  # name
    "glm-4.5-air": (106, 12),
    "llama-3.2-1b": (1.23, None),
    "llama-3.2-3b": (3.21, None),
    "mistral-7b": (7.25, None),
    "mistral-large-2407": (123, None),
    "phi-4": (14.7, None),
    "qwen2.5-7b": (7.61, None),
    "qwen2.5-32b": (32.5, None),
    "qwen2.5-72b": (72.7, None),
    "qwen3-4b": (4.0, None),
    "qwen3-14b": (14.8, None),
    "gemma-4-31b": (31, None),  # name
    "gpt-oss-120b": (117, 5.1),
    "gpt-oss-20b": (20.9, 3.6),
    "deepseek-v3": (671, 37),
    "deepseek-v3.2": (671, 37),
    "glm-5": (744, 40),
    "glm-5.2": (744, 40),
    "kimi-k2": (1026, 32),
    "kimi-k2.5": (1027, 32),
    "qwen3-coder-next": (79.7, 3.9),
    "qwen3-vl-235b-a22b": (236, 22),
    "mimo-v2-flash": (309, 15),
    "minimax-m2.5": (230, 10),
    "nemotron-3-nano-30b-a3b": (31.6, 3.2),
    "nemotron-3-super-120b-a12b": (120, 12),  # name
    "nemotron-h-56b": (56, None),  # name
}


def test_every_built_in_model_is_checked() -> None:
    assert set(PUBLISHED) == set(Catalog().model_names())
    assert len(PUBLISHED) >= 25


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_follow_from_the_architecture(name: str) -> None:
    model = resolve_model(name)
    total, active = PUBLISHED[name]
    assert model.total_parameters / 1e9 == pytest.approx(total, rel=0.03)
    if active is not None:
        # Model cards count the input embedding in or leave it out.
        assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.10)


def test_every_entry_can_be_read_and_names_its_source() -> None:
    catalog = Catalog()
    assert len(catalog.model_names()) >= 8
    assert len(catalog.gpu_names()) >= 14
    for name in catalog.model_names():
        assert catalog.model(name).source
    for name in catalog.gpu_names():
        gpu = catalog.gpu(name)
        assert gpu.source
        assert gpu.as_of
        assert set(gpu.flops_per_second) == set(gpu.compute_efficiency)
        if gpu.price is not None:
            assert "http" in gpu.price.source or "API" in gpu.price.source
            assert re.fullmatch(r"2026-\d\d-\d\d", gpu.price.as_of)


def test_aliases_in_any_case_and_suggestions() -> None:
    assert resolve_model("Meta-Llama/Llama-3.1-8B-Instruct ").name == "llama-3.1-8b"
    assert resolve_gpu("NVIDIA-H100-80GB-HBM3").name == "h100-sxm"
    with pytest.raises(UnknownModel, match=r"did you mean qwen3-32b"):
        resolve_model("qwen3-32")
    with pytest.raises(UnknownGpu, match="known: a10, "):
        resolve_gpu("abacus")


def test_entries_of_the_user_win_and_are_checked() -> None:
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 1000,
    }
    catalog = Catalog(extra_models={"/models/mine/config.json": config, "qwen3-8b": config})
    assert catalog.model("/models/mine/config.json").layers == 2
    assert catalog.model("QWEN3-8B").layers == 2
    with pytest.raises(InvalidInput, match="missing memory_bytes"):
        Catalog(extra_gpus={"odd": {}})


def test_windows_and_constant_state() -> None:
    mixed = resolve_model("gpt-oss-120b")
    assert mixed.window_tokens == 128
    assert mixed.kv_elements_full == mixed.kv_elements_windowed == 18 * 2 * 8 * 64
    linear = resolve_model("qwen3.5-397b-a17b")
    assert linear.kv_elements_full == 15 * 2 * 2 * 256
    assert linear.state_elements > 45 * 64 * 128 * 128
    switched_off = from_hf_config({**_DENSE, "sliding_window": 4096, "use_sliding_window": False})
    assert switched_off.kv_elements_windowed == 0
    everywhere = from_hf_config({**_DENSE, "sliding_window": 4096})
    assert everywhere.kv_elements_full == 0


def test_heads_of_their_own_in_windowed_and_global_layers() -> None:
    gemma = resolve_model("gemma-4-31b")
    # 50 of 60 layers keep 1,024 tokens with 16 heads of 256; 10 keep everything with 4 heads of 512.
    assert gemma.kv_elements_windowed == 50 * 2 * 16 * 256
    assert gemma.kv_elements_full == 10 * 2 * 4 * 512
    assert gemma.kv_heads == 4
    mimo = resolve_model("mimo-v2-flash")
    # Keys of 192 and values of 128: 9 global layers with 4 heads, 39 windowed ones with 8.
    assert mimo.kv_elements_full == 9 * 4 * (192 + 128)
    assert mimo.kv_elements_windowed == 39 * 8 * (192 + 128)


def test_hybrids_of_attention_mamba_and_experts() -> None:
    nano = resolve_model("nemotron-3-nano-30b-a3b")
    assert nano.kv_elements_full == 6 * 2 * 2 * 128
    # 23 Mamba-2 layers: 64 heads · 64 · 128 in 32 bits, and 3 columns of a convolution over 4096 + 2 · 8 · 128.
    assert nano.state_elements == 23 * (2 * 64 * 64 * 128 + 3 * (4096 + 2048))
    words = {"M": "mamba", "*": "attention", "E": "moe"}
    pattern = "ME*E"
    config = {**_HYBRID, "num_hidden_layers": 4, "hybrid_override_pattern": pattern}
    named = {**_HYBRID, "layers_block_type": [words[letter] for letter in pattern]}
    assert from_hf_config(config) == from_hf_config(named)


_HYBRID = {
    "hidden_size": 64,
    "vocab_size": 1000,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "mlp_hidden_act": "relu2",
}


def test_what_the_checkpoint_and_the_context_are() -> None:
    quantised = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    model = from_hf_config({**_DENSE, "quantization_config": quantised, "max_position_embeddings": 8192})
    assert (model.checkpoint_precision, model.context_tokens) == ("fp8", 8192)
    assert checkpoint_quantization({"quantization_config": {"quant_method": "gptq", "bits": 8}}).precision == "int8"
    for unreadable in ("x", {"quant_method": ["x"]}, {"quant_method": "aqlm"}):
        with pytest.raises(InvalidInput, match="quant"):
            from_hf_config({**_DENSE, "quantization_config": unreadable})


def test_configurations_as_their_owners_publish_them() -> None:
    configs = OPS.parent / "aic_specs" / "model_configs"
    if not configs.exists():
        pytest.skip("the collected configurations are not beside this checkout")
    read, refused = 0, []
    for path in sorted(configs.glob("*_config.json")):
        try:
            model = from_hf_config(json.loads(path.read_text()), path.stem)
        except UnknownModel as error:
            refused.append(str(error))
            continue
        read += 1
        size = re.search(r"(?<![A-Z])(\d+(?:\.\d+)?)B(?:-A|-V|-I|-F|-B|-N|-C|-T|_|$)", path.stem.replace("8x", "x"))
        if (
            size
            and "x" not in path.stem.lower().split("--")[1][:9]
            and "17B" not in path.stem
            and "VL" not in path.stem
        ):
            assert model.total_parameters / 1e9 == pytest.approx(float(size[1]), rel=0.09), path.stem
    assert read >= 75
    # Compressed sparse attention, Kimi's delta attention, and blocks that differ one by one.
    assert all("not supported yet" in text for text in refused)


_DENSE = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
}


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": None},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 10**8},
        {"num_hidden_layers": "32"},
        {"hidden_size": float("nan")},
        {"hidden_size": 10**12},
        {"vocab_size": 1.5},
        {"num_attention_heads": True},
        {"layer_types": ["mamba"]},
        {"hybrid_override_pattern": "M-M*"},
        {"hybrid_override_pattern": 7},
        {"hybrid_override_pattern": "X" * 32},
        {"layers_block_type": ["mamba", {}], "num_hidden_layers": 2},
        {"mamba_num_heads": 4},
        {"block_configs": []},
        {"compress_ratios": [4]},
        {"layer_types": ["full_attention"]},
        {"layer_types": [None] * 32},
        {"hybrid_layer_pattern": [0, 1]},
        {"hybrid_layer_pattern": ["x"] * 32},
        {"sliding_window": 10**12},
        {"kv_lora_rank": 512},
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_layer_freq": [2] * 32},
        {"num_experts": 4},
        {"text_config": {"hidden_size": 1}},
        {"num_hidden_layers": "x" * 10_000},
        {"num_experts": 4, "num_experts_per_tok": 8},
        {"num_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": "x"},
    ],
)
def test_configurations_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(SizingError) as caught:
        from_hf_config({**_DENSE, **change})
    assert len(str(caught.value)) < 300


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(Catalog().model_names()), st.data())
def test_a_damaged_configuration_is_refused_or_still_makes_sense(name: str, data: st.DataObject) -> None:
    text = resources.files("sizing.catalog").joinpath("models.yaml").read_text(encoding="utf-8")
    config = dict(_models(text)[name]["config"])
    for _ in range(data.draw(st.integers(1, 3))):
        config[data.draw(st.sampled_from([*config, "layer_types", "quantization_config", "text_config"]))] = data.draw(
            junk
        )
    try:
        model = from_hf_config(config)
    except SizingError:
        return
    for value in (model.total_parameters, model.active_parameters, model.attention_width, model.state_elements):
        assert 0 <= value < 1e40
    assert model.kv_elements_full + model.kv_elements_windowed >= 0


@cache
def _models(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["models"]


def test_configurations_that_are_not_mappings() -> None:
    with pytest.raises(UnknownModel):
        from_hf_config([])  # type: ignore[arg-type]
    with pytest.raises(UnknownModel, match="num_hidden_layers"):
        resolve_model({})


def test_precisions() -> None:
    assert weight_precision("FP16") == "bf16"
    assert kv_precision(None) == "bf16"
    with pytest.raises(InvalidInput):
        weight_precision("fp3")
    with pytest.raises(InvalidInput):
        kv_precision("int4")
    assert resolve_gpu("a100").compute_precision("fp8") == "bf16"
    assert resolve_gpu("h100").compute_precision("int4") == "bf16"


def test_links_beyond_a_node_are_slower() -> None:
    gpu = resolve_gpu("h100")
    assert gpu.link(3) == gpu.links[4]
    assert gpu.link(16).bandwidth_bytes_per_second <= 50e9
    assert resolve_gpu("l40s").link(8).bandwidth_bytes_per_second < gpu.link(8).bandwidth_bytes_per_second / 50


@pytest.mark.parametrize("gpu", ["a100_sxm", "l40s", "h100_sxm", "h200_sxm", "b200_sxm"])
def test_links_are_those_of_the_fit(gpu: str) -> None:
    """The committed fit behind the link table: t = latency + 2 (g-1)/g · bytes / bandwidth on custom all-reduce timings."""  # noqa: E501
    duckdb = pytest.importorskip("duckdb")
    if not (OPS / gpu).exists():
        pytest.skip("the measured data sets are not beside this checkout")
    rows = duckdb.sql(
        f"select num_gpus, message_size, min(latency) / 1e3 from "
        f"read_parquet('{OPS}/{gpu}/comm/vllm/*/custom_allreduce_perf*.parquet') group by all order by all"
    ).fetchall()
    for size, link in resolve_gpu(gpu).links.items():
        table = np.array([(2.0 * elements, seconds) for group, elements, seconds in rows if group == size])
        volume, seconds = table[:, 0] * 2 * (size - 1) / size, table[:, 1]
        columns = np.c_[np.full_like(volume, 1e-6), volume * 1e-11]
        weights = 1 / seconds
        for _ in range(30):
            found = np.linalg.lstsq(columns * weights[:, None], seconds * weights, rcond=None)[0]
            errors = columns @ found / seconds - 1
            weights = 1 / seconds / np.sqrt(np.maximum(np.abs(errors), 0.05))
        assert link.latency_seconds == pytest.approx(found[0] * 1e-6, rel=0.02)
        assert link.bandwidth_bytes_per_second == pytest.approx(1e11 / found[1], rel=0.05)
        assert np.median(np.abs(errors)) <= 0.14
