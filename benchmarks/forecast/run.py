"""Forecast benchmark: point, quantile, coverage and cost scores per trace and horizon, against rivals.

    python benchmarks/forecast/run.py --traces FOLDER [--only az_5min,...] [--held-out] [--tools pool,rivals,batch]
                                      [--cache FOLDER] [--markdown FILE] [--json FILE]

FOLDER holds ``azure_llm_2024``, ``burstgpt``, ``servegen``, ``nasa_http``, ``worldcup98``, and for ``--held-out``
``ms_cloud_monitoring`` and ``nab``; traces that are missing are named and left out, as are batch tools that are not
installed (``requirements.txt``). Prequential: learn a window, issue, score what matures; the first two days are not
scored. What a tool issued for a trace is kept in the cache folder, so that a run that was interrupted goes on; the
pool's part is made anew when the forecaster's code changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from batch import BATCH, missing
from report import calendar_page, page
from rivals import RIVALS, banded
from scores import Pool, Run, compare, score
from traces import HELD_OUT, TRACES, WORLDCUP_START, Trace, load, matches, named

import pipeline.forecast
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey
from pipeline.replay.backtest import seasons_of

#: Batch tools are scored at so many origins, spread evenly over whole hours after the warm-up; short hourly series are
#: cheap to fit, so they get more.
ORIGINS, HOURLY_ORIGINS = 72, 216
#: At finer grains a fit with a season of a day takes seconds.
BATCH_GRAIN_SECONDS = 300
NEAR_SECONDS = 7200
TOOLS = ("pool", "rivals", "batch")


def run_pool(values: np.ndarray, trace: Trace, start: float = 0.0, calendar: tuple[CalendarRecord, ...] = ()) -> Pool:
    """Step the shipped forecaster over every window, as a backtest does."""
    shape = (len(values), len(trace.horizons_seconds))
    issued, seconds, size = np.empty((*shape, len(LEVELS))), np.zeros(len(values)), 0
    experts: np.ndarray = np.empty(0)
    names: tuple[str, ...] = ()
    for season, members in seasons_of(trace.horizons_seconds, 86_400).items():
        horizons = [trace.horizons_seconds[at] for at in members]
        model = SeriesForecaster(
            SeriesKey("model", "pool", "requests_per_second"), horizons, trace.grain_seconds, season
        )
        names = model.pool.names
        experts = experts if experts.size else np.empty((*shape, len(names)))
        for at, value in enumerate(values.tolist()):
            began = time.perf_counter()
            forecasts = model.step(start + (at + 1) * trace.grain_seconds, value, calendar)
            seconds[at] += time.perf_counter() - began
            issued[at, members] = [forecast.quantiles for forecast in forecasts]
            experts[at, members] = np.array([expert.forecast() for expert in model.pool.experts]).T
            if model.silent:  # what the forecaster thinks of a silence holds for every expert alone too
                experts[at, members] *= issued[at, members, LEVELS.index(0.5)][:, None] > 0.0
        size += len(pickle.dumps(model))
    microseconds = 1e6 * statistics.median(seconds.tolist())
    return Pool(Run(np.arange(len(values)), issued, microseconds), experts, names, size)


def run_rival(name: str, values: np.ndarray, trace: Trace) -> Run:
    """One online rival over every window."""
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        path = RIVALS[name](values, trace.steps, trace.day)
    microseconds = 1e6 * (time.perf_counter() - began) / len(values)
    path = np.nan_to_num(path, nan=1e300, posinf=1e300, neginf=0)
    return Run(np.arange(len(values)), banded(path, values, trace.steps, trace.day), microseconds)


def run_batch(name: str, values: np.ndarray, trace: Trace) -> Run:
    """One batch tool at a sample of origins."""
    _, every, tool = BATCH[name]
    origins = sampled_origins(len(values), trace)[::every]
    began = time.process_time()
    issued = tool(values, origins, trace.steps, trace.day)
    microseconds = 1e6 * (time.process_time() - began) / len(origins)
    given = ~np.isnan(issued).all(axis=(0, 1))
    issued[:, :, given] = np.maximum(np.nan_to_num(issued[:, :, given], nan=1e300, posinf=1e300), 0.0)
    return Run(origins, issued, microseconds)


def sampled_origins(windows: int, trace: Trace) -> np.ndarray:
    """Window numbers that end at whole hours, evenly spread, all targets inside the trace."""
    hour = 3600 // trace.grain_seconds
    hours = np.arange(trace.first // hour, (windows - trace.steps[-1]) // hour)
    wanted = HOURLY_ORIGINS if hour == 1 else ORIGINS
    picked = np.unique(np.linspace(0, len(hours) - 1, wanted).round().astype(int))
    return (hours[picked] + 1) * hour - 1


def measure_calendar(folder: Path) -> list[dict[str, float]]:
    """World Cup, with and without the fixture list: WAPE in all and within two hours of kick-offs."""
    trace, values, records = TRACES["worldcup_5min"], load(folder, "worldcup_5min"), matches(folder)
    kickoffs = np.array([record.starts_at for record in records])
    grain, first, rows = trace.grain_seconds, trace.first, []
    runs = [run_pool(values, trace, WORLDCUP_START, calendar).run.issued for calendar in ((), records)]
    for at, step in enumerate(trace.steps):
        actual = values[first + step :]
        ends = WORLDCUP_START + grain * (np.arange(first + step, len(values)) + 1.0)
        near = np.abs(ends[:, None] - kickoffs).min(axis=1) <= NEAR_SECONDS
        row: dict[str, float] = {"horizon_seconds": step * grain}
        for label, issued in zip(("without", "with"), runs, strict=True):
            quantiles = issued[first : len(values) - step, at]
            error = np.abs(actual - quantiles[:, LEVELS.index(0.5)])
            row[label] = float(error.sum() / actual.sum())
            row[f"{label}_near"] = float(error[near].sum() / actual[near].sum())
            row[f"{label}_near_coverage"] = float((actual <= quantiles[:, LEVELS.index(0.95)])[near].mean())
        rows.append(row)
    return rows


class Cache:
    """Runs that were made before, one file per trace and tool."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, trace: str, tool: str, make: Callable[[], Run]) -> Run:
        """The run from the cache, or a new one, which is kept."""
        if self._folder is None:
            return make()
        path = self._folder / f"{trace}--{re.sub('[^a-z0-9]+', '-', tool.lower())}.npz"
        if path.exists():
            with np.load(path) as found:
                return Run(found["origins"], found["issued"].astype(np.float64), float(found["microseconds"]))
        run = make()
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, origins=run.origins, issued=run.issued, microseconds=run.microseconds)
        part.rename(path)
        return run

    def pool(self, trace: str, make: Callable[[], Pool]) -> Pool:
        """As ``run``, for the pool; another state of the forecaster's code is another run."""
        if self._folder is None:
            return make()
        path = self._folder / f"{trace}--pool-{code_version()}.pickle"
        if path.exists():
            found: Pool = pickle.loads(path.read_bytes())
            return found
        pool = make()
        path.write_bytes(pickle.dumps(pool))
        return pool


