from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizing.catalog import Catalog, from_hf_config, resolve_gpu, resolve_model
from sizing.catalog.precision import kv_precision, weight_precision
from sizing.errors import InvalidInput, SizingError, UnknownGpu, UnknownModel

OPS = Path(__file__).resolve().parents[4] / "shared" / "data" / "sizing" / "aic_ops"

# Published totals in billions (model cards).
PUBLISHED = {
    "llama-3.1-8b": (8.03, None),
    "llama-3.3-70b": (70.6, None),
    "llama-4-scout": (109, 17),
    "qwen3-8b": (8.2, None),
    "qwen3-32b": (32.8, None),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235, 22),
    "mixtral-8x7b": (46.7, 12.9),
    "gpt-oss-120b": (117, 5.1),
    "gpt-oss-20b": (20.9, 3.6),
    "deepseek-v3": (671, 37),
    "kimi-k2": (1026, 32),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_follow_from_the_architecture(name: str) -> None:
    model = resolve_model(name)
    total, active = PUBLISHED[name]
    assert model.total_parameters / 1e9 == pytest.approx(total, rel=0.02)
    if active is not None:
        # Model cards count the input embedding in or leave it out.
        assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.09)


def test_every_entry_can_be_read_and_names_its_source() -> None:
    catalog = Catalog()
    assert len(catalog.model_names()) >= 8
    assert len(catalog.gpu_names()) >= 7
    for name in catalog.model_names():
        assert catalog.model(name).source
    for name in catalog.gpu_names():
        gpu = catalog.gpu(name)
        assert gpu.source
        assert gpu.as_of
        assert all(0 < share <= 1 for share in gpu.compute_efficiency.values())


def test_aliases_in_any_case_and_suggestions() -> None:
    assert resolve_model("Meta-Llama/Llama-3.1-8B-Instruct ").name == "llama-3.1-8b"
    assert resolve_gpu("NVIDIA-H100-80GB-HBM3").name == "h100-sxm"
    with pytest.raises(UnknownModel, match=r"did you mean qwen3-32b"):
        resolve_model("qwen3-32")
    with pytest.raises(UnknownGpu, match="known: a100"):
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
    with pytest.raises(InvalidInput, match="memory_bytes is missing"):
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
        {"num_hidden_layers": "32"},
        {"hidden_size": float("nan")},
        {"hidden_size": 10**12},
        {"vocab_size": 1.5},
        {"num_attention_heads": True},
        {"layer_types": ["mamba"]},
        {"hybrid_override_pattern": "M-M*"},
        {"num_experts": 4, "num_experts_per_tok": 8},
        {"num_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": "x"},
    ],
)
def test_configurations_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(SizingError):
        from_hf_config({**_DENSE, **change})


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
