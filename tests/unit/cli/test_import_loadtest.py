"""``calibrate import-loadtest``: files of every shape, and what the report says against what the user says."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.config import user_files

SGLANG = {
    "backend": "sglang",
    "request_rate": 5.0,
    "duration": 20.0,
    "completed": 98,
    "total_input_tokens": 9800,
    "total_output_tokens": 3332,
    "total_output_tokens_retokenized": 3000,
    "request_throughput": 4.9,
    "mean_ttft_ms": 210.0,
    "mean_tpot_ms": 30.0,
}
VLLM = {k: v for k, v in SGLANG.items() if k not in ("backend", "total_output_tokens_retokenized")} | {"model_id": "m"}
SUMMARY: dict[str, Any] = {"load_summary": {"count": 9}, "successes": {}}


def imported(path: Path, *more: object) -> Result:
    args = ["calibrate", "import-loadtest", path, "--model", "llama-3.1-8b", "--gpu", "h100"]
    return CliRunner().invoke(app, [str(a) for a in (*args, "--out", path.parent / "o.csv", *more)])


def rows(path: Path) -> list[dict[str, str]]:
    with (path.parent / "o.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def written(path: Path, *runs: Any) -> Path:
    content = "\n".join(json.dumps(run) for run in runs).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_compressed_file_of_two_runs(tmp_path: Path) -> None:
    path = written(tmp_path / "runs.jsonl.gz", SGLANG, SGLANG | {"request_rate": 7.0})
    result = imported(path, "--cached-share", 0.25)
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in rows(path)] == ["runs-1", "runs-2"]
    assert {row["cached_share"] for row in rows(path)} == {"0.25"}
    assert {row["source"] for row in rows(path)} == {"runs.jsonl.gz (sglang)"}


def test_the_cached_share_counts_in_what_is_learned(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", VLLM)
    assert imported(path, "--cached-share", 0.9).exit_code == 0
    shown = CliRunner().invoke(app, ["calibrate", "show", str(tmp_path / "o.csv"), "-o", "json"])
    (tmp_path / "o.csv").unlink()
    assert imported(path).exit_code == 0
    without = CliRunner().invoke(app, ["calibrate", "show", str(tmp_path / "o.csv"), "-o", "json"])
    cached, whole = (json.loads(r.stdout)[0]["rows"][0]["tpot_ms_before"] for r in (shown, without))
    assert cached < whole


def test_the_serving_engine_is_the_one_that_the_report_names(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", SGLANG)
    assert imported(path).exit_code == 0
    assert rows(path)[0]["engine"] == "sglang"
    (tmp_path / "o.csv").unlink()
    result = imported(path, "--serving-engine", "vllm")
    assert rows(path)[0]["engine"] == "vllm"
    assert "names the serving engine sglang, --serving-engine is vllm" in result.stderr


def test_another_model_than_the_one_tested_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", VLLM | {"model_id": "meta-llama/Llama-3.2-3B-Instruct"})
    result = imported(path)
    assert result.exit_code == 0
    assert "names the model meta-llama/Llama-3.2-3B-Instruct, --model is llama-3.1-8b" in result.stderr


def test_a_summary_names_the_stage_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "stage_0_lifecycle_metrics.json").write_text("{}")
    (tmp_path / "stage_1_lifecycle_metrics.json").write_text("{}")
    result = imported(written(tmp_path / "summary_lifecycle_metrics.json", SUMMARY))
    assert result.exit_code == 2
    assert "beside it: stage_0_lifecycle_metrics.json, stage_1_lifecycle_metrics.json" in result.stderr
    assert not (tmp_path / "o.csv").exists()


def test_the_old_name_of_tool_works_and_is_deprecated(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", VLLM)
    result = imported(path, "--engine", "vllm")
    assert result.exit_code == 0
    assert "--engine is deprecated here" in result.stderr
    assert rows(path)[0]["source"] == "run.json (vllm)"
    assert "--engine " not in CliRunner().invoke(app, ["calibrate", "import-loadtest", "--help"]).output


def test_a_file_of_points_from_before_cached_share_is_added_to(tmp_path: Path) -> None:
    path = written(tmp_path / "run.json", VLLM)
    assert imported(path).exit_code == 0
    old = [{k: v for k, v in row.items() if k != "cached_share"} for row in rows(path)]
    with (tmp_path / "o.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(old[0]))
        writer.writeheader()
        writer.writerows(old)
    result = imported(path, "--append")
    assert result.exit_code == 0, result.output
    assert [row["cached_share"] for row in rows(path)] == ["", ""]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", "\ufeff{}".encode("utf-16"), "is UTF-16 text"),
        ("run.json", b"\xe9\xff", "is not UTF-8 text"),
        ("run.json.gz", b"no gzip", "cannot read"),
        ("run.json.gz", gzip.compress(b"{}" * 1000, mtime=0)[:-9], "cannot read"),
    ],
)
def test_encodings_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = imported(tmp_path / name)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_what_decompresses_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "MAX_BYTES", 1000)
    path = tmp_path / "run.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 100_000 + b"]"))
    result = imported(path)
    assert result.exit_code == 2
    assert "decompresses to more than" in result.stderr


def test_results_with_medians_in_seconds_only(tmp_path: Path) -> None:
    """As scripts write them that keep a part of ``vllm bench serve``: no unit in the names, seconds in the values."""
    run = {
        "model_id": "meta-llama/Llama-3.1-8B-Instruct",
        "request_rate": "inf",
        "max_concurrency": 32,
        "duration": 250.0,
        "completed": 320,
        "total_input_tokens": 320 * 6144,
        "total_output_tokens": 320 * 128,
        "request_throughput": 1.28,
        "median_ttft": 2.4,
        "median_e2el": 24.7,
        "median_tpot": 0.175,
    }
    path = written(tmp_path / "run.json", run)
    result = imported(path)
    assert result.exit_code == 0, result.output
    (row,) = rows(path)
    assert (row["isl"], row["osl"], row["tpot_ms"], row["ttft_ms"]) == ("6144", "128", "175", "2400")
    assert float(row["concurrency"]) == pytest.approx(1.28 * 24.7, rel=1e-4)
