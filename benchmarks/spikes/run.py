"""Spikes: labelled series, flash crowds, injected spikes and the Numenta benchmark; prints the results page.

    python benchmarks/spikes/run.py FOLDER [--part PART,...] [--markdown FILE]

Parts: labelled, budget, missed, worldcup, injected, drops, nab, cost. FOLDER holds ``ms_cloud_monitoring``,
``nab``, ``servegen``, ``worldcup98``, ``azure_llm_2024``, ``nasa_http`` and ``burstgpt``. Each part prints its
section when it is done; what is missing is named.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import budget  # noqa: E402
import injected  # noqa: E402
import knn_cad  # noqa: E402
import labelled  # noqa: E402
import missed  # noqa: E402
import nab  # noqa: E402
import numpy as np  # noqa: E402
import published  # noqa: E402
import worldcup  # noqa: E402

from pipeline.alerts.spikes.detector import Kind, SpikeDetector  # noqa: E402
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey  # noqa: E402


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def part_labelled(folder: Path) -> list[str]:
    """Microsoft's labelled series."""
    rows, cost = labelled.measure(folder)
    header = ["detector", "threshold", "recall, traffic", "false/day", "precision"]
    header += ["recall, all", "false/day", "precision", "delay, windows"]
    return [
        "## Labelled series (Microsoft cloud monitoring)",
        "",
        "34 series, 103 labelled events; *traffic* is ingress and purchase rate, 11 series, 29 events. An event is a",
        "run of labelled points, found when an alert lies inside. False alerts a day and series: runs of alerted",
        f"windows that touch no event (in brackets: alerts {labelled.MERGE_WINDOWS} windows or less apart merged; so",
        "counts precision). Tokentide gets the wanted rate and nothing else, one configuration for all series; the",
        "rivals get, for each series, the threshold that finds most of its labels within the rate, which nobody has in",
        "operation.",
        "",
        *_table(header, rows),
        f"Cost here, judging included: {cost:.0f} µs of CPU per series-window.",
        "",
    ]


def part_budget(folder: Path) -> list[str]:
    """The delivered rate of false alerts."""
    header = ["detector", "set to, a day", "series", "series-days", "false a day", "over the setting", "with true ones"]
    header += ["series that hold it", "recall", "recall of rises"]
    return [
        "## False alerts: delivered against set",
        "",
        "Runs of alerted windows that touch no label, from the third day on, over days outside labels; in ServeGen's",
        f"clients (every {budget.EVERY_CLIENT}rd) nothing is labelled and every alert counts as false. *Hold it*: the",
        f"95 % Poisson interval of the series overlaps the setting within a factor of {budget.FACTOR:g}. Recall is",
        "over all labelled events of the series, NAB's windows among them; *rises* are those with a value",
        f"{budget.RISE:g} times the median of the {budget.BEFORE} before. *As live*: sudden rises and falls by",
        f"{budget.RISE:g} times in one rate, without forecasts. *With true ones*: all alerts, those in labels too.",
        "",
        *_table(header, budget.measure(folder)),
    ]


def part_missed(folder: Path) -> list[str]:
    """Labelled events that are missed live."""
    rows, causes = missed.measure(folder)
    return [
        "## What is missed live",
        "",
        f"As live at {missed.SETTING:g} false alert a day. *Score* is the event's greatest over its threshold of then,",
        "both in units of what the tails give (0: too little of a change where it was looked at). *In hindsight*: the",
        "constant multiple that finds most events of a series within the setting, on the same scores.",
        "",
        *_table(["labelled events", "number", "of all"], causes),
        *_table(
            ["series", "first window", "windows", "day", "most over the level", "least", "score", "threshold", "why"],
            rows,
        ),
    ]


def part_worldcup(folder: Path) -> list[str]:
    """Announced flash crowds."""
    rows, gain = worldcup.measure(folder)
    header = ["forecasts", "onsets", "warned at all", "warned ≥ 60 min before", "median lead, min", "false/day"]
    told = "-" if gain is None else f"{100.0 * (gain - 1.0):+.0f} %"
    return [
        "## Announced flash crowds (World Cup 1998)",
        "",
        "Five-minute windows, forecasts learned online from 1 May on, kick-off times as the only calendar. An onset is",
        "the first window with 1.5 times the demand of an hour before and of the day's median before, 10 to 24 June.",
        "No threshold was set: the shipped rule warns at P(demand ≥ 1.5 × max(now, day's median)) ≥ 0.25.",
        "",
        *_table(header, rows),
        f"Recall at 60 minutes, with the calendar against the same rule without: {told}.",
        "",
    ]


def part_injected(folder: Path) -> list[str]:
    """Spikes of known time."""
    header = ["trace", "detector", "recall", *(f"×{factor:g}" for factor in injected.FACTORS)]
    header += ["detect, min (median / p95)", "clear, min", "false/day", "precision"]
    return [
        "## Spikes injected into real traffic",
        "",
        f"Factors ×2 … ×50, ramps of {', '.join(map(str, injected.RAMPS_MINUTES))} minutes up and down around",
        f"{injected.HOLD_MINUTES} minutes at the top, about one a day, at drawn times. *Detect* is from",
        "the first minute of the ramp to the alert, *clear* from the end of the spike to the end of the episode",
        "(negative: before). Tokentide is set to 1 false alert a day; the rules of thumb are as people write them.",
        "Bursts that the traces hold of themselves count as false here.",
        "",
        *_table(header, injected.measure(folder)),
    ]


