"""``tokentide spikes``: a file in, judged rows out; wrong files in one line; what an instance says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.replay.table import Table


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def invoke(*args):
    return CliRunner().invoke(app, ["spikes", *map(str, args)])


def frame(jump_at=600, rows=1000):
    random = np.random.default_rng(3)
    both = []
    for name, level in (("a", 20.0), ("b'; DROP", 2e6)):
        value = level * random.normal(1.0, 0.03, rows)
        if name == "a":
            value[jump_at : jump_at + 6] *= 3.0
        at = pd.to_datetime(1.7e9 + 60.0 * np.arange(rows), unit="s")
        both.append(pd.DataFrame({"series": name, "timestamp": at, "value": value}))
    return pd.concat(both).sample(frac=1.0, random_state=1)


@pytest.mark.parametrize("command", ["show", "detect", "annotate"])
def test_help_has_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: tokentide spikes {command}" in " ".join(result.output.split())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_row_is_judged_in_order_of_time_and_the_jump_found(tmp_path, suffix):
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    table = frame()
    table.to_csv(source, index=False) if suffix == ".csv" else table.to_parquet(source)
    result = invoke("detect", "--input", source, "--out", out, "--false-alerts-per-day", "0.2", "-o", "json")
    assert result.exit_code == 0, result.output
    found = pd.read_csv(out, parse_dates=["timestamp"]) if suffix == ".csv" else pd.read_parquet(out)
    assert list(found.columns) == ["series", "timestamp", "score", "alert"]
    assert len(found) == 2000
    first = found[found["series"] == "a"].reset_index(drop=True)
    assert first["timestamp"].is_monotonic_increasing
    assert first["alert"][600] == 1
    assert first["score"][600] > 1.0
    assert first["alert"][:600].sum() <= 1
    assert pd.isna(first["score"][0])
    summary = {row["series"]: row for row in json.loads(result.stdout)}
    assert summary["a"]["rows"] == 1000


@pytest.mark.slow
def test_a_score_above_one_is_an_alert_and_nothing_else_is(tmp_path):
    table, out = frame(), tmp_path / "out.parquet"
    table.to_parquet(tmp_path / "in.parquet")
    for kind in ("any", "spike"):
        assert invoke("detect", "--input", tmp_path / "in.parquet", "--out", out, "--kind", kind).exit_code == 0
        found = pd.read_parquet(out)
        assert ((found["score"] > 1.0) == (found["alert"] == 1)).all()
        assert found["alert"].sum() >= 1


@pytest.mark.slow
def test_no_look_ahead(tmp_path):
    whole = frame().sort_values("timestamp")
    cut = whole[whole["timestamp"] < whole["timestamp"].iloc[1400]]
    judged = []
    for name, table in (("whole", whole), ("cut", cut)):
        table.to_parquet(tmp_path / f"{name}.parquet")
        out = tmp_path / f"{name}_out.parquet"
        assert invoke("detect", "--input", tmp_path / f"{name}.parquet", "--out", out).exit_code == 0
        judged.append(pd.read_parquet(out).set_index(["series", "timestamp"]))
    pd.testing.assert_frame_equal(judged[0].loc[judged[1].index], judged[1])


def test_the_file_is_asked_once_however_many_series_it_has(tmp_path, monkeypatch):
    asked = []
    for name in ("numpy", "chunks", "one"):
        real = getattr(Table, name)
        monkeypatch.setattr(Table, name, lambda self, query, real=real: asked.append(query) or real(self, query))
    counts = []
    for series in (2, 60):
        asked.clear()
        rows = [{"series": f"s{n}", "timestamp": 1.7e9 + n, "value": 1.0} for n in range(series)]
        pd.DataFrame(rows).to_parquet(tmp_path / "in.parquet")
        result = invoke("detect", "--input", tmp_path / "in.parquet", "-o", "json")
        assert [row["series"] for row in json.loads(result.stdout)] == sorted(f"s{n}" for n in range(series))
        counts.append(len(asked))
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_series_are_cut_the_same_however_their_rows_come(tmp_path, monkeypatch):
    table = frame(rows=150)
    table = pd.concat([table, table.iloc[::9].assign(value=7.0)])
    table.to_parquet(tmp_path / "in.parquet")
    outputs = []
    for size in (10_000, 1, 50, 64):
        real = Table.chunks

        def pieces(self, query, real=real, size=size):
            for chunk in real(self, query):
                for at in range(0, len(chunk["name"]), size):
                    yield {column: values[at : at + size] for column, values in chunk.items()}

        out = tmp_path / f"{size}.csv"
        with monkeypatch.context() as patch:
            patch.setattr(Table, "chunks", pieces)
            patch.setattr("pipeline.cli.judged._HELD", size)
            result = invoke("detect", "--input", tmp_path / "in.parquet", "--out", out)
        outputs.append((result.stdout, out.read_bytes()))
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3]
    assert len(pd.read_csv(tmp_path / "1.csv")) == len(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.csv", "10000.csv", "50.csv", "64.csv", "in.parquet"]


@pytest.mark.slow
def test_one_series_without_names_and_with_missing_values(tmp_path):
    table = frame().query("series == 'a'").drop(columns="series")
    table.loc[table.index % 50 == 7, "value"] = np.nan
    table.to_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.csv"
    result = invoke("detect", "--input", tmp_path / "in.parquet", "--out", out)
    assert result.exit_code == 0, result.output
    found = pd.read_csv(out)
    assert len(found) == 1000
    assert found["score"].isna().sum() >= 20


def test_instants_that_lie_absurdly_close_do_no_harm(tmp_path):
    (tmp_path / "in.csv").write_text("timestamp,value\n" + "".join(f"{i}e-21,1\n" for i in range(1, 30)))
    result = invoke("detect", "--input", tmp_path / "in.csv", "--season", "1d")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("timestamp,value\n", (), "empty"),
        ("time,value\n1,2\n", (), "timestamp"),
        ("timestamp,value\nyesterday,2\n", (), "no time"),
        ("", (), "in.csv is empty"),
        (
            "timestamp,value\n1700000000,2\nyesterday,2\n1700000060,2\n",
            (),
            "1 row has no time in column 'timestamp', such as 'yesterday'",
        ),
        ("timestamp,value\n1700000000000,2\n", (), "look like milliseconds since 1970"),
        ("timestamp,value\n1e300,2\n2e300,3\n", (), "no time"),
        ("timestamp,value\n2026-01-01,much\n", (), "not a number"),
        ("timestamp,value\n2026-01-01,1\n", ("--season", "now"), "duration"),
        ("timestamp,value\n2026-01-01,1\n", ("--min-ratio", "inf"), "--min-ratio must be a finite number"),
        ("timestamp,value\n2026-01-01,1\n", ("--out", "result.txt"), "must end in"),
        ("timestamp,value\n2026-01-01,1\n", ("--out", "/nowhere/at/all.csv"), "cannot write"),
        ("series,timestamp,value\ns,2026-01-01,1\ns,2026-01-02\n", (), "more or fewer fields than the header"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, text, args, words):
    (tmp_path / "in.csv").write_text(text)
    result = invoke("detect", "--input", tmp_path / "in.csv", *args)
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("tokentide: ")
    assert words in line


def test_the_file_that_is_read_is_not_overwritten(tmp_path):
    text = "timestamp,value\n2026-01-01,1\n"
    (tmp_path / "in.csv").write_text(text)
    result = invoke("detect", "--input", tmp_path / "in.csv", "--out", tmp_path / "." / "in.csv")
    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr
    assert (tmp_path / "in.csv").read_text() == text


@pytest.mark.parametrize(
    ("values", "args", "words"),
    [
        ("-3", ("--direction", "up"), "2 negative values taken as missing"),
        ("inf", (), "2 infinite values taken as missing"),
        ("3", ("--season", "80s"), "--season 80s is not compared where rows are farther apart than half of it: 1"),
    ],
)
def test_what_is_not_judged_is_said(tmp_path, values, args, words):
    rows = "".join(f"2026-01-01 00:{minute:02},{values if minute in (3, 5) else 2}\n" for minute in range(10))
    (tmp_path / "in.csv").write_text("timestamp,value\n" + rows)
    result = invoke("detect", "--input", tmp_path / "in.csv", *args)
    assert result.exit_code == 0, result.output
    assert words in result.stderr
    plain = invoke("detect", "--input", tmp_path / "in.csv", "--direction", "down")
    assert "negative" not in plain.stderr
    assert "season" not in plain.stderr


def test_show_lists_spikes_newest_first_and_leaves_other_alerts_out():
    alert = {"model": "m", "pool": "p", "raised_at": 1.7e9, "onset_at": 1.7e9, "ended_at": None, "severity": "warning"}
    alerts = [
        {**alert, "kind": "spike_observed", "ratio": 2.5, "message": "demand rose"},
        {**alert, "kind": "telemetry_gap", "ratio": None, "message": "telemetry is missing"},
    ]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            body = json.dumps({"now": 1.7e9, "alerts": alerts}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        shown = invoke("show", "--url", url)
        everything = invoke("show", "--url", url, "--all", "-o", "json")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    assert shown.exit_code == 0, shown.output
    assert "demand rose" in shown.output
    assert "active" in shown.output
    assert "telemetry" not in shown.output
    assert len(json.loads(everything.stdout)["alerts"]) == 2


def test_marks_of_other_alerts_are_refused_before_anything_is_sent():
    result = CliRunner().invoke(app, ["spikes", "feedback", "telemetry_gap|m|p|60", "--verdict", "false"])
    assert result.exit_code == 2
    assert "only alerts of kind spike_observed" in result.stderr
