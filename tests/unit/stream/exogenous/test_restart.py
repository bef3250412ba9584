"""External forecasts and signals through a controller's store: live, after restarts, and learned again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.settings import Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.forecast.types import Signal
from pipeline.store.store import Store
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.stream.exogenous.topics import exogenous_book
from pipeline.windows.types import MEASURES, DeltaRows, HistogramRows, WindowKey

START = 1_790_000_400 // 3600 * 3600
STEPS = 24


def settings_in(folder: Path, name: str) -> Settings:
    """Forecasts of ``llama/chat`` that are known from the tenth minute on, and a signal."""
    forecasts = [
        {
            "model": "llama", "pool": "chat", "issued_at": START + 60 * minute, "target_at": START + 60 * target,
            "quantiles": {"0.1": 25, "0.5": 30, "0.9": 40},
        }
        for minute in range(10, STEPS, 5) for target in range(minute + 1, minute + 71)
    ]  # fmt: skip
    values = [{"signal": "orders", "at": START + 60 * minute, "value": minute % 7} for minute in range(STEPS + 9)]
    for file, rows in (("forecasts.jsonl", forecasts), ("signals.jsonl", values)):
        (folder / file).write_text("\n".join(map(json.dumps, rows)))
    return load(
        store={"path": folder / f"{name}.duckdb", "snapshot_every_steps": 7},
        windows={"allowed_lateness_seconds": 20.0},
        forecast={
            "experts": ["last", "least_squares", "external"],
            "external": {"file": str(folder / "forecasts.jsonl")},
            "signals": [{"name": "orders", "file": str(folder / "signals.jsonl")}],
        },
    )


def fill(settings: Settings) -> None:
    keys = [WindowKey("llama", "chat", ""), WindowKey("llama", "batch", "")]
    windows = [START + 60 * minute for minute in range(STEPS) for _ in keys]
    counts = [600 + 37 * (minute % 7) for minute in range(STEPS) for _ in keys]
    measures = [counts if name in ("requests", "ok") else [0] * len(windows) for name in MEASURES]
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        rows = DeltaRows(windows, [0, 1] * STEPS, measures, [int(at * 1000) for at in windows])
        store.backfill(keys, rows, HistogramRows([], [], [], []))


def live(settings: Settings, steps: int) -> list[StepOutput]:
    """One life of a controller: its files are read, then windows are closed."""
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        book = exogenous_book(settings)
        closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook(), exogenous=book)
        closer.restore()
        found = [closer.close_next(START + 1e9) for _ in range(steps)]
    return [output for output in found if output is not None]


@pytest.mark.slow
def test_live_restarted_and_learned_again_agree(tmp_path: Path) -> None:
    whole, parts = settings_in(tmp_path, "whole"), settings_in(tmp_path, "parts")
    for settings in (whole, parts):
        fill(settings)
    steady = live(whole, STEPS)
    assert len(steady) == STEPS
    given = {o.as_of: len(o.exogenous) for o in steady}
    assert given[START + 600] > 60
    assert not any(forecast for o in steady for forecast in o.exogenous if forecast.known_at > o.as_of)
    pieces = [output for steps in (9, 1, STEPS - 10) for output in live(parts, steps)]
    assert [o.forecasts for o in pieces] == [o.forecasts for o in steady]
    assert [o.exogenous for o in pieces] == [o.exogenous for o in steady]
    with Store.open(whole.store.path, whole.store, whole.windows) as store:
        again = Advisor(whole)
        learned = [again.step(inputs) for inputs in store.closed_since(-1)]
    assert [o.forecasts for o in learned] == [o.forecasts for o in steady]
    group = again._pools[("llama", "chat")]._forecasters
    awake = [expert.awake for expert in group.pool.experts if expert.name == "external"]
    assert awake == [series.signal is Signal.REQUESTS for series in group.series]
