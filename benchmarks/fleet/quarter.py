"""Quarter plans against what came: coverage of the weekly bands, and cost against the clairvoyant commitment.

    python benchmarks/fleet/quarter.py --data FOLDER [--series 24] [--paths 300]

Prints Markdown. Public traces (BurstGPT, World Cup 1998, NASA) are planned 1 and 2 weeks ahead on every day after the
first ten. They are too short for a quarter: 13 weeks ahead is planned on seeded synthetic series of two years, with
known growth, week, year and a break, at four origins of the second year.

The scale is chosen so that the busiest past hour needs 40 replicas of one GPU. A commitment costs ``1 - DISCOUNT`` of
the price on demand. "clairvoyant" commits to what would have cost the least with the demand that came.
"""

from __future__ import annotations

import argparse
import datetime
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "forecast"))

from traces import load

from pipeline.forecast.day_paths import PathSource
from sizing.catalog import Price
from sizing.planning.commitments import Commitment, CommitmentOption, HourlyPrices, best_commitments, spend
from sizing.planning.quarter import PoolDemand, gpus_needed, week_bands

WEEK = 168
DISCOUNTS = (0.2, 0.4, 0.6)
PEAK_REPLICAS = 40
#: Name, and windows per hour.
PUBLIC = {"burst_all_1h": 1, "worldcup_5min": 12, "nasa_5min": 12}


@dataclass
class Score:
    """Sums over the origins of one row."""

    origins: int = 0
    weeks: int = 0
    covered: dict[str, int] = field(default_factory=dict)
    dollars: dict[tuple[float, str], float] = field(default_factory=dict)

    def add(self, name: str, hit: bool) -> None:
        """Count one week whose value was at most a band's."""
        self.covered[name] = self.covered.get(name, 0) + int(hit)


def synthetic(seed: int) -> tuple[np.ndarray, str]:
    """Two years of hourly rates: growth that changes once, a day, a week, a year, noise that lasts, and a break."""
    random = np.random.default_rng(seed)
    hours = np.arange(728 * 24)
    days = hours / 24
    growth = random.uniform(-0.0005, 0.0025)
    later = growth + random.normal(0, 0.0008)
    turn, step_at = random.uniform(200, 700), random.uniform(150, 700)
    logs = growth * np.minimum(days, turn) + later * np.maximum(days - turn, 0)
    jump = random.choice([-0.3, 0.0, 0.3, 0.5])
    logs += jump * (days > step_at)
    logs += random.uniform(0, 0.25) * np.sin(2 * np.pi * (days - random.uniform(0, 365)) / 365)
    weekend = random.uniform(0.4, 1.0)
    logs += np.where(days.astype(int) % 7 >= 5, math.log(weekend), 0.0)
    slow, walk = 0.0, np.empty(728)
    for day, shock in enumerate(random.normal(0, 0.04, 728)):
        slow = 0.9 * slow + shock
        walk[day] = slow
    logs += np.repeat(walk, 24)
    shape = 1 + random.uniform(0.2, 0.8) * np.sin(2 * np.pi * (hours % 24 - random.uniform(0, 24)) / 24)
    rates = 100 * np.exp(logs) * shape * random.lognormal(0, 0.1, hours.size)
    return rates, f"{growth:+.2%} then {later:+.2%} a day, break {jump:+.0%}"


