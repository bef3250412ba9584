"""Every command: help with an example, wrong input in one line with the documented exit code."""

import json
import math
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli.backtest import default_horizons
from pipeline.cli.common import clean_errors
from pipeline.cli.durations import parse_duration
from pipeline.cli.main import app

COMMANDS = [
    ["demo"],
    ["run"],
    ["simulate"],
    ["replay"],
    ["backtest"],
    ["export"],
    ["forecast", "show"],
    ["recommend", "show"],
    ["recommend", "explain"],
    ["recommend", "watch"],
    ["forecast", "score"],
    ["calendar", "add"],
    ["calendar", "list"],
    ["calendar", "remove"],
    ["calendar", "import"],
    ["calendar", "read"],
    ["spikes", "show"],
    ["spikes", "detect"],
    ["spikes", "annotate"],
    ["alerts", "list"],
    ["alerts", "rules"],
    ["size"],
    ["whatif"],
    ["fleet", "plan"],
    ["calibrate", "import-loadtest"],
    ["calibrate", "show"],
    ["calibrate", "hardware"],
    ["config", "init"],
    ["config", "validate"],
    ["config", "show"],
    ["config", "schema"],
    ["doctor"],
    ["version"],
]


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    import os

    for name in [n for n in os.environ if n.startswith("TOKENTIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    line = result.stderr.strip()
    assert "\n" not in line
    assert line.startswith("tokentide: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Example: tokentide " + " ".join(command) in " ".join(result.output.split())


def test_wrong_usage_is_2():
    assert invoke("size", "--tp", "0").exit_code == 2
    assert invoke("nonsense").exit_code == 2


def commands(part, path=()):
    """Path and function of every command."""
    for group in part.registered_groups:
        yield from commands(group.typer_instance, (*path, group.name))
    for command in part.registered_commands:
        yield " ".join((*path, command.name or command.callback.__name__)), command.callback


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value, capsys):
    reached = []
    with pytest.raises(typer.Exit) as caught:
        clean_errors(lambda **options: reached.append(options))(min_ratio=value, output="table")
    assert (caught.value.exit_code, reached) == (2, [])
    assert "--min-ratio must be a finite number" in capsys.readouterr().err
    clean_errors(lambda **options: reached.append(options))(min_ratio=1.5, size=None)
    assert reached == [{"min_ratio": 1.5, "size": None}]


def test_every_command_that_takes_a_float_refuses_what_is_not_finite():
    guarded = clean_errors(len).__code__
    takers = {p: f for p, f in commands(app) if {float, float | None} & set(get_type_hints(f).values())}
    assert {"spikes detect", "size", "whatif", "demo", "simulate", "calendar add"} <= takers.keys()
    assert [path for path, command in takers.items() if command.__code__ is not guarded] == []


@pytest.mark.parametrize("speed", ["nan", "inf", "-1", "fast", ""])
def test_a_replay_refuses_a_speed_that_is_none(tmp_path, speed):
    trace = tmp_path / "t.csv"
    trace.write_text("timestamp,prompt_tokens,output_tokens\n1700000000,1,1\n")
    result = invoke("replay", str(trace), "--model", "m", f"--speed={speed}")
    assert result.exit_code == 2, result.output
    assert f"--speed must be max, 0 or a positive number, got {speed!r}" in result.stderr


@pytest.mark.parametrize("args", [["--rate", "inf"], ["--rate", "1", "--price", "nan"], ["--ttft", "nan"]])
def test_the_command_line_takes_no_number_that_is_not_finite(args):
    result = invoke("size", "--model", "llama-3.1-8b", "--gpu", "H100-SXM", *args)
    assert result.exit_code == 2, result.output
    assert args[-2] in result.stderr
    assert "Traceback" not in result.output


def test_size_prints_what_was_asked_for():
    result = invoke("size", "--model", "llama-3.1-8b", "--gpu", "H100-SXM", "--rate", "20")
    assert result.exit_code == 0
    for words in ("131,072", "sequences at most", "operating point", "20 req/s needs", "TTFT", "TPOT", "binds"):
        assert words in result.output


def test_size_as_json_is_json():
    result = invoke("size", "--model", "llama-3.1-8b", "--gpu", "H100-SXM", "--rate", "20", "-o", "json")
    assert json.loads(result.stdout)["memory"]["kv_bytes_per_token_of_model"] == 131_072


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "lama-3.1-8b", "--gpu", "H100-SXM"], "llama-3.1-8b"),
        (["--model", "llama-3.1-8b", "--gpu", "H1000"], "H1000"),
        (["--model", "absent.json", "--gpu", "H100-SXM"], "absent.json"),
        (["--model", "deepseek-v3", "--gpu", "L40S"], "fit"),
        ([], "--model"),
        (["--points", "absent.csv"], "--out"),
    ],
)
def test_what_cannot_be_sized_is_said(args, words):
    refused(invoke("size", *args), 2, words)


