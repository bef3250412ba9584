"""Text from data on a terminal: nothing is read as markup, nothing steers the terminal, JSON stays exact."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.cli.common import Output, emit, notice, say
from pipeline.cli.main import app
from pipeline.cli.visible import visible

HOSTILE = ["[/x]", "[tenant]", "[prod]chat", "[/red]x", "[link=http://evil]a[/link]", ":warning:", "\\[a]"]
EVENT = ["--starts", "2026-12-01T09:00", "--duration", "2h", "--announced", "always", "--dry-run"]


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [text] ü 模型", "plain [text] ü 模型"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\x1b[31mred\x07\r", "\\x1b[31mred\\x07\\r"),
        ("a\u200bb\u2028c\x85d\ud800", "a\\u200bb\\u2028c\\x85d\\ud800"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_what_has_no_shape_is_written_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_cells_and_headings_are_printed_as_they_are(text, capsys):
    emit(Output.TABLE, None, (f"h{text}",), [(text,), (f"x{text}y",)])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [f"h{text}", text, f"x{text}y"]


def test_a_cell_of_several_lines_stays_one_row(capsys):
    emit(Output.TABLE, None, ("a", "b"), [("one\nforged", "\u202eevil")])
    assert capsys.readouterr().out.splitlines()[1].split() == ["one\\nforged", "\\u202eevil"]


def test_notices_and_answers_keep_their_lines_only(capsys):
    notice("[/x]\x1b[2J\nnext")
    say("[/x]\u202e\nnext")
    captured = capsys.readouterr()
    assert captured.err == "[/x]\\x1b[2J\nnext\n"
    assert captured.out == "[/x]\\u202e\nnext\n"


@pytest.mark.parametrize("kind", [*HOSTILE, "\u202eevil"])
def test_an_event_of_any_kind_is_shown_and_its_json_is_exact(kind):
    result = invoke("calendar", "add", "--kind", kind, *EVENT)
    assert result.exit_code == 0, result.output
    assert f" {visible(kind)} " in result.stdout
    (record,) = json.loads(invoke("calendar", "add", "--kind", kind, *EVENT, "-o", "json").stdout)
    assert record["kind"] == kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["[/red]x", "[prod]chat", "a\u202eb"])
def test_a_series_of_any_name_is_detected_and_backtested(tmp_path, name):
    source, out = tmp_path / "in.parquet", tmp_path / "out.csv"
    at = pd.to_datetime(1.7e9 + 300.0 * np.arange(40), unit="s")
    pd.DataFrame({"series": name, "timestamp": at, "value": np.arange(40.0)}).to_parquet(source)
    result = invoke("spikes", "detect", "--input", source, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].startswith(f"{visible(name)} ")
    assert set(pd.read_csv(out)["series"]) == {name}
    args = ["--value-column", "value", "--group-column", "series", "--season", "20m", "--horizons", "5m"]
    result = invoke("backtest", source, *args)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].startswith(f"{visible(name)} ")
    assert json.loads(invoke("backtest", source, *args, "-o", "json").stdout)["scores"][0]["series"] == name


def test_an_error_is_one_line_whatever_it_quotes():
    result = invoke("calendar", "add", "--kind", "x", "--starts", "[/x]\n\x1b[2J", "--duration", "2h", "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "[/x]" in result.stderr
    assert "\x1b" not in result.stderr
