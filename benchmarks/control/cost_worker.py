"""Steps recorded windows through the tree that it finds on PYTHONPATH; prints what each stage costs, as JSON.

    PYTHONPATH=TREE python benchmarks/control/cost_worker.py WINDOWS.pkl [--skip STEPS] [--advice FILE]

Names only what both trees that ``cost.py`` compares have, so that one file measures both.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from pipeline.alerts.spike_alerts import SpikeAlerts
    from pipeline.config.settings import PoolSettings, Settings
    from pipeline.engine.advisor import Advisor
    from pipeline.engine.pool_advisor import PoolAdvisor
    from pipeline.engine.tenants import PoolTenants
    from pipeline.engine.types import StepInput
    from pipeline.forecast.outlook import OutlookForecaster
    from pipeline.forecast.rates import signal_rates
    from pipeline.forecast.series import SeriesForecaster
    from pipeline.forecast.series_group import SeriesGroup as Stepped
    from pipeline.forecast.types import SeriesKey, Signal
    from pipeline.windows.types import Breakdown, ClosedWindow, Part
    from sizing.scaling.controller import ReplicaController
except ImportError:  # the layout of the tree that is compared with
    from pipeline.advise.engine import Advisor
    from pipeline.advise.model import StepInput
    from pipeline.advise.pool import PoolAdvisor
    from pipeline.advise.spike_alerts import SpikeAlerts
    from pipeline.advise.tenants import PoolTenants
    from pipeline.forecast.model import SeriesKey, Signal
    from pipeline.settings import PoolSettings, Settings
    from pipeline.windows.model import Breakdown, ClosedWindow, Part
    from sizing.policy import ReplicaController

    from pipeline.forecast.outlook import OutlookForecaster
    from pipeline.forecast.rates import signal_rates
    from pipeline.forecast.series import SeriesForecaster
    from pipeline.forecast.series import SeriesForecaster as Stepped

#: What is measured apart: stage → (class, method). Outlooks and tenants step forecasters of their own, which count for
#: the stage that steps them.
STAGES: dict[str, tuple[type, str]] = {
    "forecast": (Stepped, "step"),
    "outlooks": (OutlookForecaster, "step"),
    "tenants": (PoolTenants, "step"),
    "calibration": (ReplicaController, "observe"),
    "sizing": (ReplicaController, "decide"),
    "spikes": (SpikeAlerts, "step"),
}


class Stopwatch:
    """CPU seconds by stage of what runs while it is ``running``."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.running = False
        self._inside: list[str] = []

    def watch(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with its time added to ``stage``, unless it runs inside another stage."""

        def timed(*args: Any, **options: Any) -> Any:
            if self._inside or not self.running:
                return call(*args, **options)
            self._inside.append(stage)
            began = time.process_time()
            try:
                return call(*args, **options)
            finally:
                self.seconds[stage] += time.process_time() - began
                self._inside.pop()

        return timed


def windows_of(record: dict[str, Any]) -> list[StepInput]:
    """Return the recorded steps as this tree has them."""
    fields = {field.name for field in dataclasses.fields(ClosedWindow)}
    steps = []
    for as_of, rows in record["steps"]:
        windows = []
        for row in rows:
            kept = {name: value for name, value in row.items() if name in fields}
            kept["breakdown"] = tuple(
                Breakdown(dimension, values, tuple(Part(*part) for part in parts))
                for dimension, values, parts in row["breakdown"]
            )
            windows.append(ClosedWindow(**kept))
        steps.append(StepInput(as_of, tuple(windows)))
    return steps


def settings_of(record: dict[str, Any]) -> Settings:
    """Return the recorded settings as this tree has them."""
    settings = Settings.model_validate(record["settings"])
    known = PoolSettings.model_fields
    pools = [{name: value for name, value in pool.items() if name in known} for pool in record["pools"]]
    return settings.model_copy(update={"pools": tuple(PoolSettings.model_validate(pool) for pool in pools)})


class BareForecasters:
    """The four forecasters of every pool and nothing else, stepped beside the engine: both meet the same noise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[tuple[str, str, Signal], SeriesForecaster] = {}
        self.each: list[float] = []

    def step(self, window: ClosedWindow) -> None:
        """Step the forecasters of one pool and note their CPU seconds."""
        rates, forecast = signal_rates(window), self._settings.forecast
        models = []
        for signal in Signal:
            key = (window.model, window.pool, signal)
            if key not in self._found:
                self._found[key] = SeriesForecaster(
                    SeriesKey(*key),
                    horizons_seconds=forecast.horizons_seconds,
                    grain_seconds=self._settings.windows.grain_seconds,
                    season_seconds=forecast.season_seconds,
                    suspect_silence=False,
                )
            models.append((self._found[key], rates[signal]))
        end = float(window.end)
        began = time.process_time()
        for model, rate in models:
            model.step(end, rate)
        self.each.append(time.process_time() - began)


def engine(record: dict[str, Any], skip: int, advice: Path | None) -> dict[str, Any]:
    """Step all windows through the engine and bare forecasters; the first ``skip`` steps are not counted."""
    settings = settings_of(record)
    advisor, steps, bare = Advisor(settings), windows_of(record), BareForecasters(settings)
    stopwatch, digest = Stopwatch(), hashlib.sha256()
    each: list[float] = []
    said: list[tuple[Any, ...]] = []
    _note_each(each)
    for stage, (owner, method) in STAGES.items():
        setattr(owner, method, stopwatch.watch(stage, getattr(owner, method)))
    gc.collect()
    total = 0.0
    for number, step in enumerate(steps):
        if number == skip:
            stopwatch.seconds = dict.fromkeys(STAGES, 0.0)
            each.clear()
            bare.each.clear()
            total = 0.0
        for window in step.windows:
            bare.step(window)
        stopwatch.running = True
        began = time.process_time()
        output = advisor.step(step)
        total += time.process_time() - began
        stopwatch.running = False
        digest.update(repr(output.forecasts).encode())
        for r in output.recommendations:
            capacity = r.evidence.get("capacity_requests_per_second_per_replica")
            loads = r.evidence.get("calibration_loads")
            said.append(
                (r.issued_at, r.model, r.pool, r.desired, r.lower, r.upper, r.reason, r.confidence, capacity, loads)
            )
    if advice is not None:
        advice.write_text(json.dumps(said), encoding="utf-8")
    return {
        "each": each,
        "bare": sum(bare.each),
        "stages": stopwatch.seconds,
        "total": total,
        "forecasts": digest.hexdigest(),
    }


def _note_each(each: list[float]) -> None:
    """Note the CPU seconds of every pool-window from now on."""
    whole, parts = PoolAdvisor.step, getattr(PoolAdvisor, "stepping", None)

    def stepped(*args: Any, **options: Any) -> Any:
        began = time.process_time()
        outcome = whole(*args, **options)
        each.append(time.process_time() - began)
        return outcome

    def stepping(*args: Any, **options: Any) -> Any:
        """Pools that step side by side: the time of what is answered together is shared alike."""
        answer, spent = None, 0.0
        running = parts(*args, **options)
        while True:
            began = time.process_time()
            try:
                question = running.send(answer)
            except StopIteration as ended:
                each.append(spent + time.process_time() - began)
                return ended.value
            spent += time.process_time() - began
            answer = yield question
            spent += answering.pop()

    if parts is None:
        PoolAdvisor.step = stepped  # type: ignore[method-assign]
        return
    from pipeline.engine.decisions import together

    answering: list[float] = []

    def sharing(answered: Callable[..., Any]) -> Callable[..., Any]:
        def call(questions: dict[int, Any], *args: Any) -> Any:
            began = time.process_time()
            found = answered(questions, *args)
            answering.extend([(time.process_time() - began) / max(1, len(questions))] * len(questions))
            return found

        return call

    PoolAdvisor.stepping = stepping  # type: ignore[method-assign]
    together._answered = sharing(together._answered)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("windows", type=Path)
    parser.add_argument("--skip", type=int, default=0, help="steps that are not counted")
    parser.add_argument("--advice", type=Path, help="where to write what was advised")
    asked = parser.parse_args()
    print(json.dumps(engine(pickle.loads(asked.windows.read_bytes()), asked.skip, asked.advice)))


if __name__ == "__main__":
    main()
