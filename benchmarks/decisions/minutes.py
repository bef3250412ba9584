"""One cell minute by minute: what came, what each policy had and served, and why Tokentide advised what it did.

python -m benchmarks.decisions.minutes --traces FOLDER --cell NAME [--beside reactive,static-peak] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from benchmarks.decisions.cases import Cell, cells
from pipeline.config.settings import Settings
from pipeline.evaluate.load_test import within_slo
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Setup
from pipeline.evaluate.policies.oracle import needed_replicas
from pipeline.evaluate.policies.registry import chosen_policies
from pipeline.evaluate.policies.tokentide import SPEC, Tokentide
from pipeline.evaluate.run import Run, make_setup, replicas_over_time, run_policy
from sizing.catalog import Catalog
from sizing.start_up import StartUp
from sizing.types import Recommendation

_MINUTE = 60.0
#: What of the evidence is written down, by the column that it gets.
_EVIDENCE = {
    "observed_per_s": "observed_requests_per_second",
    "provisioned_per_s": "demand_requests_per_second",
    "each_per_s": "capacity_requests_per_second_per_replica",
    "needed_exact": "replicas_needed_by_requests",
    "dispersion": "dispersion",
}


class _Watched(Tokentide):
    """Tokentide, with its newest advice of every minute of the simulation kept."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.pool.under_to_over_cost)
        self.said: dict[int, Recommendation] = {}

    def decide(self, metrics: FleetMetrics) -> int:
        """Decide, and keep what was said."""
        wanted = super().decide(metrics)
        if self.advice is not None:
            self.said[int((metrics.now_seconds - 1e-6) // _MINUTE)] = self.advice
        return wanted


def set_up(cell: Cell, folder: Path) -> Setup:
    """Return what all policies of a cell share, as the benchmark runs it."""
    pool = cell.pool.model_copy(update={"lead_time_seconds": cell.start_up_seconds})
    return make_setup(
        cell.trace(folder),
        Settings(pools=(pool,)),
        pool,
        Catalog(),
        start_up=StartUp(cell.start_up_seconds),
        world=cell.world,
        seed=0,
    )


def _columns(name: str, run: Run, setup: Setup, minutes: int) -> dict[str, list[object]]:
    """Return what a policy paid for and had ready on average, and the share within the SLO by minute of arrival."""
    at = np.arange(0.0, minutes * _MINUTE, 10.0)
    paid, ready = (
        replicas_over_time(run, at, ready=value).reshape(minutes, -1).mean(axis=1) for value in (False, True)
    )
    outcome = run.outcome
    met = within_slo(outcome.ttft_seconds, outcome.tpot_seconds, setup.pool.slo()) & outcome.finished
    minute = np.minimum((outcome.requests.arrival_seconds // _MINUTE).astype(np.int64), minutes - 1)
    count = np.bincount(minute, minlength=minutes)
    good = np.bincount(minute, weights=met.astype(np.float64), minlength=minutes)
    share: list[object] = [round(float(g / n), 3) if n else "" for g, n in zip(good, count, strict=True)]
    return {
        f"{name}_paid": [round(float(value), 2) for value in paid],
        f"{name}_ready": [round(float(value), 2) for value in ready],
        f"{name}_within": share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--cell", required=True, help="its whole name")
    parser.add_argument("--beside", default="reactive", help="other policies, by name")
    parser.add_argument("--csv", type=Path, help="where to write; without it, stdout")
    args = parser.parse_args()
    cell = next(cell for cell in cells() if cell.name == args.cell)
    setup = set_up(cell, args.traces)
    minutes = max(int(np.ceil(setup.end_seconds / _MINUTE)), 1)
    arrived = np.bincount((setup.requests.arrival_seconds // _MINUTE).astype(np.int64), minlength=minutes)[:minutes]
    watched = _Watched(setup)
    table: dict[str, list[object]] = {
        "minute": list(range(minutes)),
        "came_per_s": [round(float(count / _MINUTE), 2) for count in arrived],
        "needed_by_load_test": [int(value) for value in needed_replicas(setup, 1.0)],
    }
    table |= _columns(SPEC.name, run_policy(setup, watched, world=cell.world, seed=0), setup, minutes)
    for spec in chosen_policies(args.beside) if args.beside else ():
        table |= _columns(spec.name, run_policy(setup, spec.policy(setup), world=cell.world, seed=0), setup, minutes)
    advice = [watched.said.get(minute) for minute in range(minutes)]
    for column, key in _EVIDENCE.items():
        table[column] = [
            "" if said is None or key not in said.evidence else round(said.evidence[key], 3) for said in advice
        ]
    table["desired"] = ["" if said is None else said.desired for said in advice]
    table["reason"] = ["" if said is None else str(said.reason) for said in advice]
    table["message"] = ["" if said is None else said.message for said in advice]
    file = sys.stdout if args.csv is None else args.csv.open("w", encoding="utf-8", newline="")
    writer = csv.writer(file)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))


if __name__ == "__main__":
    main()
