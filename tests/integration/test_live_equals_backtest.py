"""Live control and backtest, fed the same closed windows, issue the same forecasts, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config.settings import Settings, load
from pipeline.demo.fleet import history
from pipeline.demo.scenario import scenario
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.forecast.types import Signal
from pipeline.replay.backtest import run_backtest
from pipeline.replay.sources import DemandSeries
from pipeline.store.store import Store
from pipeline.stream.controller.window_closer import WindowCloser

LIVE_START = 1_790_000_400 // 3600 * 3600
HOURS = 3


def live(settings: Settings) -> list[StepOutput]:
    """What the controller's window closer says, restarted in the middle, reading its windows from DuckDB."""
    fleet = scenario("demo", float(LIVE_START))
    outputs: list[StepOutput] = []
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        for chunk in history(fleet, LIVE_START - HOURS * 3600, LIVE_START):
            store.backfill(chunk.keys, chunk.rows, chunk.histograms)
    for steps in (100, 1000):
        with Store.open(settings.store.path, settings.store, settings.windows) as store:
            closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
            closer.restore()
            for _ in range(steps):
                output = closer.close_next(LIVE_START + 1e9)
                if output is None:
                    break
                outputs.append(output)
                if output.as_of >= LIVE_START:
                    break
    return outputs


def test_the_same_windows_give_the_same_forecasts(tmp_path: Path) -> None:
    fleet = scenario("demo", float(LIVE_START))
    settings = load(store={"path": tmp_path / "live.duckdb"}).model_copy(update={"pools": fleet.pool_settings()})
    outputs = live(settings)
    assert [o.as_of for o in outputs] == list(range(LIVE_START - HOURS * 3600 + 60, LIVE_START + 60, 60))

    for pool in fleet.pools:
        windows = [next(w for w in o.windows if w.key == pool.key) for o in outputs]
        assert all(w.completeness == 1.0 and not w.gap for w in windows)
        counts = np.array([float(w.requests) for w in windows])
        series = DemandSeries("x", float(windows[0].start), 60, counts, len(counts))
        horizons = settings.forecast.horizons_seconds
        result = run_backtest([series], horizons_seconds=horizons)
        for i, output in enumerate(outputs):
            said = [f for f in output.forecasts if (f.series.model, f.series.pool) == tuple(pool.key)]
            said = [f for f in said if f.series.signal == Signal.REQUESTS]
            expected = [list(result.series[0].quantiles[i, h]) for h in range(len(horizons))]
            assert [[q * 60 for q in f.quantiles] for f in said] == expected
