"""``tokentide calendar``: help, records, refusals. What talks to Kafka is tested in tests/integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app


def invoke(*args: Any) -> Any:
    environment = {"COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["calendar", *map(str, args)], env=environment)


@pytest.mark.parametrize("command", ["add", "list", "remove", "import"])
def test_help_has_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: tokentide calendar {command}" in " ".join(result.output.split())


def test_a_record_is_what_was_asked_for() -> None:
    options = ["--kind", "launch", "--starts", "2026-12-01T10:00", "--timezone", "Europe/Berlin", "--duration", "2h"]
    result = invoke("add", *options, "--size", 3, "--pool", "chat", "--announced", "always", "--dry-run", "-o", "json")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert record["ends_at"] - record["starts_at"] == 7200.0
    assert record["starts_at"] == 1_796_115_600.0
    assert record["scope"] == {"pool": "chat"}
    assert "announced_at" not in record
    again = invoke("add", *options, "--pool", "chat", "--dry-run", "-o", "json")
    assert json.loads(again.stdout)[0]["id"] == record["id"]
    assert json.loads(again.stdout)[0]["announced_at"] > 1.7e9


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--kind", "x", "--starts", "2026-12-01"], "--duration"),
        (["--kind", "x", "--starts", "2026-12-01", "--ends", "2026-12-02", "--duration", "1h"], "--duration"),
        (["--kind", "x", "--starts", "soon", "--duration", "1h"], "soon"),
        (["--kind", "x", "--starts", "2026-12-02", "--ends", "2026-12-01"], "end after"),
        (["--kind", "x", "--starts", "2026-12-02", "--duration", "99999999d"], "less than 1000000000000 epoch seconds"),
        (["--kind", "x", "--starts", "1969-12-02", "--duration", "1h"], "starts_at must be from 0"),
        (["--kind", "", "--starts", "2026-12-02", "--duration", "1h"], "kind"),
        (["--kind", "x", "--starts", "2026-12-02", "--duration", "1h", "--size", "1000"], "expected_size"),
        (["--kind", "x", "--starts", "2026-12-02", "--duration", "1h", "--timezone", "Mars/Base"], "Mars/Base"),
        (["--kind", "x", "--starts", "2026-12-02", "--duration", "1h", "--announced", "later"], "later"),
    ],
)
def test_wrong_input_is_one_line(options: list[str], word: str) -> None:
    result = invoke("add", *options, "--dry-run")
    assert result.exit_code == 2, result.output
    assert word in result.stderr
    assert "Traceback" not in result.output


def test_an_end_beyond_the_calendar_is_printed_as_a_number() -> None:
    result = invoke("add", "--kind", "x", "--starts", "2026-12-02", "--duration", "9999999d", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "s since 1970" in result.stdout


def test_a_refused_time_does_not_say_that_the_end_comes_first() -> None:
    result = invoke("add", "--kind", "x", "--starts", "2026-12-02", "--duration", "99999999d", "--dry-run")
    assert "ends_at" in result.stderr
    assert "end after" not in result.stderr


def test_import_goes_on_after_a_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    good = {"kind": "launch", "starts_at": "2026-12-01", "ends_at": "2026-12-02"}
    file.write_text("\n".join([json.dumps(good), json.dumps({**good, "kind": "other"}), "{", json.dumps(good)]))
    result = invoke("import", file, "--dry-run", "-o", "json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 3
    assert result.stderr.startswith("skipped: e.jsonl line 3: no JSON")


def test_import_prints_what_it_skips(tmp_path: Path) -> None:
    file = tmp_path / "e.csv"
    file.write_text("kind,starts_at,ends_at\nlaunch,2026-12-01,2026-12-02\nlaunch,never,2026-12-02\n")
    result = invoke("import", file, "--dry-run", "-o", "json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) == 1
    assert "skipped: e.csv line 3" in result.stderr
    file.write_text("kind,starts_at,ends_at\nlaunch,never,2026-12-02\n")
    assert invoke("import", file, "--dry-run").exit_code == 2
    assert invoke("import").exit_code == 2
    assert invoke("import", "--holidays", "DE", "--years", "x", "--dry-run").exit_code == 2
