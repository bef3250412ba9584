"""Files that no command can use: one line on stderr that names the file and what is wrong, exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.replay.head import LINE_BYTES

SIZED = ("size", "--model", "llama-3.1-8b", "--gpu", "H100-SXM", "--rate", 5)


def refused(*args: Any) -> str:
    """Run a command that has to refuse its input; return its only line."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    lines: list[str] = done.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("command", ["check", "build"])
def test_dashboards_of_a_file(tmp_path: Path, command: str) -> None:
    file = tmp_path / "boards"
    file.write_text("x")
    said = refused("dashboards", command, file)
    assert str(file) in said
    assert "Errno" not in said


def test_dashboards_of_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert "is not a folder" in refused("dashboards", "check", tmp_path / "none")


def test_a_board_nested_too_deeply(tmp_path: Path) -> None:
    for name in ("audit", "health", "overview", "pool", "slo"):
        (tmp_path / f"tokentide-{name}.json").write_text("[" * 100_000)
    assert "expected a dashboard as JSON" in refused("dashboards", "check", tmp_path)


def test_a_table_of_questions_without_an_answer(tmp_path: Path) -> None:
    questions, answers = tmp_path / "q.csv", tmp_path / "a.csv"
    questions.write_text(
        "model,gpu,tp,isl,osl,concurrency,mine\nno-model,H100-SXM,1,100,10,1,x\nllama-3.1-8b,no,1,1,1,1,y\n"
    )
    said = refused("size", "--points", questions, "--out", answers)
    assert "none of 2 points can be answered" in said
    assert "no-model" in said
    assert len(answers.read_text().splitlines()) == 3


def test_a_calendar_without_a_record(tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    file.write_text("[1, 2]")
    said = refused("calendar", "import", file, "--dry-run")
    assert "none of 2 records can be imported, such as e.json record 1" in said


def test_an_integer_without_end_in_a_catalogue(tmp_path: Path) -> None:
    for name in ("c.yaml", "c.json"):
        file = tmp_path / name
        file.write_text('{"gpus": ' + "9" * 5_000 + "}")
        said = refused(*SIZED, "--catalog", file)
        assert "an integer has more than 4,300 digits" in said


def test_a_catalogue_that_is_far_too_long(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a" * 1_000_001)
    assert "more than the 1,000,000" in refused(*SIZED, "--catalog", file)


def test_a_trace_of_one_endless_line(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"a" * (LINE_BYTES + 1))
    assert "t.csv, line 1: more than 2,000,000 bytes" in refused("demand", "shape", file)


def test_a_row_longer_than_the_header_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("timestamp,input_tokens,output_tokens\n2024-05-12T00:00:00Z,100,50,5,5,5\n")
    assert "line 2 has more or fewer fields than the header: 6, not 3" in refused("demand", "shape", file)


def test_settings_to_migrate_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_bytes("[kafka]\n".encode("utf-16"))
    assert "is not UTF-8 text" in refused("config", "migrate", file)
