"""Accuracy on a real trace: the pool against the best of its experts, chosen in hindsight."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline.forecast.model import LEVELS, SeriesKey
from pipeline.forecast.series import SeriesForecaster

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
