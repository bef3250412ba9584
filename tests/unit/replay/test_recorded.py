"""Scores of recorded forecasts: figures worked out by hand, gaps left out, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.engine.types import StepOutput
from pipeline.errors import InputError
from pipeline.forecast.types import Forecast, SeriesKey, Signal
from pipeline.replay.recorded import last_issued, score_recorded
from pipeline.store.store import Store
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window

START = 1_790_000_400 // 3600 * 3600
#: Requests of six windows of a minute; the fourth is a gap.
REQUESTS = (600, 660, 600, 0, 720, 600)
GAP = 3


def fill(path: Path) -> None:
    """Each window forecasts the next one: always ten requests a second, q95 at eleven."""
    with Store.open(path) as store:
        for at, requests in enumerate(REQUESTS):
            start, end = START + 60 * at, START + 60 * at + 60
            sums = [requests if name in ("requests", "ok") else 0 for name in CLOSED_MEASURES]
            window = replace(closed_window(start, 60, "m", "p", sums), gap=at == GAP)
            quantiles = (8.0, 8.5, 9.0, 10.0, 10.2, 10.5, 11.0, 13.0)
            series = SeriesKey("m", "p", Signal.REQUESTS)
            store.record_step(StepOutput(end, (window,), (Forecast(series, float(end), 60, quantiles),)))


def test_figures_by_hand(tmp_path: Path) -> None:
    fill(tmp_path / "a.duckdb")
    (found,) = score_recorded(tmp_path / "a.duckdb")
    score = found.score
    # Issued at the ends of windows 0 to 5; the last target is unknown, the gap is neither target nor origin.
    assert (found.model, found.pool, found.signal, found.horizon_seconds) == ("m", "p", "requests_per_second", 60)
    assert (found.issued, score.scored) == (6, 3)
    came = np.array([11.0, 10.0, 10.0])
    assert score.wape == pytest.approx(1.0 / came.sum())
    assert score.bias == pytest.approx(-1.0 / came.sum())
    assert score.last_value_wape == pytest.approx((1.0 + 1.0 + 2.0) / came.sum())
    assert score.coverage["0.95"] == 1.0
    assert score.coverage["0.5"] == pytest.approx(2 / 3)
    assert score.pinball["0.5"] == pytest.approx(0.5 / came.sum())
    assert score.mase is None, "there is no day before"


@pytest.mark.slow
def test_choices(tmp_path: Path) -> None:
    fill(tmp_path / "a.duckdb")
    assert score_recorded(tmp_path / "a.duckdb", model="other") == []
    assert score_recorded(tmp_path / "a.duckdb", signal="kv_tokens") == []
    (late,) = score_recorded(tmp_path / "a.duckdb", since=START + 300.0)
    assert (late.issued, late.score.scored) == (2, 1)
    assert last_issued(tmp_path / "a.duckdb") == START + 360.0


def test_files_that_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store"):
        score_recorded(tmp_path / "missing.duckdb")
    (tmp_path / "text.duckdb").write_text("hello")
    with pytest.raises(InputError, match="not a DuckDB file"):
        score_recorded(tmp_path / "text.duckdb")


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    fill(tmp_path / "a.duckdb")

    def invoke(*arguments: str):
        return CliRunner().invoke(app, ["forecast", "score", *arguments], env={"COLUMNS": "250", "NO_COLOR": "1"})

    told = json.loads(invoke(str(tmp_path / "a.duckdb"), "-o", "json").stdout)
    assert told[0]["score"]["scored"] == 3
    table = invoke(str(tmp_path / "a.duckdb")).stdout
    assert "3.23" in table  # 1 / 31
    assert json.loads(invoke(str(tmp_path / "a.duckdb"), "--last", "1m", "-o", "json").stdout)[0]["issued"] == 2
    assert invoke(str(tmp_path / "a.duckdb"), "--pool", "x").exit_code == 2
    assert invoke(str(tmp_path / "missing")).exit_code == 2
    assert "Example: tokentide forecast score" in " ".join(invoke("--help").output.split())