def test_a_table_of_points_is_answered_row_by_row(tmp_path):
    rows = tmp_path / "in.csv"
    rows.write_text(
        "id,model,gpu,tp,pp,ep,dp,precision,isl,osl,concurrency\n"
        "a,llama-3.1-8b,H100-SXM,1,1,1,1,bf16,1000,200,16\n"
        "b,unheard-of,H100-SXM,1,1,1,1,bf16,1000,200,16\n"
    )
    result = invoke("size", "--points", rows, "--out", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table["id"]) == ["a", "b"]
    assert table["tpot_ms_p50"][0] > 0
    assert pd.isna(table["error"][0])
    assert "unheard-of" in table["error"][1]


@pytest.mark.parametrize(("text", "words"), [("", "in.csv is empty"), ("id,model,gpu\n", "in.csv has no rows")])
def test_a_table_of_no_points_is_refused(tmp_path, text, words):
    (tmp_path / "in.csv").write_text(text)
    refused(invoke("size", "--points", tmp_path / "in.csv", "--out", tmp_path / "out.csv"), 2, words)
    assert not (tmp_path / "out.csv").exists()


def counts(tmp_path, days=3):
    t = np.arange(days * 288) * 300.0
    values = np.random.default_rng(1).poisson(500 + 300 * np.sin(2 * np.pi * t / 86_400))
    path = tmp_path / "counts.parquet"
    pd.DataFrame({"timestamp": pd.to_datetime(1.7e9 + t, unit="s"), "requests": values}).to_parquet(path)
    return path


@pytest.mark.slow
def test_two_backtests_give_the_same_bytes(tmp_path):
    source = counts(tmp_path)
    written = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.parquet"
        args = ["--value-column", "requests", "--step", "5m", "--horizons", "5m,1h", "--forecasts-out", out]
        result = invoke("backtest", source, *args, "--json", tmp_path / f"{name}.json")
        assert result.exit_code == 0, result.output
        written.append((out.read_bytes(), (tmp_path / f"{name}.json").read_bytes()))
    assert written[0] == written[1]
    columns = list(pd.read_parquet(tmp_path / "one.parquet").columns)
    levels = ["q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"]
    assert columns == ["series", "issued_at", "target_at", "horizon_seconds", *levels, "actual"]


@pytest.mark.slow
def test_backtest_writes_its_report_and_its_policies(tmp_path):
    args = ["--value-column", "requests", "--policies", "--report", tmp_path / "r.html", "-o", "json"]
    result = invoke("backtest", counts(tmp_path), *args)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["policies"]
    assert "plotly" in (tmp_path / "r.html").read_text().lower()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--step", "5x"], "5x"),
        (["--horizons", "7m"], "multiple"),
        (["--time-column", "when"], "when"),
        (["--value-column", "absent", "--kind", "counts"], "absent"),
    ],
)
def test_what_cannot_be_backtested_is_said(tmp_path, args, words):
    refused(invoke("backtest", "--kind", "events", counts(tmp_path), *args), 2, words)


@pytest.mark.parametrize(
    ("values", "args", "words"),
    [
        ([1e19] * 20, [], "no score 300 s ahead: no forecast was issued: every value is above 1e+15 per second"),
        ([5.0], [], "1 window of 300 s does not reach that far"),
        ([5.0] * 20, ["--warmup", "100d"], "the warm-up of 28800 windows leaves nothing of 20 windows of 300 s"),
        ([0.0] * 20, [], "demand is zero in every window"),
        ([5.0] * 10, ["--horizons", "5m,2h"], "no score 7200 s ahead: 10 windows of 300 s do not reach that far"),
        ([5.0, None] * 10, [], "no two known windows that far apart"),
    ],
)
def test_a_backtest_that_scores_nothing_says_why(tmp_path, values, args, words):
    path = tmp_path / "t.parquet"
    times = 1.7e9 + 300.0 * np.arange(len(values))
    pd.DataFrame({"timestamp": times, "value": values, "name": "[a]"}).to_parquet(path)
    args = ["--value-column", "value", "--group-column", "name", "--season", "20m", *args]
    result = invoke(
        "backtest", "--kind", "counts", path, *(["--horizons", "5m"] if "--horizons" not in args else []), *args
    )
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("series [a]: no score ")
    assert words in line


