"""Where a run of the demo was measured, and the tables of several runs."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["machine", "report"]

_PACKAGES = ("tokentide", "faust-streaming", "aiokafka", "duckdb", "numpy")
_ROWS = (
    ("board_answers", "the board answers"),
    ("first_progress", "progress is seen"),
    ("learned", "history is learned"),
    ("time_runs", "live events flow"),
    ("first_live_window", "the first live window is closed"),
    ("advice_moved", "advice has moved"),
    ("recurring_spike_warned", "the recurring spike is warned of, before its onset"),
    ("flash_spike_detected", "the flash spike is detected, within two windows"),
)


def machine() -> dict[str, Any]:
    """Date, cores, versions, load and a measure of speed: CPU seconds of a fixed piece of Python."""
    began = time.process_time()
    total = 0
    for number in range(3_000_000):
        total += number * number % 7
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "load_before": [round(load, 1) for load in os.getloadavg()],
        "python_loop_seconds": round(time.process_time() - began, 2),
    }


_INTRODUCTION = """# The demo, as a newcomer sees it

Printed by `python benchmarks/demo --all --out benchmarks/demo/results.jsonl`; one column per run, seconds unless said
otherwise. Everything is counted from the command, with the environment installed, and seen from outside through the
HTTP API. Machines differ: each column says what load the machine had before the run (processes that wanted a core) and
what a fixed loop in Python costs there.

"""
_MEASURES = (
    ("cores", "cores"),
    ("load_before", "load average of 1, 5 and 15 minutes before"),
    ("python_loop_seconds", "CPU seconds of a fixed loop in Python"),
    ("longest_stall_of_progress_seconds", "longest stall of progress"),
    ("looks_with_valid_advice", "looks with valid advice for every pool, of all"),
    ("longest_without_valid_advice_seconds", "longest time without valid advice for every pool"),
    ("speed_mean_and_least", "speed, mean and least (× real time)"),
    ("ran_seconds", "seconds run"),
    ("cpu_seconds", "CPU seconds in all"),
)


def report(results: Path) -> str:
    """The runs of a file of results as Markdown."""
    every = [json.loads(line) for line in results.read_text().splitlines() if line.strip()]
    runs = [run for run in every if "seconds" in run]
    lines = []
    if runs:
        heads = [f"{run['busy_loops']} busy loops, {run['date']}" for run in runs]
        lines = [_row("until", heads), "|---|" + "---|" * len(runs)]
        lines += [_row(text, [run["seconds"].get(name) for run in runs]) for name, text in _ROWS]
        lines += [_row(text, [run.get(name) for run in runs]) for name, text in _MEASURES]
    short = [run for run in every if "short_run_cpu_seconds" in run]
    if short:
        lines += ["", "`tokentide demo --history-days 1 --seconds 5`, child processes included:", ""]
        lines += [_row("date", [run["date"] for run in short]), "|---|" + "---|" * len(short)]
        for name, text in (("short_run_cpu_seconds", "CPU seconds"), ("ran_seconds", "seconds run"), *_MEASURES[:3]):
            lines.append(_row(text, [run[name] for run in short]))
    versions = every[-1]["versions"] | {"python": every[-1]["python"], "machine": every[-1]["machine"]}
    lines += ["", "Versions of the last run: " + ", ".join(f"{name} {value}" for name, value in versions.items()) + "."]
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _row(name: str, cells: list[Any]) -> str:
    return f"| {name} | " + " | ".join(map(_shown, cells)) + " |"


def _shown(cell: Any) -> str:
    if cell is None:
        return "–"
    return " / ".join(map(str, cell)) if isinstance(cell, list) else str(cell)