def code_version() -> str:
    """Eight hex digits that change with the forecaster's code."""
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(pipeline.forecast.__path__))).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def measure(name: str, folder: Path, tools: Iterable[str], cache: Cache) -> dict[str, object]:
    """Everything about one trace: rows per model and horizon, batch rows, what the pool's experts would have got."""
    trace, values = named(name), load(folder, name)
    pool = cache.pool(name, lambda: run_pool(values, trace))
    online = {"Tokentide": pool.run}
    if "rivals" in tools:
        online |= {rival: cache.run(name, rival, lambda r=rival: run_rival(r, values, trace)) for rival in RIVALS}
    batch = {}
    if "batch" in tools and trace.grain_seconds >= BATCH_GRAIN_SECONDS:
        absent = missing()
        wanted = [tool for tool in BATCH if tool not in absent]
        for tool in wanted:
            batch[tool] = cache.run(name, tool, lambda t=tool: run_batch(t, values, trace))
            print(f"{name}: {tool} {batch[tool].microseconds / 1e3:.0f} ms per refit", flush=True)
    rows, paired = [], []
    for at, horizon in enumerate(trace.horizons_seconds):
        step = trace.steps[at]
        actual = values[trace.first + step :]
        said = pool.experts[trace.first : len(values) - step, at]
        errors = np.abs(actual[:, None] - said).sum(axis=0) / actual.sum()
        best = int(errors.argmin())
        for tool, run in online.items():
            row = {"model": tool, "horizon_seconds": horizon, **score(run, values, trace, at)}
            if tool != "Tokentide":
                row["difference"] = compare(pool.run, run, values, trace, at)
            else:
                row |= {"best_expert": float(errors[best]), "best_expert_name": pool.names[best]}
            rows.append(row)
        for tool, run in batch.items():
            theirs = {"model": tool, "horizon_seconds": horizon, **score(run, values, trace, at)}
            ours = score(pool.run.at(run.origins), values, trace, at)
            theirs |= {"ours": ours, "difference": compare(pool.run, run, values, trace, at)}
            paired.append(theirs)
    return {"rows": rows, "batch": paired, "state_bytes": pool.state_bytes, "windows": len(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--only", help="names of traces, separated by commas")
    parser.add_argument("--held-out", action="store_true", help="the series that nothing was chosen on instead")
    parser.add_argument("--tools", default=",".join(TOOLS), help="what to run beside the pool: rivals, batch")
    parser.add_argument("--cache", type=Path, help="folder in which runs are kept")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--markdown", type=Path, help="write the page of results here")
    arguments = parser.parse_args()
    tools, cache = arguments.tools.split(","), Cache(arguments.cache)
    table: dict[str, dict[str, object]] = {}
    calendar: list[dict[str, float]] = []
    for name in arguments.only.split(",") if arguments.only else HELD_OUT if arguments.held_out else TRACES:
        if not (arguments.traces / named(name).file).exists():
            print(f"{name}: {named(name).file} is missing")
            continue
        table[name] = measure(name, arguments.traces, tools, cache)
        print(*page({name: table[name]}), sep="\n", flush=True)
    if "worldcup_5min" in table:
        calendar = measure_calendar(arguments.traces)
        print(*calendar_page(calendar), sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"traces": table, "calendar": calendar}, indent=1) + "\n")
    if arguments.markdown:
        from report import whole_page

        arguments.markdown.write_text(whole_page(table, calendar, missing(), arguments.held_out))


if __name__ == "__main__":
    main()
