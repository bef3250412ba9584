"""A run knows the GPUs and models that the commands know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.config import check_pools
from pipeline.config.catalog import catalog_for, catalog_from
from pipeline.config.settings import load
from pipeline.errors import ConfigError, InputError

CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
OWN = """
gpus:
  h100-ours: {like: h100-sxm, memory_bytes: 8.0e10, source: nvidia-smi}
models:
  our-tiny:
    config: {num_hidden_layers: 2, hidden_size: 64, num_attention_heads: 4, intermediate_size: 128, vocab_size: 1000}
"""


def settings(folder: Path, profile: str, accelerator: str, catalog: str | None, extra: str = "") -> Path:
    text = "" if catalog is None else f'[sizing]\ncatalog = "{catalog}"\n'
    text += f'[[pools]]\nmodel = "m"\nprofile = "{profile}"\naccelerator = "{accelerator}"\n{extra}'
    path = folder / "tokentide.toml"
    path.write_text(text)
    return path


def test_a_run_takes_the_catalogue_file_that_size_takes(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    loaded = load(settings(tmp_path, "our-tiny", "h100-ours", str(own)))
    check_pools(loaded)
    found, named = catalog_for(loaded), catalog_from(["our-tiny"], own)
    assert found.gpu("h100-ours") == named.gpu("h100-ours")
    assert found.model("our-tiny") == named.model("our-tiny")
    with pytest.raises(ConfigError, match="h100-ours"):
        check_pools(load(settings(tmp_path, "qwen3-8b", "h100-ours", None)))


def test_a_run_takes_a_configuration_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("\ufeff" + json.dumps(CONFIG))  # with a byte order mark, as editors leave it
    assert catalog_for(load(settings(tmp_path, str(path), "h100", None))).model(str(path)).layers == 2


@pytest.mark.parametrize("content", ["[]", "{", "1"])
def test_what_is_no_configuration_is_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    loaded = load(settings(tmp_path, str(path), "h100", None))
    with pytest.raises(InputError, match=r"config\.json"):
        catalog_for(loaded)
    with pytest.raises(ConfigError, match=r"config\.json"):
        check_pools(loaded)


def test_a_pool_names_its_engine_and_release(tmp_path: Path) -> None:
    extra = 'engine = "sglang"\nengine_version = "0.5.6"\nmax_model_len = 8192\nprecision = "fp8"\n'
    (pool,) = load(settings(tmp_path, "qwen3-8b", "h100", None, extra)).pools
    deployment = pool.deployment()
    assert (deployment.engine, deployment.engine_version, deployment.max_model_len) == ("sglang", "0.5.6", 8192)
    (plain,) = load(settings(tmp_path, "gpt-oss-120b", "h100", None)).pools
    assert plain.deployment().precision == "auto"
    with pytest.raises(ConfigError, match="engine_version"):
        check_pools(load(settings(tmp_path, "qwen3-8b", "h100", None, 'engine_version = "newest"\n')))


@pytest.mark.parametrize(
    ("config", "beside"), [("config.json", "hf_quant_config.json"), ("x_config.json", "x_hf_quant_config.json")]
)
def test_modelopts_file_beside_a_configuration_says_how_it_is_quantised(
    tmp_path: Path, config: str, beside: str
) -> None:
    dense = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 1000,
    }
    path = tmp_path / config
    path.write_text(json.dumps(dense))
    assert catalog_from([str(path)]).model(str(path)).quantization is None
    exported = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]},
    }
    (tmp_path / beside).write_text(json.dumps(exported))
    assert catalog_from([str(path)]).model(str(path)).checkpoint_precision == "nvfp4"
    path.write_text(json.dumps({**dense, "quantization_config": {"quant_method": "fp8"}}))
    assert catalog_from([str(path)]).model(str(path)).checkpoint_precision == "fp8"
    path.write_text(json.dumps(dense))
    (tmp_path / beside).write_text("[")
    with pytest.raises(InputError, match=r"hf_quant_config\.json is not JSON"):
        catalog_from([str(path)])
