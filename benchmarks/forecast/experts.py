"""Every expert of the registry alone, beside the pool: WAPE and cost per trace and horizon.

    python benchmarks/forecast/experts.py --traces FOLDER --cache FOLDER [--markdown FILE]

The adaptive forest, milliseconds a step, runs on the hourly traces only. Prequential, as in ``run.py``; two days of
warm-up are not scored.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import time
from pathlib import Path

import numpy as np
from run import Cache, run_pool
from scores import MEDIAN, Run
from traces import TRACES, Trace, load

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts.registry import EXPERTS, make_experts
from pipeline.forecast.experts.scheduled_refit import MODELS
from pipeline.forecast.types import LEVELS
from pipeline.replay.backtest import seasons_of

FAMILIES = {
    "least_squares": "ML",
    "least_squares_three_speeds": "ML",
    "echo_state": "recurrent network",
    "river_bayesian_linear": "ML",
    "river_adaptive_forest": "ML",
}
# Offers from outside; and models whose hourly refits results.md measures.
_APART = ("external", *MODELS)
_SLOW = ("river_adaptive_forest",)


def run_expert(name: str, values: np.ndarray, trace: Trace) -> dict[str, Run]:
    """Each expert of that name over every window, by its own name; only its median is known."""
    found: dict[str, Run] = {}
    for season, members in seasons_of(trace.horizons_seconds, 86_400).items():
        steps = tuple(trace.steps[at] for at in members)
        context = SeriesContext(steps, season // trace.grain_seconds, trace.grain_seconds)
        # The last value comes first in every pool; here it is asked for by its own name only.
        experts = [expert for expert in make_experts(context, [name]) if expert.name != "last" or name == "last"]
        rows = np.empty((len(values), len(members), len(experts)))
        began = time.process_time()
        for at, value in enumerate(values.tolist()):
            context.push(at + 1, value)
            for column, expert in enumerate(experts):
                expert.learn_one(value)
                rows[at, :, column] = expert.forecast()
        cost = 1e6 * (time.process_time() - began) / len(values)
        for column, expert in enumerate(experts):
            if expert.name not in found:
                empty = np.full((len(values), len(trace.steps), len(LEVELS)), np.nan, dtype=np.float32)
                found[expert.name] = Run(np.arange(len(values)), empty, cost)
            found[expert.name].issued[:, members, MEDIAN] = rows[:, :, column]
    return found


def wape(run: Run, values: np.ndarray, trace: Trace) -> list[float]:
    """Per horizon, after the warm-up."""
    shares = []
    for at, step in enumerate(trace.steps):
        actual = values[trace.first + step :]
        error = np.abs(actual - run.issued[trace.first : len(values) - step, at, MEDIAN])
        shares.append(float(error.sum() / actual.sum()))
    return shares


def cell(shares: list[float]) -> str:
    """The shares of all horizons in percent; beyond tenfold they have diverged."""
    return " / ".join(f"{100.0 * share:.1f}" if share < 10.0 else "div" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument(
        "--only", default=",".join(name for name in TRACES if name != "az_1min"), help="names of traces"
    )
    parser.add_argument("--cache", type=Path, help="folder in which the pool's runs are kept")
    parser.add_argument("--markdown", type=Path, help="write the page of results here")
    arguments = parser.parse_args()
    cache, names = Cache(arguments.cache), arguments.only.split(",")
    table: dict[str, dict[str, str]] = {}
    cost: dict[str, float] = {}
    family: dict[str, str] = {}
    for trace_name in names:
        trace, values = TRACES[trace_name], load(arguments.traces, trace_name)
        pool = cache.pool(trace_name, lambda v=values, t=trace: run_pool(v, t))
        table.setdefault("**the pool**", {})[trace_name] = cell(wape(pool.run, values, trace))
        cost["**the pool**"] = pool.run.microseconds
        for name in EXPERTS:
            if name in _APART or (name in _SLOW and trace.grain_seconds < 3600):
                continue
            for own, run in run_expert(name, values, trace).items():
                label = f"{own} ({name})" if name == "least_squares_three_speeds" else own
                table.setdefault(label, {})[trace_name] = cell(wape(run, values, trace))
                cost[label], family[label] = run.microseconds, FAMILIES.get(name, "statistical")
        print(trace_name, "done", flush=True)
    page = render(table, cost, family, names)
    print(page)
    if arguments.markdown:
        arguments.markdown.write_text(page)


def render(
    table: dict[str, dict[str, str]],
    cost: dict[str, float],
    family: dict[str, str],
    names: list[str],
) -> str:
    """The page of results."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "river"))
    lines = [
        "# Every expert alone",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, one of {os.cpu_count()} cores (shared), {platform.machine()},"
        f" Python {platform.python_version()}, {versions}. Made by `python benchmarks/forecast/experts.py",
        f"--traces FOLDER --only {','.join(names)} --markdown benchmarks/forecast/experts.md`.",
        "",
        "WAPE % at the three horizons of each trace (those of [results.md](results.md)), prequential, two days of",
        "warm-up not scored. `div`: above 1,000 %. An expert that sleeps says the last value. µs: CPU per window, the",
        "shared context included, experts that share a factorisation together; the pool's is the whole forecaster with",
        "bands. `auto_ets` and `auto_arima` are measured as batch tools in results.md. Language models are not in the",
        "table: as forecasters they can be offered through the external slot, none was at hand; as readers of",
        "announcements they write calendar records.",
        "",
        "| expert | family | " + " | ".join(names) + " | µs |",
        "|---" * (len(names) + 3) + "|",
    ]
    for label, cells in table.items():
        shown = " | ".join(cells.get(name, "") for name in names)
        lines.append(f"| {label} | {family.get(label, 'all')} | {shown} | {cost[label]:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
