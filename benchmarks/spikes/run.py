"""Spikes: labelled series, announced flash crowds, injected spikes and the Numenta benchmark; prints the results page.

    python benchmarks/spikes/run.py FOLDER [--part labelled,worldcup,injected,nab,cost] [--markdown FILE]

FOLDER holds ``ms_cloud_monitoring``, ``nab``, ``worldcup98``, ``azure_llm_2024``, ``nasa_http`` and ``burstgpt``. Each
part prints its section when it is done; what is missing is named.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import injected  # noqa: E402
import labelled  # noqa: E402
import nab  # noqa: E402
import numpy as np  # noqa: E402
import published  # noqa: E402
import worldcup  # noqa: E402

from pipeline.advise.spikes import Direction, SpikeDetector  # noqa: E402
from pipeline.forecast.model import LEVELS  # noqa: E402


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


def part_nab(folder: Path) -> list[str]:
    """The Numenta benchmark."""
    corpus = nab.load(folder / "nab")
    windows = sum(len(series.windows) for series in corpus)
    rows = []
    for rate in (1.0, 0.2, 0.1, 0.05):
        for name, season in (("", None), (", season of a day", 86_400.0)):
            score = nab.corpus_score(corpus, lambda s, r=rate, p=season: _onsets(s, r, p))  # type: ignore[misc]
            rows.append([f"**Tokentide**, {rate:g} false alerts/day{name}", f"{score:.1f}", "-"])
    names = {series.name.removesuffix(".csv") for series in corpus}
    rows += [
        [name, f"{nab.normalised(raw, windows):.1f}", f"{whole:.1f}"]
        for name, raw, whole in published.on_folders({name.split("/")[0] for name in names})
    ]
    return [
        "## Numenta Anomaly Benchmark, standard profile",
        "",
        f"{len(corpus)} series, {windows} windows: the folders present. The published detectors are scored on the same",
        f"folders from their published per-file scores ({published.SOURCE}), whose threshold was",
        "optimised with the labels in view; Tokentide's was not.",
        "",
        *_table(["detector", "score on these folders", "published, whole corpus"], rows),
    ]


def _onsets(series: nab.NabSeries, rate: float, season: float | None) -> nab.Bools:
    grain = max(1.0, float(np.median(np.diff(series.time))))
    detector = SpikeDetector(rate, grain, 1.0, Direction.BOTH, season)
    found = [detector.observe(at, v).began for at, v in zip(series.time.tolist(), series.value.tolist(), strict=True)]
    return np.array(found, dtype=np.bool_)


def part_cost(folder: Path) -> list[str]:  # noqa: ARG001
    """CPU time of one series-window."""
    values = np.random.default_rng(7).gamma(4.0, 5.0, 20_000).tolist()
    rows = []
    for name, forecast in (("alone", False), ("with a forecast", True)):
        detector = SpikeDetector(1.0, 60.0)
        best = float("inf")
        for chunk in range(4):
            part = values[5_000 * chunk : 5_000 * (chunk + 1)]
            began = time.process_time()
            for at, value in enumerate(part):
                quantiles = tuple(20.0 * (0.5 + level) for level in LEVELS) if forecast else None
                detector.observe(60.0 * (5_000 * chunk + at), value, quantiles)
            best = min(best, (time.process_time() - began) / len(part))
        rows.append([name, f"{best * 1e6:.1f}"])
    return ["## Cost", "", *_table(["detector", "µs of CPU per series-window (best of 4 × 5,000)"], rows)]


PARTS = {
    "labelled": part_labelled,
    "worldcup": part_worldcup,
    "injected": part_injected,
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
