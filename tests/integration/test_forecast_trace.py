"""Accuracy on real traces: the pool against the best of its experts in hindsight; what a calendar brings."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

TRACE = Path(__file__).resolve().parents[2].parent / "shared/data/traces/azure_llm_2024/conv_10s_counts.parquet"
HORIZONS = (300, 900, 3600)


@pytest.mark.skipif(not TRACE.exists(), reason="the Azure 2024 trace is not beside the checkout")
def test_the_pool_is_as_good_as_its_best_expert():
    grain = 300
    query = "select requests from read_parquet(?) order by timestamp"
    counts = duckdb.execute(query, [str(TRACE)]).fetchnumpy()["requests"].astype(np.float64)
    values = counts.reshape(-1, grain // 10).sum(axis=1) / grain
    model = SeriesForecaster(SeriesKey("azure", "conversation", "requests_per_second"), HORIZONS, grain)
    medians, experts = [], []
    for at, value in enumerate(values.tolist()):
        medians.append([forecast.quantiles[LEVELS.index(0.5)] for forecast in model.step((at + 1) * grain, value)])
        experts.append(np.array([expert.forecast() for expert in model.pool.experts]).T)
    first = 2 * 86_400 // grain
    for at, (horizon, bar) in enumerate(zip(HORIZONS, (0.039, 0.055, 0.075), strict=True)):
        steps = horizon // grain
        actual = values[first + steps :]
        wape = np.abs(actual - np.array(medians)[first:-steps, at]).sum() / actual.sum()
        best = np.abs(actual[:, None] - np.array(experts)[first:-steps, at]).sum(axis=0).min() / actual.sum()
        assert wape <= 1.02 * best
        assert wape <= bar


WORLDCUP = TRACE.parents[1] / "worldcup98"


@pytest.mark.skipif(not WORLDCUP.exists(), reason="the World Cup trace is not beside the checkout")
def test_the_fixture_list_cuts_the_error_around_kickoffs():
    grain, step = 300, 12
    query = "select requests from read_parquet(?) where timestamp >= '1998-05-01' order by timestamp"
    file = str(WORLDCUP / "requests_1min.parquet")
    counts = duckdb.execute(query, [file]).fetchnumpy()["requests"].astype(np.float64)
    values = counts[: counts.size // 5 * 5].reshape(-1, 5).sum(axis=1) / grain
    rows = csv.DictReader((WORLDCUP / "match_schedule.csv").open())
    kickoffs = [datetime.fromisoformat(row["kickoff_utc"]).replace(tzinfo=UTC).timestamp() for row in rows]
    matches = [CalendarRecord(str(at), "match", start, start + 6300) for at, start in enumerate(kickoffs)]
    start = datetime(1998, 5, 1, tzinfo=UTC).timestamp()
    ends = start + grain * np.arange(1, values.size + 1)
    errors = []
    for calendar in ((), matches):
        model = SeriesForecaster(SeriesKey("web", "site", "requests_per_second"), (grain, step * grain), grain)
        issued = [
            model.step(end, value, calendar)[1] for end, value in zip(ends.tolist(), values.tolist(), strict=True)
        ]
        medians = np.array([forecast.quantiles[LEVELS.index(0.5)] for forecast in issued])
        near = np.abs(ends[step:, None] - np.array(kickoffs)).min(axis=1) <= 7200.0
        errors.append(np.abs(values[step:] - medians[:-step])[near].sum())
    assert errors[1] <= 0.75 * errors[0]
