"""``calibrate hardware``: from reports or a table of points to a user catalogue that sizes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from pipeline.cli.main import app

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def fitted(folder: Path, *args: object) -> Result:
    return invoke("calibrate", "hardware", *args, "--name", "box", "--out", folder / "mine.yaml", "--as-of", "2026-11")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def run(path: Path, concurrency: int, tpot: float, ttft: float) -> Path:
    each = 39 * tpot / 1e3 + ttft / 1e3
    content = {
        "backend": "openai",
        "request_rate": "inf",
        "max_concurrency": concurrency,
        "duration": 100 * each / concurrency,
        "completed": 100,
        "total_input_tokens": 30_000,
        "total_output_tokens": 4_000,
        "request_throughput": concurrency / each,
        "mean_ttft_ms": ttft,
        "mean_tpot_ms": tpot,
    }
    path.write_text(json.dumps(content))
    return path


def test_reports_become_an_entry_that_sizes(tmp_path: Path, config: Path) -> None:
    reports = (run(tmp_path / "c1.json", 1, 7.47, 98.0), run(tmp_path / "c8.json", 8, 18.9, 498.0))
    result = fitted(tmp_path, *reports, "--model", config, "--memory-gib", 23, "-o", "json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert [value["name"] for value in data["values"]][:2] == ["memory_bandwidth_bytes_per_second", "flops_per_second"]
    assert len(data["points"]) == 2
    assert "add tests of a larger model" in result.stderr
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert written["gpus"]["box"] == data["entry"]
    assert "links" not in written["gpus"]["box"]
    asked = tmp_path / "asked.csv"
    asked.write_text(f"id,model,gpu,isl,osl,concurrency\na,{config},box,300,40,4\n")
    sized = invoke("size", "--points", asked, "--catalog", tmp_path / "mine.yaml", "--out", tmp_path / "answers.csv")
    assert sized.exit_code == 0, sized.output
    with (tmp_path / "answers.csv").open(newline="") as file:
        (answer,) = csv.DictReader(file)
    assert float(answer["tpot_ms_p50"]) == pytest.approx(10.2, rel=0.15)


def test_a_table_of_points_and_a_file_that_has_entries(tmp_path: Path, config: Path) -> None:
    table = tmp_path / "observed.csv"
    rows = [f"{config},300,40,{c},{tpot},{ttft}" for c, tpot, ttft in [(1, 7.47, 98), (8, 18.9, 498)]]
    table.write_text("model,isl,osl,concurrency,tpot_ms,ttft_ms\n" + "\n".join(rows) + "\n")
    (tmp_path / "mine.yaml").write_text("models: {}\n")
    refused = fitted(tmp_path, table, "--memory-gib", 23)
    assert refused.exit_code == 2
    assert "exists; --append adds to it" in refused.stderr
    result = fitted(tmp_path, table, "--memory-gib", 23, "--append")
    assert result.exit_code == 0, result.output
    assert "not determined" in result.stdout
    assert set(yaml.safe_load((tmp_path / "mine.yaml").read_text())) == {"models", "gpus"}
    again = fitted(tmp_path, table, "--memory-gib", 23, "--append")
    assert again.exit_code == 2
    assert "already has an entry box" in again.stderr


@pytest.mark.parametrize(
    ("models", "says"), [((), "need one --model for all or one each, got 0"), (("a", "b", "c"), "got 3")]
)
def test_every_report_has_a_model(tmp_path: Path, config: Path, models: tuple[str, ...], says: str) -> None:
    reports = (run(tmp_path / "c1.json", 1, 7.47, 98.0), run(tmp_path / "c8.json", 8, 18.9, 498.0))
    named = [part for name in models for part in ("--model", name)]
    result = fitted(tmp_path, *reports, "--memory-gib", 23, *named)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "mine.yaml").exists()


def test_one_test_is_not_enough(tmp_path: Path, config: Path) -> None:
    result = fitted(tmp_path, run(tmp_path / "c1.json", 1, 7.47, 98.0), "--memory-gib", 23, "--model", config)
    assert result.exit_code == 2
    assert "at least two tests at different loads" in result.stderr
