from __future__ import annotations

import dataclasses
import itertools
import json
import re

import duckdb
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey
from pipeline.replay.backtest import default_warmup_seconds, run_backtest, write_forecasts
from pipeline.replay.policies import evaluate_policies
from pipeline.replay.report import POLICY_COLUMNS, SCORE_COLUMNS, policy_rows, render_report, score_rows, write_report
from pipeline.replay.scoring import score_horizon
from pipeline.replay.sources import DemandSeries

STEP = 600
LEVEL_COLUMNS = ["q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"]
COLUMNS = ["series", "issued_at", "target_at", "horizon_seconds", *LEVEL_COLUMNS, "actual"]


def daily(name="api", days=5, seed=1, gap=None):
    rng = np.random.default_rng(seed)
    t = np.arange(days * 144)
    values = rng.poisson(400 + 250 * np.sin(2 * np.pi * t / 144)).astype(float)
    if gap is not None:
        values[gap] = np.nan
    return DemandSeries(name, 1_767_225_600.0, STEP, values, len(values))


@pytest.fixture(scope="module")
def result():
    return run_backtest([daily(), daily("batch", seed=2, gap=slice(400, 410))], horizons_seconds=[600, 3_600])


def read(path):
    return duckdb.connect().execute(f"SELECT * FROM read_parquet('{path}')").df()


@pytest.mark.slow
def test_forecasts_out_has_exactly_the_promised_columns_and_rows(result, tmp_path):
    path = tmp_path / "f.parquet"
    written = write_forecasts(result, path)
    table = read(path)
    assert list(table.columns) == COLUMNS
    assert len(table) == written
    assert not table.isna().any().any()
    assert (table["target_at"] - table["issued_at"] == table["horizon_seconds"]).all()
    assert (np.diff(table[LEVEL_COLUMNS].to_numpy(), axis=1) >= 0).all()
    # One row per window and horizon whose target exists and is no gap.
    assert (table["series"] == "api").sum() == 720 - 1 + 720 - 6
    assert (table["series"] == "batch").sum() == 720 - 1 - 10 + 720 - 6 - 10


@pytest.mark.slow
def test_actual_is_the_value_of_the_target_window(result, tmp_path):
    write_forecasts(result, tmp_path / "f.parquet")
    series = result.series[0].series
    by_end = dict(zip(series.ends().tolist(), series.values.tolist(), strict=True))
    table = read(tmp_path / "f.parquet")
    table = table[table["series"] == "api"]
    assert [by_end[t] for t in table["target_at"]] == table["actual"].tolist()


@pytest.mark.slow
def test_a_second_run_writes_the_same_bytes(result, tmp_path):
    again = run_backtest([daily(), daily("batch", seed=2, gap=slice(400, 410))], horizons_seconds=[3_600, 600])
    write_forecasts(result, tmp_path / "a.parquet")
    write_forecasts(again, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert json.dumps(again.to_dict()) == json.dumps(result.to_dict())


@pytest.mark.slow
def test_nothing_is_known_before_its_time(result):
    # Cutting the future off must not change a single forecast that was issued before the cut.
    series = daily()
    cut = dataclasses.replace(series, values=series.values[:500])
    short = run_backtest([cut], horizons_seconds=[600, 3_600], warmup_seconds=0)
    assert np.array_equal(short.series[0].quantiles, result.series[0].quantiles[:500], equal_nan=True)


@pytest.mark.slow
def test_the_live_forecaster_gives_the_same_numbers(result):
    item = result.series[0]
    forecaster = SeriesForecaster(SeriesKey("api", "", "x"), [600, 3_600], STEP)
    for i, (end, value) in enumerate(zip(item.series.ends().tolist(), item.series.values.tolist(), strict=True)):
        for h, forecast in enumerate(forecaster.step(end, value / STEP)):
            assert [q * STEP for q in forecast.quantiles] == item.quantiles[i, h].tolist()


@pytest.mark.slow
def test_scores_exclude_the_warm_up_and_beat_the_naive_ones(result):
    assert [(s.series, s.horizon_seconds) for s in result.scores] == [
        (name, h) for name in ("api", "batch", "all") for h in (600, 3_600)
    ]
    api = result.scores[1]
    assert api.scored == 720 - 6 - 2 * 144
    assert api.wape < api.last_value_wape
    assert api.wape_gain_low > 0
    assert 0.85 < api.coverage_90_interval < 0.97
    assert result.scores[4].scored == result.scores[0].scored + result.scores[2].scored


def test_default_warm_up():
    assert default_warmup_seconds(5 * 86_400, 86_400) == 2 * 86_400
    assert default_warmup_seconds(3_600, 86_400) == 900


def test_scores_by_hand():
    actual = np.array([10.0, 20.0, 30.0])
    quantiles = np.tile(np.array([10.0, 20.0, 20.0])[:, None], (1, len(LEVELS)))
    score = score_horizon("s", 60, np.array([60.0, 120.0, 180.0]), actual, quantiles, actual - 4, np.full(3, np.nan))
    assert score.wape == pytest.approx(10 / 60)
    assert score.bias == pytest.approx(-10 / 60)
    assert score.last_value_wape == pytest.approx(12 / 60)
    assert score.seasonal_naive_wape is None
    assert score.mase is None
    assert score.coverage["0.5"] == pytest.approx(2 / 3)
    assert score.pinball["0.95"] == pytest.approx((0.95 * 10 / 3) / 20)
    assert score.wape_gain_low is None
    empty = score_horizon("s", 60, actual[:0], actual[:0], quantiles[:0], actual[:0], actual[:0])
    assert (empty.scored, empty.wape) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizons_seconds": []}, "at least one horizon"),
        ({"horizons_seconds": [900]}, "not a positive multiple of the step"),
        ({"horizons_seconds": [-600]}, "not a positive multiple"),
        ({"horizons_seconds": [600], "season_seconds": 1_000}, "season of 1000 s is not at least"),
    ],
)
def test_impossible_backtests_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        run_backtest([daily(days=1)], **arguments)


