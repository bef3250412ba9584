"""The example that writes external forecasts, and signals beside it, in a backtest."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import InputError
from pipeline.forecast.exogenous.rows import ExternalForecast, SignalValue
from pipeline.forecast.types import SeriesKey
from pipeline.replay.backtest import run_backtest
from pipeline.replay.exogenous import rows_of_series
from pipeline.replay.sources import DemandSeries

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "exogenous" / "write_forecasts.py"
STEP = 1800


@pytest.fixture
def demand(tmp_path: Path) -> Path:
    at = np.arange(6 * 48)
    counts = np.random.default_rng(3).poisson(9000 + 6000 * np.sin(2 * np.pi * at / 48))
    lines = [f"{STEP * i},{count}" for i, count in zip(at.tolist(), counts.tolist(), strict=True)]
    path = tmp_path / "demand.csv"
    path.write_text("timestamp,count\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_example_gets_a_column_of_its_own(demand: Path, tmp_path: Path) -> None:
    forecasts, signals, out = tmp_path / "forecasts.csv", tmp_path / "signals.csv", tmp_path / "out.json"
    runpy.run_path(str(EXAMPLE))["main"](str(demand), str(forecasts))
    signals.write_text("signal,at,value\n" + "".join(f"orders,{STEP * i},{i % 48}\n" for i in range(288)))
    command = [
        "backtest", str(demand), "--step", "30m", "--horizons", "30m,1h", "--value-column", "count",
        "--experts", f"last,least_squares,external={forecasts}", "--signals", str(signals), "--json", str(out),
    ]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "external" in result.output
    scores = {(s["expert"], s["horizon_seconds"]): s for s in json.loads(out.read_text())["experts"]}
    assert scores["external", 3600]["scored"] > 150
    assert scores["external", 3600]["wape"] < 0.5 * scores["last", 3600]["wape"]


@pytest.mark.parametrize(
    ("experts", "what"),
    [
        ("default,external", "external needs one file"),
        ("default,ewma=x.csv", "only external takes a file"),
        ("external=nowhere.csv", "cannot read"),
    ],
)
def test_experts_that_cannot_be_read_are_named(demand: Path, experts: str, what: str) -> None:
    result = CliRunner().invoke(app, ["backtest", str(demand), "--step", "30m", "--experts", experts])
    assert result.exit_code == 2
    assert what in " ".join(result.output.split())


def test_forecasts_find_their_series() -> None:
    def row(model: str, pool: str = "default", signal: str = "requests_per_second") -> ExternalForecast:
        return ExternalForecast(SeriesKey(model, pool, signal), 0.0, 0.0, 60.0, (0.5,), (1.0,))

    signal = SignalValue("orders", 0.0, 0.0, 1.0)
    found = rows_of_series([row("a", "chat"), row("b"), row("other"), signal], ["a/chat", "b"])
    assert {name: len(rows) for name, rows in found.items()} == {"a/chat": 2, "b": 2}
    assert len(rows_of_series([row("a")], ["demand"])["demand"]) == 1
    for rows in ([row("x"), row("y")], [row("a"), row("a", signal="kv_tokens")]):
        with pytest.raises(InputError):
            rows_of_series(rows, ["a"] if rows[0].series.model == "a" else ["demand"])


@pytest.mark.slow
def test_what_became_known_later_changes_no_earlier_forecast() -> None:
    values = np.random.default_rng(1).poisson(100.0, 120).astype(float)
    series = DemandSeries("demand", 0.0, STEP, values, len(values))
    key = SeriesKey("m", "default", "requests_per_second")
    rows = [
        ExternalForecast(key, STEP * at, STEP * at, STEP * (at + ahead), (0.5,), (values[at] / STEP,))
        for at in range(118)
        for ahead in (1, 2)
    ] + [SignalValue("orders", STEP * at, STEP * at, float(values[at])) for at in range(120)]
    past = [row for row in rows if row.known_at <= STEP * 60]

    def quantiles(given: list) -> np.ndarray:
        experts = ("last", "least_squares", "external")
        result = run_backtest([series], horizons_seconds=(STEP, 2 * STEP), experts=experts, exogenous=given)
        return result.series[0].quantiles

    whole, known = quantiles(rows), quantiles(past)
    assert np.array_equal(whole[:60], known[:60], equal_nan=True)
    assert not np.array_equal(whole[60:], known[60:], equal_nan=True)
