"""What rules attain at which cost that know what one replica carries and what has come up to now, but not what comes.

Observed demand of the newest minute, seen at once and every 15 s, times a headroom, over what a replica carries by the
load test in the very world of the cell, plus spare replicas; down after a stabilisation period. The sweep shows what is
within reach without foresight: the oracle, which an aim may be stated against, has it. It is the best of these rules
with hindsight, not a bound of all rules.

python -m benchmarks.decisions.informed --traces FOLDER --cell NAME [--attain 0.98]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.decisions.cases import cells
from benchmarks.decisions.minutes import set_up
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Stabiliser
from pipeline.evaluate.result import policy_result
from pipeline.evaluate.run import run_policy

__all__ = ["Informed", "Tried", "frontier"]

_WINDOW_SECONDS = 60.0
_HEADROOMS = (1.0, 1.15, 1.3, 1.5)
_SPARES = (0, 1, 2)
_HOLDS_SECONDS = (0.0, 120.0, 300.0)


class Informed:
    """A rule that knows ``capacity``, requests/s of one replica: ceil(headroom · demand / capacity) + ``spare``.

    ``hold_seconds``: it goes down to the most that it wished for in so long.
    """

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, capacity: float, headroom: float, spare: int, hold_seconds: float) -> None:
        self._capacity, self._headroom, self._spare = capacity, headroom, spare
        self._stabiliser = Stabiliser(hold_seconds)

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas for what came in the newest minute."""
        seen = min(_WINDOW_SECONDS, max(metrics.now_seconds, 1.0))
        rate = metrics.arrivals(seen) / seen
        wanted = math.ceil(self._headroom * rate / self._capacity - 1e-9) + self._spare
        return self._stabiliser.apply(metrics.now_seconds, metrics.replicas, wanted)


class Tried(NamedTuple):
    """One rule of the sweep: mean replicas paid for, share within the SLO (0 to 1), and what it was made with."""

    mean_replicas: float
    attainment: float
    headroom: float
    spare: int
    hold_seconds: float


def frontier(tried: Iterable[Tried]) -> list[Tried]:
    """Return those that no cheaper one attains as much as, by cost."""
    found: list[Tried] = []
    for rule in sorted(tried, key=lambda rule: (rule.mean_replicas, -rule.attainment)):
        if not found or rule.attainment > found[-1].attainment:
            found.append(rule)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--cell", required=True, help="its whole name")
    parser.add_argument("--attain", type=float, default=0.98, help="the share within the SLO that is asked for")
    args = parser.parse_args()
    cell = next(cell for cell in cells() if cell.name == args.cell)
    setup = set_up(cell, args.traces)
    tried = []
    for headroom, spare, hold in product(_HEADROOMS, _SPARES, _HOLDS_SECONDS):
        rule = Informed(setup.load_test.requests_per_second, headroom, spare, hold)
        run = run_policy(setup, rule, world=cell.world, seed=0)
        result = policy_result("informed", run, setup, score_from_seconds=cell.score_from_seconds)
        assert result.slo_attainment is not None, "every cell has requests that are scored"
        tried.append(Tried(result.mean_replicas, result.slo_attainment, headroom, spare, hold))
    print("| within SLO | mean replicas | headroom | spare | held, s |\n|---|---|---|---|---|")
    for found in frontier(tried):
        told = f"{found.headroom:g} | {found.spare} | {found.hold_seconds:g}"
        print(f"| {found.attainment:.2%} | {found.mean_replicas:.2f} | {told} |")
    enough = [rule for rule in tried if rule.attainment >= args.attain]
    least = min(enough, key=lambda rule: rule.mean_replicas, default=None)
    print(f"at least {args.attain:.1%}: " + ("none" if least is None else f"{least.mean_replicas:.2f} mean replicas"))


if __name__ == "__main__":
    main()
