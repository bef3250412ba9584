"""Every policy on every cell, in a closed loop; resumable: what is in the results already is not run again.

python -m benchmarks.decisions --traces FOLDER --results benchmarks/decisions/results.jsonl [--match TEXT]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import duckdb
import numpy as np

import pipeline
from benchmarks.decisions.cases import Cell, cells
from benchmarks.decisions.table import write_table
from pipeline.config.settings import Settings
from pipeline.evaluate.evaluation import Question, evaluate
from pipeline.evaluate.policies.registry import chosen_policies
from sizing.catalog import Catalog
from sizing.start_up import StartUp


def run(cell: Cell, folder: Path | None, *, frontier: bool) -> dict[str, object]:
    """Evaluate one cell and return its line of the results."""
    pool = cell.pool.model_copy(update={"lead_time_seconds": cell.start_up_seconds})
    question = Question(
        trace=cell.trace(folder),
        settings=Settings(pools=(pool,)),
        pool=pool,
        catalog=Catalog(),
        start_up=StartUp(cell.start_up_seconds),
        world=cell.world,
        score_from_seconds=cell.score_from_seconds,
    )
    began = time.process_time()
    found = evaluate(question, chosen_policies(None), frontier=frontier).to_dict()
    return {
        "cell": cell.name,
        "frontier_asked": frontier,
        "cpu_seconds": round(time.process_time() - began, 1),
        "versions": {
            "tokentide": pipeline.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "duckdb": duckdb.__version__,
        },
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, help="where the public traces lie; without it, made-up ones alone")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/decisions/results.jsonl"))
    parser.add_argument("--match", default="", help="cells whose name holds this alone")
    parser.add_argument("--frontier", action="store_true", help="sweep every policy's knob, too")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no cell after so long")
    args = parser.parse_args()
    began = time.monotonic()
    lines = args.results.read_text(encoding="utf-8").splitlines() if args.results.exists() else []
    done = {line["cell"] for line in map(json.loads, lines)}
    for cell in cells():
        if cell.name in done or args.match not in cell.name:
            continue
        if cell.folder and (args.traces is None or not args.traces.is_dir()):
            print(f"left out, its trace is missing: {cell.name}")
            continue
        if time.monotonic() - began > args.seconds:
            print(f"left for the next run: {cell.name}")
            continue
        line = json.dumps(run(cell, args.traces, frontier=args.frontier))
        with args.results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(f"done: {cell.name}", flush=True)
    write_table(args.results, args.results.with_suffix(".md"))


if __name__ == "__main__":
    main()