def part_drops(folder: Path) -> list[str]:
    """Drops of known time."""
    header = ["trace", "detector", "recall", *(f"×{factor:g}" for factor in injected.DROPS)]
    header += ["detect, min (median / p95)", "clear, min", "false/day", "precision"]
    ramps = " and ".join(map(str, injected.DROP_RAMPS_MINUTES))
    return [
        "## Drops injected into real traffic",
        "",
        f"As above, with what is left of the demand, and ramps of {ramps} minutes. False are drops that touch none.",
        "",
        *_table(header, injected.measure_drops(folder)),
    ]


def part_nab(folder: Path) -> list[str]:
    """The Numenta benchmark."""
    corpus = nab.load(folder / "nab")
    halves = [[s for s in corpus if not nab.held_out(s.name)], [s for s in corpus if nab.held_out(s.name)], corpus]
    windows = [sum(len(series.windows) for series in half) for half in halves]

    def row(name: str, detect: Callable[[nab.NabSeries], nab.Bools]) -> list[str]:
        found = {series.name: detect(series) for series in corpus}
        scores = [nab.corpus_score(half, found) for half in halves]
        return [name, *(f"{score:.1f}" for score, _ in scores), str(scores[-1][1]), "-"]

    rows = [
        row(
            f"**Tokentide**, set to {rate:g}/day{told}",
            lambda s, r=rate, k=kind: labelled.product(s.time, s.value, r, k),  # type: ignore[misc]
        )
        for kind, told in ((Kind.ANY, ""), (Kind.SPIKE, ", `--kind spike`"))
        for rate in ((1.0, 0.2, 0.1, 0.05) if kind is Kind.ANY else (0.1, 0.05))
    ]
    rows.append(row("KNN CAD, written anew", lambda s: knn_cad.alerts(s.value)))
    names = {series.name.removesuffix(".csv") for series in corpus}
    rows += [
        [f"{name}, published", "-", "-", f"{nab.normalised(raw, windows[-1]):.1f}", "-", f"{whole:.1f}"]
        for name, raw, whole in published.on_folders({name.split("/")[0] for name in names})
    ]
    return [
        "## Numenta Anomaly Benchmark, standard profile",
        "",
        f"{len(corpus)} series, {windows[-1]} windows: the folders present. The development half are the files whose",
        f"name hashes to an even byte ({len(halves[0])} series, {windows[0]} windows), the held-out half the others",
        f"({len(halves[1])} series, {windows[1]} windows). One configuration for all; its only setting is the rate of",
        "false alerts. *Outside* counts scored alerts outside every window. The published detectors are scored on the",
        f"same folders from their published per-file scores ({published.SOURCE}), whose",
        "threshold was optimised with the labels in view; Tokentide's was not. KNN CAD written anew checks the scorer:",
        "it must equal the published one, but for a file without noise, where its matrix is singular.",
        "",
        *_table(["detector", "development", "held out", "these folders", "outside", "published, whole corpus"], rows),
    ]


def part_cost(folder: Path) -> list[str]:  # noqa: ARG001
    """CPU time of one series-window."""
    values = np.random.default_rng(7).gamma(4.0, 5.0, 20_000).tolist()
    key = SeriesKey("m", "p", "requests_per_second")
    fan = tuple(20.0 * (0.5 + level) for level in LEVELS)
    rows = []
    for name, kind, horizons in (
        ("as live, before there is a forecast", Kind.SPIKE, ()),
        ("as live, with forecasts", Kind.SPIKE, (60, 300, 900, 1800, 3600)),
        ("`tokentide spikes detect`", Kind.ANY, ()),
    ):
        detector = SpikeDetector(1.0, 60.0, kind=kind)
        best = float("inf")
        for chunk in range(4):
            ends = [60.0 * at for at in range(5_000 * chunk, 5_000 * (chunk + 1))]
            told = [tuple(Forecast(key, end - 60.0, horizon, fan) for horizon in horizons) for end in ends]
            part = values[5_000 * chunk : 5_000 * (chunk + 1)]
            began = time.process_time()
            for end, value, forecasts in zip(ends, part, told, strict=True):
                detector.observe(end, value, forecasts)
            best = min(best, (time.process_time() - began) / len(part))
        rows.append([name, f"{best * 1e6:.1f}"])
    return ["## Cost", "", *_table(["detector", "µs of CPU per series-window (best of 4 × 5,000)"], rows)]


PARTS = {
    "labelled": part_labelled,
    "budget": part_budget,
    "missed": part_missed,
    "worldcup": part_worldcup,
    "injected": part_injected,
    "drops": part_drops,
    "nab": part_nab,
    "cost": part_cost,
}


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    page = [
        "# Spikes: measured",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} shared cores, Python {platform.python_version()}, "
        f"numpy {version('numpy')}, River {version('river')}, by",
        "`python benchmarks/spikes/run.py FOLDER --markdown benchmarks/spikes/results.md`, FOLDER being one with the",
        "public traces. What each part means and where the product falls short: docs/spikes.md.",
        "",
    ]
    for name in arguments.part.split(","):
        try:
            page += PARTS[name](arguments.folder)
        except Exception as error:  # a missing trace must not lose the other parts
            page += [f"## {name}", "", f"not measured: {error!r}", ""]
        print(*page, sep="\n", flush=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
