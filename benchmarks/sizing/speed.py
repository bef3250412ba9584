"""What sizing costs: learning, asking, recommending, ranking and importing.

    python benchmarks/sizing/speed.py

Prints Markdown.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sizing.calibration.calibrator import calibrated
from sizing.calibration.measurement import ObservedPoint
from sizing.compare import Option, compare, configurations, rank
from sizing.planning.plan import plan
from sizing.replica.memory import resolve
from sizing.types import Demand, Deployment, PolicyConfig, Slo, Workload

#: What a shell runs before a command is known.
CLI = "import pipeline.cli.main"


def import_seconds(code: str) -> float:
    """Seconds that the modules of ``code`` take by ``python -X importtime``, Python's own left out; the least of 5."""
    found = []
    for _ in range(5):
        command = [sys.executable, "-X", "importtime", "-c", code]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        first = next(index for index, line in enumerate(lines) if line.rstrip().endswith("| site"))
        told = (line.split("|")[0].removeprefix("import time:") for line in lines[first + 1 :])
        found.append(sum(float(each) for each in told if each.strip().isdigit()) / 1e6)
    return min(found)


def speed() -> list[str]:
    """Cost of learning, asking, recommending, ranking and importing; CPU seconds of this process on one core."""
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    base = ObservedPoint(1000, 200, 0.012, 0.05, concurrency=16.0)
    points = [replace(base, input_tokens=500.0 + 50 * i, concurrency=4.0 + 2 * i) for i in range(48)]

    def cpu(work: Callable[[], object], times: int) -> float:
        work()
        began = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - began) / times

    learned = calibrated(resolved, points)
    learning = cpu(lambda: calibrated(resolved, points), 3)
    asking = cpu(lambda: learned.at(Workload(1000, 200), 16.0), 50)
    lengths = iter(range(10_000))
    slo = Slo()

    def recommend() -> object:
        # Another workload every time: nothing is remembered.
        tokens = 500.0 + 7 * next(lengths)
        demand = Demand((0.1, 0.5, 0.9), (5.0, 20.0, 40.0), Workload(tokens, 200.0), 120.0)
        return plan(demand, resolved.deployment, slo, PolicyConfig())

    recommending = cpu(recommend, 50)

    base_option = Option(
        "now", Deployment("llama-3.3-70b", "h100-sxm", tensor_parallel=4), Workload(2000, 300), slo, 30.0
    )
    options = [
        option
        for model in ("llama-3.3-70b", "deepseek-v3", "qwen3-32b", "llama-3.1-8b")
        for option in configurations(
            replace(base_option, deployment=replace(base_option.deployment, model=model)),
            gpus=("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x"),
            precisions=("bf16", "fp8", "int4"),
            kv_precisions=(None, "fp8"),
            tensor_parallel=(1, 2, 4, 8),
        )
    ]
    fitting = sum(outcome.fits for outcome in compare(options))
    ranking = cpu(lambda: rank(compare(options)), 3) / len(options) * 10_000
    modules = "sizing.planning.known_point, sizing.planning.plan, sizing.calibration.table, sizing.report"
    code = f"import time; b = time.process_time(); import {modules}; print(time.process_time() - b)"
    importing = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    packages = {what: import_seconds(code) for what, code in (("sizing", "import sizing"), ("the command line", CLI))}
    return [
        "# Sizing: speed",
        "",
        f"`python benchmarks/sizing/speed.py`, {datetime.datetime.now(datetime.UTC).date()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores, others working on them. "
        "CPU time on one core.",
        "",
        "| what | seconds |",
        "|---|---|",
        f"| learn 48 points at once | {learning:.4f} |",
        f"| ask the result | {asking:.5f} |",
        f"| one recommendation, workload not seen before | {recommending:.4f} |",
        f"| 10,000 configurations sized and ranked ({len(options)} measured, {fitting} of them fit) | {ranking:.1f} |",
        f"| import {modules} | {importing:.2f} |",
        *(f"| import of {what}, by -X importtime | {seconds:.3f} |" for what, seconds in packages.items()),
    ]


if __name__ == "__main__":
    print("\n".join(speed()))
