"""``tokentide dashboards``: what it writes is found to be right until somebody changes it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli.main import app


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["dashboards", *arguments])
    return done.exit_code, done.stdout


def test_a_folder_that_was_built_is_up_to_date_until_it_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    assert run("build", str(folder))[0] == 0
    assert len(list(folder.glob("*.json"))) == 5
    assert run("check", str(folder)) == (0, "")
    board = folder / "tokentide-pool.json"
    board.write_text(json.dumps(json.loads(board.read_text()) | {"title": "mine"}))
    (folder / "tokentide-slo.json").unlink()
    code, said = run("check", str(folder))
    assert code == 3
    assert said.splitlines() == [f"{board} differs from this version", f"{folder / 'tokentide-slo.json'} is missing"]
    board.write_text("{")
    assert run("check", str(folder))[0] == 2


def test_nothing_that_answers_is_said(tmp_path: Path) -> None:
    code, _ = run("push", "--grafana", "http://127.0.0.1:9", "--token", "none")
    assert code == 1