@pytest.mark.slow
def test_a_backtest_that_scores_everything_says_nothing_more(tmp_path):
    result = invoke("backtest", "--kind", "counts", counts(tmp_path), "--value-column", "requests")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""


@pytest.mark.slow
def test_reasons_are_not_told_without_end(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"timestamp": 1.7e9, "value": 1.0, "name": [f"s{n}" for n in range(50)]}).to_parquet(path)
    result = invoke("backtest", "--kind", "counts", path, "--value-column", "value", "--group-column", "name")
    assert len(result.stderr.splitlines()) == 21
    assert "30 more" in result.stderr


def test_a_missing_file_is_named(tmp_path):
    refused(invoke("backtest", tmp_path / "absent.parquet"), 2, "absent.parquet")


def test_bad_configuration_is_78(tmp_path):
    config = tmp_path / "t.toml"
    config.write_text("[kafka]\npartitons = 3\n")
    refused(invoke("config", "validate", config), 78, "kafka.partitons")
    refused(invoke("run", "-c", config), 78, "kafka.partitons")
    config.write_text('[[pools]]\nmodel = "m"\nprofile = "llama-3.1-8"\naccelerator = "H100-SXM"\n')
    refused(invoke("config", "validate", config), 78, "pools.0", "llama-3.1-8b")


def test_an_open_api_is_told_and_a_missing_token_file_refused(tmp_path):
    config = tmp_path / "t.toml"
    config.write_text('[publish]\nhost = "0.0.0.0"\n')
    open_to_all = invoke("config", "validate", config)
    assert open_to_all.exit_code == 0
    assert "without a token" in open_to_all.stderr
    config.write_text(f'[publish]\ntokens_file = "{config}.none"\n')
    refused(invoke("config", "validate", config), 78, "publish.tokens_file")


@pytest.mark.parametrize(
    ("step", "horizons"), [("1m", [300, 900, 3600]), ("5m", [300, 900, 3600]), ("30m", [1800, 5400, 21_600])]
)
def test_a_backtest_without_horizons_takes_those_that_fit_the_step(step, horizons):
    assert list(default_horizons(parse_duration(step))) == horizons


def test_a_fresh_configuration_is_valid_and_is_not_overwritten(tmp_path):
    config = tmp_path / "t.toml"
    assert invoke("config", "init", config).exit_code == 0
    assert invoke("config", "validate", config).exit_code == 0
    refused(invoke("config", "init", config), 1, "exists")


def test_settings_show_where_they_come_from_and_hide_secrets(tmp_path, monkeypatch):
    config = tmp_path / "t.toml"
    config.write_text('[kafka]\nbootstrap = "file:1"\n[publish]\nbearer_token = "hush"\n[windows]\nmax_pools = 1000\n')
    monkeypatch.setenv("TOKENTIDE_PUBLISH__PORT", "9999")
    shown = invoke("config", "show", "-c", config, "-o", "json").stdout
    origins = {row["key"]: (row["value"], row["origin"]) for row in json.loads(shown)}
    assert origins["kafka.bootstrap"] == ("file:1", "file")
    assert origins["publish.port"] == (9999, "environment")
    assert origins["store.path"][1] == "default"
    assert origins["kafka.requests_topic"][1] == "default", "another key of a section that the file names"
    assert origins["windows.max_pools"] == (1000, "file"), "named, though it is the default"
    assert "hush" not in shown


def test_the_schema_of_the_settings_is_json_schema():
    assert "kafka" in json.loads(invoke("config", "schema").stdout)["properties"]


def test_nobody_answering_is_1():
    refused(invoke("recommend", "show", "--url", "http://127.0.0.1:9"), 1, "nothing answers")
    refused(invoke("forecast", "show", "m", "--url", "ftp://x"), 2, "not an http address")


@pytest.mark.slow
def test_doctor_finds_what_is_wrong(tmp_path):
    config = tmp_path / "t.toml"
    config.write_text(f'[kafka]\nbootstrap = "127.0.0.1:9"\n[store]\npath = "{tmp_path / "absent" / "s.duckdb"}"\n')
    result = invoke("doctor", "-c", config, "-o", "json")
    assert result.exit_code == 3
    found = {row["check"]: row for row in json.loads(result.stdout)}
    assert found["installation"]["ok"]
    assert not found["kafka"]["ok"]
    assert "127.0.0.1:9" in found["kafka"]["detail"]
    assert not found["store"]["ok"]
    assert not found["pools"]["ok"]


def test_versions_are_told():
    assert "duckdb" in json.loads(invoke("version", "-o", "json").stdout)