def test_no_series_mixed_steps_and_too_many_rows_are_refused():
    with pytest.raises(InputError, match="no series"):
        run_backtest([], horizons_seconds=[600])
    other = dataclasses.replace(daily(days=1), step_seconds=1_200)
    with pytest.raises(InputError, match="has a step of 1200 s"):
        run_backtest([daily(days=1), other], horizons_seconds=[1_200])
    long = dataclasses.replace(daily(days=1), values=np.zeros(20_000_001))
    with pytest.raises(InputError, match="use a wider step"):
        run_backtest([long], horizons_seconds=[600])


@pytest.mark.slow
def test_a_day_ahead_is_what_one_forecaster_says():
    series = daily()
    day_ahead = run_backtest([series], horizons_seconds=[600, 86_400])
    forecaster = SeriesForecaster(SeriesKey("api", "", "x"), [600, 86_400], STEP)
    for end, value in zip(series.ends()[:300].tolist(), (series.values[:300] / STEP).tolist(), strict=True):
        issued = forecaster.step(end, value)
    told = day_ahead.series[0].quantiles[299] / STEP
    assert told == pytest.approx(np.array([forecast.quantiles for forecast in issued]))
    score = day_ahead.scores[1]
    assert (score.horizon_seconds, score.scored) == (86_400, 720 - 144 - 288)
    assert score.wape < 0.15


@pytest.mark.slow
def test_beyond_a_season_there_is_a_forecaster_of_its_own_that_changes_no_other(result):
    long = run_backtest([daily()], horizons_seconds=[600, 3_600, 172_800])
    assert np.array_equal(long.series[0].quantiles[:, :2], result.series[0].quantiles, equal_nan=True)
    assert long.scores[2].wape < 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("season", "step", "horizons"), [(86_400, 21_600, [21_600, 43_200]), (7_200, 600, [86_400])])
def test_odd_seasons_and_horizons_work_or_are_refused(season, step, horizons):
    series = dataclasses.replace(daily(days=3), step_seconds=step)
    result = run_backtest([series], horizons_seconds=horizons, season_seconds=season)
    assert [s.horizon_seconds for s in result.scores] == horizons


@pytest.mark.slow
def test_short_and_silent_series_give_no_scores_but_no_crash(tmp_path):
    series = [
        DemandSeries("one", 0.0, STEP, np.array([5.0]), 1),
        DemandSeries("zero", 0.0, STEP, np.zeros(300), 300),
    ]
    result = run_backtest(series, horizons_seconds=[600])
    assert [s.wape for s in result.scores] == [None, None, None]
    assert evaluate_policies(result) == ()
    write_forecasts(result, tmp_path / "f.parquet")
    assert "Scores" in render_report(result)


@pytest.mark.slow
def test_unwritable_targets_are_input_errors(result, tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_forecasts(result, tmp_path / "none" / "f.parquet")
    with pytest.raises(InputError, match="cannot write"):
        write_report(result, tmp_path / "none" / "r.html")


@pytest.mark.slow
def test_policies_trade_waste_for_shortfall_and_beat_reactive_at_a_long_lead(result):
    outcomes = {o.policy: o for o in evaluate_policies(result, lead_seconds=3_600) if o.series == "api"}
    quantiles = [outcomes[f"quantile {q:g}"] for q in (0.5, 0.75, 0.9, 0.95, 0.99)]
    assert all(a.over_share < b.over_share for a, b in itertools.pairwise(quantiles))
    assert all(a.unserved_share > b.unserved_share for a, b in itertools.pairwise(quantiles))
    assert outcomes["quantile 0.95"].over_share < outcomes["quantile 0.95"].reactive_over_share
    assert (outcomes["clairvoyant"].over_share, outcomes["clairvoyant"].unserved_share) == (0.0, 0.0)
    assert outcomes["static peak"].changes_per_day == 0.0
    assert {o.lead_seconds for o in evaluate_policies(result)} == {600, 3_600}


@pytest.mark.slow
def test_whole_units_round_capacity_up(result):
    outcomes = {o.policy: o for o in evaluate_policies(result, lead_seconds=600, unit=1_000_000.0) if o.series == "api"}
    assert outcomes["clairvoyant"].unserved_share == 0.0
    assert outcomes["clairvoyant"].over_share > 1_000
    for unit in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="unit of capacity"):
            evaluate_policies(result, lead_seconds=600, unit=unit)
    with pytest.raises(InputError, match="no horizon reaches"):
        evaluate_policies(result, lead_seconds=7_200)


@pytest.mark.slow
def test_the_report_is_complete_offline_and_escaped(tmp_path):
    hostile = dataclasses.replace(daily(days=3), name="<script>alert(1)</script>")
    result = run_backtest([hostile], horizons_seconds=[600])
    path = tmp_path / "r.html"
    write_report(result, path, evaluate_policies(result), title="A & B")
    page = path.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "A &amp; B" in page
    assert "reactive ×1.25" in page
    assert page.count("Plotly.newPlot(") >= 1
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)


@pytest.mark.slow
def test_tables_have_a_cell_per_column(result):
    rows = score_rows(result.scores)
    assert [row[:2] for row in rows[:2]] == [("api", "10 min"), ("api", "1 h")]
    assert {len(row) for row in rows} == {len(SCORE_COLUMNS)}
    assert {len(row) for row in policy_rows(evaluate_policies(result))} == {len(POLICY_COLUMNS)}