def scored(rates: np.ndarray, origins: Sequence[int], weeks: int, paths: int, score: Score) -> None:
    """Plan at each origin (days since the start), and add what came."""
    source, learned = PathSource(), 0
    for origin in origins:
        source.learn(learned, rates[learned : origin * 24])
        learned = origin * 24
        drawn = source.draw(weeks, paths, origin)
        if drawn is None:
            continue
        came = rates[learned : learned + weeks * WEEK]
        score.origins += 1
        for band, actual in zip(week_bands(drawn.rates), week_bands(came[None, :]), strict=True):
            score.weeks += 1
            for index, level in enumerate(("P50", "P80", "P95")):
                score.add(f"mean {level}", actual.mean[0] <= band.mean[index])
                score.add(f"peak {level}", actual.peak[0] <= band.peak[index])
        carried = float(np.nanmax(rates[:learned])) / PEAK_REPLICAS
        needed, real = (
            gpus_needed(PoolDemand("pool", values, carried, 1, 1, {})) for values in (drawn.rates, came[None, :])
        )
        hourly = HourlyPrices(Price(1.0, "unit", "2026-11"))
        for discount in DISCOUNTS:
            option = CommitmentOption("commitment", "gpu", "reserved", Price(1 - discount, "unit", "2026-11"), weeks)
            mean = Commitment(option, round(float(needed.mean())), None)
            last = gpus_needed(PoolDemand("pool", rates[None, learned - WEEK : learned], carried, 1, 1, {}))
            plans = {
                "plan": best_commitments(needed, hourly, [option]),
                "clairvoyant": best_commitments(real, hourly, [option]),
                "on demand": (),
                "mean": (mean,),
                "last week": best_commitments(last, hourly, [option]),
            }
            least = float(spend(real, hourly, plans["clairvoyant"]).total[0])
            for name, commitments in plans.items():
                # Each origin counts the same, however much its demand is.
                known = score.dollars.get((discount, name), 0.0)
                score.dollars[discount, name] = known + float(spend(real, hourly, commitments).total[0]) / least


def public(folder: Path, weeks: int, paths: int) -> Iterator[tuple[str, Score]]:
    """Each public trace, planned at every day that has ten before and ``weeks`` after it."""
    for name, per_hour in PUBLIC.items():
        values = load(folder, name)
        rates = values[: len(values) // per_hour * per_hour].reshape(-1, per_hour).max(axis=1)
        score = Score()
        scored(rates, range(10, len(rates) // 24 - 7 * weeks + 1), weeks, paths, score)
        yield name, score


def rows(found: Iterator[tuple[str, Score]] | list[tuple[str, Score]]) -> tuple[list[str], list[str]]:
    """Lines of the table of coverage and of the table of cost."""
    coverage, cost = [], []
    for name, score in found:
        shares = [
            f"{score.covered[f'{what} {level}'] / score.weeks:.2f}"
            for what in ("mean", "peak")
            for level in ("P50", "P80", "P95")
        ]
        coverage.append(f"| {name} | {score.origins} | {' | '.join(shares)} |")
        for discount in DISCOUNTS:
            ratios = [
                f"{score.dollars[discount, plan] / score.origins - 1:.1%}"
                for plan in ("plan", "last week", "mean", "on demand")
            ]
            cost.append(f"| {name} | {discount:.0%} | {' | '.join(ratios)} |")
    return coverage, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--series", type=int, default=24)
    parser.add_argument("--paths", type=int, default=300)
    asked = parser.parse_args()
    start = time.process_time()
    found: list[tuple[str, Score]] = []
    if asked.data is not None:
        for weeks in (1, 2):
            found += [(f"{name}, {weeks} wk", score) for name, score in public(asked.data, weeks, asked.paths)]
    together = Score()
    for seed in range(asked.series):
        rates, _ = synthetic(seed)
        scored(rates, (371, 455, 546, 637), 13, asked.paths, together)
    found.append((f"{asked.series} synthetic series, 13 wk", together))
    coverage, cost = rows(found)
    spent = time.process_time() - start
    print(f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {asked.paths} paths, CPU {spent:.0f} s\n")
    print("Share of weeks whose demand was at most the band's:\n")
    print(
        "| series | origins | mean P50 | P80 | P95 | busiest hour P50 | P80 | P95 |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(coverage))
    print("\nCost above the clairvoyant commitment, mean over origins:\n")
    print("| series | discount | plan | last week's demand | mean demand | on demand only |\n|---|---|---|---|---|---|")
    print("\n".join(cost))


if __name__ == "__main__":
    main()
