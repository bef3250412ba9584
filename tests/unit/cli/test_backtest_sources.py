"""Where ``backtest`` reads from besides files: a Prometheus and a store; and how ``spikes detect`` reads counters."""

from __future__ import annotations

import csv
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.engine.types import StepOutput
from pipeline.replay import prometheus
from pipeline.store.store import Store
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window

START = 1_790_000_400 // 3600 * 3600
TINY = ("--step", "1h", "--horizons", "1h", "--warmup", "1h", "--season", "4h", "-o", "json")


class FakePrometheus:
    """Answers range queries as Prometheus does: a value per step, at most 11,000 points."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str | None] = []
        self.answer: tuple[int, Any] | None = None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
                fake.asked.append(form | {"path": self.path})
                fake.tokens.append(self.headers.get("Authorization"))
                status, body = fake.answer or (200, fake.matrix(form))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def matrix(form: dict[str, str]) -> dict[str, Any]:
        step, at, values = int(form["step"]), float(form["start"]), []
        while at <= float(form["end"]):
            values.append([at, str(5 + at // step % 7)])
            at += step
        assert len(values) <= 11_000
        result = [{"metric": {"job": "vllm"}, "values": values}]
        return {"status": "success", "warnings": ["slow"], "data": {"resultType": "matrix", "result": result}}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    server = FakePrometheus()
    yield server
    server.close()


def backtest(*args: object) -> Result:
    return CliRunner().invoke(app, ["backtest", *map(str, args)])


def asked(fake: FakePrometheus, *more: object) -> Result:
    return backtest("--prometheus", fake.url + "/prefix/", "--query", "sum(rate(x[5m]))", *TINY, *more)


def test_history_from_a_prometheus(fake: FakePrometheus) -> None:
    result = asked(fake, "--start", "2026-02-01T00:30", "--end", "2026-02-02", "--token", "secret")
    assert result.exit_code == 0, result.output
    (form,) = fake.asked
    assert form["path"] == "/prefix/api/v1/query_range"
    assert form["query"] == "sum(rate(x[5m]))"
    assert float(form["start"]) == 1_769_904_000.0  # on the boundary of a window
    assert fake.tokens == ["Bearer secret"]
    (series,) = json.loads(result.stdout)["series"]
    assert (series["series"], series["windows"]) == ('{job="vllm"}', 25)
    assert "Prometheus warns: slow" in result.stderr
    assert "value is read as gauge (samples of a Prometheus expression)" in result.stderr


@pytest.mark.slow
def test_a_long_range_is_asked_for_in_pieces(fake: FakePrometheus) -> None:
    rows, _ = prometheus.query_range(fake.url, "x", 0.0, 60.0 * 25_000, 60)
    assert len(fake.asked) == 3
    assert len(rows.frame) == 25_001
    assert rows.frame["timestamp"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("status", "body", "words", "code"),
    [
        (
            400,
            {"status": "error", "error": "parse error: unclosed"},
            "refused the query (400): parse error: unclosed",
            2,
        ),
        (401, b"no", "refused the query (401)", 2),
        (302, b"", "refused the query (302)", 2),
        (200, b"<html>", "did not answer with JSON", 1),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, "found no samples", 2),
    ],
)
def test_answers_that_hold_no_series(fake: FakePrometheus, status: int, body: Any, words: str, code: int) -> None:
    fake.answer = (status, body)
    result = asked(fake, "--start", "2d")
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "name one source: a file, --prometheus, --store, --topic"),
        (("a.csv", "--store", "b"), "given: a file, --store"),
        (("--prometheus", "http://x"), "--prometheus needs --query"),
        (("--prometheus", "http://x", "--query", "y"), "--start is missing"),
        (("--prometheus", "http://x", "--query", "y", "--start", "soon"), "--start 'soon' is neither"),
        (("--prometheus", "http://x", "--query", "y", "--start", "1d", "--end", "2d"), "is not before --end 2d"),
        (("--prometheus", "ftp://x", "--query", "y", "--start", "1d"), "is not the address of a Prometheus"),
        (("--prometheus", "http://x", "--query", "y", "--start", "9999d", "--step", "1s"), "use a wider --step"),
        (("--topic", "t", "--start", "1d", "--signal", "kv-tokens"), "is not in request events"),
        (("--store", "missing.duckdb"), "there is no store"),
    ],
)
def test_sources_that_cannot_be_read(args: tuple[str, ...], words: str) -> None:
    result = backtest(*args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


def test_no_prometheus_there() -> None:
    result = backtest("--prometheus", "http://127.0.0.1:9", "--query", "x", "--start", "1d")
    assert result.exit_code == 1
    assert "no Prometheus answers" in result.stderr


def fill(path: Path, hours: int) -> None:
    """One pool of 60, 120, 180 … requests a minute by the hour; the fifth hour has a gap of half an hour."""
    with Store.open(path) as store:
        for minute in range(60 * hours):
            start, hour = START + 60 * minute, minute // 60
            sums = [60 * (hour + 1) if name in ("requests", "ok") else 0 for name in CLOSED_MEASURES]
            window = replace(closed_window(start, 60, "m", "p", sums), gap=240 <= minute < 270)
            store.record_step(StepOutput(start + 60, (window,), ()))


@pytest.mark.slow
def test_recorded_windows_of_a_store(tmp_path: Path) -> None:
    fill(tmp_path / "a.duckdb", 10)
    out = tmp_path / "f.json"
    result = backtest("--store", tmp_path / "a.duckdb", *TINY, "--json", out)
    assert result.exit_code == 0, result.output
    (series,) = json.loads(result.stdout)["series"]
    assert (series["series"], series["windows"], series["gaps"], series["rows"]) == ("m/p", 10, 1, 600)

    from pipeline.replay.recorded_demand import read_store

    (found,) = read_store(tmp_path / "a.duckdb", step_seconds=3600, model="m")
    assert found.values.tolist()[:4] == [3600.0, 7200.0, 10800.0, 14400.0]
    (part,) = read_store(tmp_path / "a.duckdb", step_seconds=3600, start=START + 7200.0, end=START + 14400.0)
    assert part.values.tolist() == [10800.0, 14400.0]
    for args, words in [(("--model", "x"), "its pools: m/p"), (("--step", "90s"), "not a multiple of the store's")]:
        refused = backtest("--store", tmp_path / "a.duckdb", "--horizons", "1h", *args)
        assert refused.exit_code == 2
        assert words in refused.stderr


@pytest.mark.slow
def test_spikes_of_a_counter_are_those_of_its_increase(tmp_path: Path) -> None:
    total, rows = 0, []
    for minute in range(400):
        total += 900 if minute == 300 else 100 + minute * 31 % 17
        rows.append((60 * minute, total))
    path = tmp_path / "c.csv"
    path.write_text("timestamp,value\n" + "\n".join(f"{t},{v}" for t, v in rows) + "\n")
    args = ["spikes", "detect", "--input", str(path), "--kind", "spike", "--out", str(tmp_path / "o.csv")]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert "value is read as counter" in result.stderr
    with (tmp_path / "o.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 400
    assert next(i for i, row in enumerate(found) if row["alert"] == "1") == 300
    plain = CliRunner().invoke(app, [*args, "--values-are", "counts"])
    assert "is read as counter" not in plain.stderr
