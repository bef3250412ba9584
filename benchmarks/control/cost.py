"""What a pool-window costs the controller's core: today's tree, a reference commit, and bare forecasters, in one run.

    python -m benchmarks.control.cost --results benchmarks/control/cost.md

The demo's fleet gives the windows: three pools, one step a minute. Every tree steps the same ones in a process of its
own; of several rounds the cheapest counts. The reference is taken from git and runs with today's packages. Each process
steps four bare forecasters beside the engine, window by window: what else runs on the machine costs both alike, so
ratios to them are steadier than seconds. Between trees, whose forecasters are the same code, such ratios are compared,
too. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.control.recording import record

_ROOT = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("cost_worker.py")
#: The commit before the controller was made cheaper.
_REFERENCE = "ed94919"
_STAGES = ("forecast", "tenants", "outlooks", "calibration", "sizing", "spikes")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=288, help="minutes of history that are stepped")
    parser.add_argument("--skip", type=int, default=0, help="steps at the beginning that are not counted")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--reference", default=_REFERENCE, help="commit to compare with")
    parser.add_argument("--results", type=Path, help="where to write the table as Markdown")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokentide-cost-") as folder:
        text = _measure(asked, Path(folder))
    print(text)
    if asked.results is not None:
        asked.results.write_text(text + "\n", encoding="utf-8")


def _measure(asked: argparse.Namespace, folder: Path) -> str:
    reference = folder / "reference"
    archive = subprocess.run(["git", "archive", asked.reference], cwd=_ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(reference, filter="data")
    windows = {}
    for name, tenants in (("plain", False), ("tenants", True)):
        windows[name] = folder / f"{name}.pkl"
        windows[name].write_bytes(pickle.dumps(record(asked.steps, tenants=tenants)))
    advice = {"today": folder / "today.json", "reference": folder / "reference.json"}

    def run(tree: str, feed: str) -> dict[str, Any]:
        options = ["--skip", str(asked.skip)]
        if feed == "plain":
            options += ["--advice", str(advice[tree])]
        done = subprocess.run(
            [sys.executable, str(_WORKER), str(windows[feed]), *options],
            env=os.environ | {"PYTHONPATH": str(_ROOT if tree == "today" else reference)},
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    kinds = {
        "engine": ("today", "plain"),
        "reference": ("reference", "plain"),
        "with tenants": ("today", "tenants"),
    }
    best: dict[str, dict[str, Any]] = {}
    for _ in range(asked.rounds):
        for kind, what in kinds.items():
            found = run(*what)
            if kind not in best or found["total"] < best[kind]["total"]:
                best[kind] = found
    same = best["engine"]["forecasts"] == best["reference"]["forecasts"]
    return _report(asked, best, same, _compare(*(json.loads(path.read_text()) for path in advice.values())))


def _compare(today: list[list[Any]], reference: list[list[Any]]) -> str:
    pairs = list(zip(today, reference, strict=True))
    desired = sum(a[3] != b[3] for a, b in pairs)
    capacity = sorted(abs(a[8] / b[8] - 1.0) for a, b in pairs if a[8] and b[8])
    middle, most = (capacity[len(capacity) // 2], capacity[-1]) if capacity else (0.0, 0.0)
    return (
        f"{desired} of {len(pairs)} recommendations differ in their replicas; the capacity of a replica differs by "
        f"{middle:.2%} in the median and {most:.2%} at most"
    )


def _report(asked: argparse.Namespace, best: dict[str, dict[str, Any]], same: bool, advice: str) -> str:
    count = len(best["engine"]["each"])
    today, reference, tenants = (best[kind] for kind in ("engine", "reference", "with tenants"))
    four = today["bare"]
    own, theirs = today["total"] / four, reference["total"] / reference["bare"]
    bars = [
        ("all of it over four bare forecasters", own, "≤ 1.7", own <= 1.7),
        ("all of it over these four stepped together", today["total"] / today["stages"]["forecast"], "", True),
        ("its p99 over four bare forecasters", p99 := _quantile(today, 0.99) * count / 1e3 / four, "≤ 8", p99 <= 8.0),
        (
            f"CPU of {asked.reference} over today's",
            cpu := reference["total"] / today["total"],
            "≥ 8",
            cpu >= 8.0,
        ),
        ("the same, each over its bare forecasters", theirs / own, "≥ 8", theirs / own >= 8.0),
        (
            "with four tenant series over eight bare forecasters",
            eight := tenants["total"] / (2.0 * tenants["bare"]),
            "≤ 1.7",
            eight <= 1.7,
        ),
    ]
    lines = [
        "# What a pool-window costs the controller's core",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}) shared with other work, Python "
        f"{platform.python_version()}, NumPy {np.__version__}; {count} pool-windows after {asked.skip} steps, the "
        f"cheapest of {asked.rounds} rounds. CPU milliseconds per pool-window.",
        "",
        "```",
        f"python -m benchmarks.control.cost --steps {asked.steps} --skip {asked.skip} --rounds {asked.rounds} "
        "--results benchmarks/control/cost.md",
        "```",
        "",
        f"| stage | today | {asked.reference} | today, four tenant series |",
        "|---|---|---|---|",
    ]
    engines = [today, reference, tenants]
    lines += [
        f"| {stage} | " + " | ".join(f"{1e3 * e['stages'][stage] / count:.2f}" for e in engines) + " |"
        for stage in _STAGES
    ]
    rest = (1e3 * (e["total"] - sum(e["stages"].values())) / count for e in engines)
    lines.append("| the rest | " + " | ".join(f"{value:.2f}" for value in rest) + " |")
    lines.append("| **all** | " + " | ".join(f"**{1e3 * e['total'] / count:.2f}**" for e in engines) + " |")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        lines.append(f"| {name} | " + " | ".join(f"{_quantile(e, share):.2f}" for e in engines) + " |")
    lines += [
        "| four bare forecasters | " + " | ".join(f"{1e3 * e['bare'] / count:.2f}" for e in engines) + " |",
        "",
        "| ratio | | bar | |",
        "|---|---|---|---|",
        *(
            f"| {name} | {value:.2f} | {bar} | {'' if not bar else 'holds' if holds else '**missed**'} |"
            for name, value, bar, holds in bars
        ),
        "",
        f"Forecasts of both trees are {'identical' if same else '**not identical**'}. Of the advice, {advice}.",
    ]
    return "\n".join(lines)


def _quantile(found: dict[str, Any], share: float) -> float:
    return 1e3 * float(np.quantile(found["each"], share))


if __name__ == "__main__":
    main()
