"""Many pools through the controller as it runs live: what a pool-window costs, and how fast advice is out.

    python -m benchmarks.control.many --folder FOLDER [--pools 10,100,1000,5000] [--hours 14] [--results many.md]

What was measured stays in FOLDER and is not measured again, so a run may be interrupted, or done a number of pools at a
time; ``--under`` names a command that every process runs under, such as ``flock FILE``.

Every run is a process of its own with the real store, engine, publisher (an embedded broker), metrics and HTTP server;
see ``many_worker``. Pools begin in the state of one of twenty that have learned an hour. ``--hours`` adds what 1,000
pools hold that have learned so many hours: after 13.5 all rings of recent windows are full. CPU is that of the
controller's process, all its threads; on a machine that does other work only ratios within one run mean something.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.stream.machine import describe

#: Minutes closed and measured, by pools; two more are closed before.
STEPS = {10: 30, 100: 10, 1_000: 3, 5_000: 1}
RESTARTED = 1_000
#: Pools and minutes of the runs that have learned more; two more minutes are closed before.
LATER_POOLS, LATER_STEPS = 1_000, 6

STAGES = (
    ("apply", "deltas merged into base windows, a transaction"),
    ("begin", "which windows are due, and of which pools"),
    ("read", "windows read from the store, with latencies and completeness"),
    ("close", "closed windows written, a transaction for each part but the last"),
    ("advise", "**the engine**: four signals, spikes, outlooks, sizing, live calibration"),
    ("record", "forecasts, advice, alerts and the last windows written"),
    ("refresh", "`/metrics` lines of the pools of a part"),
    ("prepare", "`/metrics` of the last part, and all lines joined"),
    ("publish", "results encoded and sent to Kafka"),
    ("revise", "three times between two steps: what fleets have reported since, and whether it raises advice"),
    ("record_revision", "… and written, where it does"),
    ("due_state", "state of a thirtieth of the pools pickled and compressed"),
    ("keep", "… and written"),
)


class Workers:
    """Runs the worker, each time in a process of its own, unless the folder knows what it printed."""

    def __init__(self, folder: Path, under: Sequence[str]) -> None:
        self._folder = folder
        self._under = under
        self._path = folder / "measured.json"
        self._known: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self._known = json.loads(self._path.read_text(encoding="utf-8"))

    def run(self, what: str, *options: str, number: int = 0) -> dict[str, Any]:
        """Return what the worker printed; ``number`` tells measurements of the same thing apart."""
        name = " ".join((what, *options, *([str(number)] if number else [])))
        if name not in self._known:
            command = [sys.executable, "-m", "benchmarks.control.many_worker", what, str(self._folder), *options]
            done = subprocess.run([*self._under, *command], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
            self._known[name] = json.loads(done.stdout.splitlines()[-1])
            self._path.write_text(json.dumps(self._known), encoding="utf-8")
        print(name, json.dumps(self._known[name]), flush=True)
        return self._known[name]


def measure(workers: Workers, folder: Path, pools: list[int], minutes: int, hours: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"where": describe(), "runs": {}, "restart": {}, "later": {}}
    found["warm"] = workers.run("warm", "--minutes", str(minutes))
    for count in pools:
        of = ("--pools", str(count))
        before = workers.run("forecasters", *of, number=1)["four_forecasters"]
        workers.run("seed", *of, "--minutes", str(minutes))
        run = workers.run("run", *of, "--steps", str(STEPS.get(count, 4)))
        after = workers.run("forecasters", *of, number=2)["four_forecasters"]
        found["runs"][count] = run | {"four_forecasters": (before + after) / 2}
        if count == RESTARTED:
            for name, extra in (("orderly", ()), ("crashed", ("--crashed",))):
                found["restart"][name] = workers.run("restart", *of, *extra)
        for left in (*folder.glob(f"{count}.duckdb*"), *folder.glob(f"{count}.crashed*")):
            left.unlink()
    for learned in hours:
        of = ("--pools", str(LATER_POOLS))
        workers.run("warm", "--minutes", str(60 * learned))
        workers.run("seed", *of, "--minutes", str(60 * learned))
        found["later"][learned] = workers.run("run", *of, "--steps", str(LATER_STEPS), "--settle", "24", number=learned)
        for left in folder.glob(f"{LATER_POOLS}.*duckdb*"):
            left.unlink()
    return found


def markdown(found: dict[str, Any]) -> str:
    where, runs = found["where"], found["runs"]
    counts = list(runs)
    loads = [run["loadavg"] for run in (*runs.values(), *found["later"].values())]
    versions = where["versions"]

    def row(what: str, cells: Any) -> str:
        return f"| {what} | {' | '.join(cells)} |"

    def table(first: str) -> list[str]:
        return [row(first, (f"{int(n):,} pools" for n in counts)), "|---" * (len(counts) + 1) + "|"]

    def each(text: Any) -> list[str]:
        return [text(run) for run in runs.values()]

    def outside(run: dict[str, Any]) -> float:
        return float(run["cpu"] - run["stages"]["advise"])

    lines = [
        "# Many pools through the controller",
        "",
        f"{where['date']}, {where['cores']} cores ({where['machine']}) shared with other work (load "
        f"{min(loads):.0f} to {max(loads):.0f}), Python "
        f"{where['python']}, DuckDB {versions['duckdb']}, NumPy {versions['numpy']}, aiokafka {versions['aiokafka']}.",
        "",
        "```",
        f"python -m benchmarks.control.many --folder FOLDER --pools {','.join(map(str, counts))} "
        "--results benchmarks/control/many.md",
        "```",
        "",
        f"Every pool begins in the state of one of twenty that have learned {found['warm']['minutes']} minutes; "
        f"{', '.join(f'{STEPS.get(int(n), 4)} minutes' for n in counts)} are closed and measured. One delta a minute "
        "with six base windows and 180 histogram cells of each pool; grain 60 s, four signals, five horizons, results "
        "published to an embedded broker. `four forecasters` are those of a pool's signals stepped alone, before and "
        "after each run.",
        "",
        "## CPU per pool-window, ms",
        "",
        *table("stage"),
        *(row(text, each(lambda r, n=name: f"{r['stages'].get(n, 0) * 1e3:.2f}")) for name, text in STAGES),
        row(
            "deltas decoded, DuckDB's threads and the rest",
            each(lambda r: f"{(r['cpu'] - sum(r['stages'].values())) * 1e3:.2f}"),
        ),
        row("**all**", each(lambda r: f"**{r['cpu'] * 1e3:.2f}**")),
        row("four forecasters", each(lambda r: f"{r['four_forecasters'] * 1e3:.2f}")),
        row("all / four forecasters", each(lambda r: f"{r['cpu'] / r['four_forecasters']:.2f}")),
        row("all but the engine / four forecasters", each(lambda r: f"{outside(r) / r['four_forecasters']:.2f}")),
        row(
            "share of a core at a grain of 60 s",
            (f"{r['cpu'] * int(n) / 60:.1%}" for n, r in runs.items()),
        ),
        "",
        "## From window closed to advice published, s by the wall",
        "",
        "Per pool: from the commit that closed its window to the broker's acknowledgement. *Due* is when event time "
        "had passed the window, for all pools at once.",
        "",
        *table(""),
        *(
            row(f"closed → published, {q}", each(lambda r, q=q: f"{r['closed_to_published'][q]:.2f}"))
            for q in ("p50", "p99", "max")
        ),
        *(row(f"due → published, {q}", each(lambda r, q=q: f"{r['due_to_published'][q]:.2f}")) for q in ("p50", "p99")),
        row("a whole step", each(lambda r: f"{r['wall_per_step']:.2f}")),
        "",
        "## Memory, snapshots, file",
        "",
        *table(""),
        row(
            "anonymous memory less DuckDB's buffers, kB a pool",
            (f"{_outside(r['memory'])[-1] / 1e3 / int(n):,.0f}" for n, r in runs.items()),
        ),
        row(
            "growth over the measured steps, kB a pool and step",
            (f"{_growth(r['memory']) / 1e3 / int(n):,.1f}" for n, r in runs.items()),
        ),
        row("all snapshots, kB a pool", (f"{r['snapshot_bytes'] / 1e3 / int(n):,.0f}" for n, r in runs.items())),
        row("orderly end: CPU s", each(lambda r: f"{r['end']['cpu']:.2f}")),
        row("file, MB", each(lambda r: f"{r['file_bytes'] / 1e6:,.0f}")),
        "",
        "## A scrape of /metrics",
        "",
        *table(""),
        row("MB", each(lambda r: f"{r['scrape']['bytes'] / 1e6:.1f}")),
        row("lines", each(lambda r: f"{r['scrape']['lines']:,}")),
        row("CPU of server and client, ms", each(lambda r: f"{r['scrape']['cpu'] * 1e3:.0f}")),
        row("p50, ms", each(lambda r: f"{r['scrape']['p50'] * 1e3:.0f}")),
        row("p99, ms", each(lambda r: f"{r['scrape']['p99'] * 1e3:.0f}")),
    ]
    lines += _later(found["later"])
    if found["restart"]:
        lines += [
            "",
            f"## Restart with {RESTARTED:,} pools",
            "",
            "| after | advice shown and published | engine where the store is | CPU | pools with valid advice | "
            "steps since the oldest snapshot |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {'an orderly end' if name == 'orderly' else 'a crash'} | {r['shown']:.1f} s | {r['restored']:.1f} s | "
            f"{r['cpu']:.1f} s | {r['advised']:,} | {r['stepped_again']} |"
            for name, r in found["restart"].items()
        ]
    return "\n".join(lines) + "\n"


def _later(runs: dict[int, dict[str, Any]]) -> list[str]:
    """The table of what pools hold that have learned more."""
    if not runs:
        return []
    return [
        "",
        f"## Memory of {LATER_POOLS:,} pools that have learned more",
        "",
        f"Anonymous memory less DuckDB's buffers after each of {LATER_STEPS} minutes, and 24 s later (settled).",
        "",
        "| hours learned | settled, kB a pool | after each minute | snapshots, kB a pool | CPU of a pool-window, ms |",
        "|---|---|---|---|---|",
        *(
            f"| {hours} | {run['settled'] / 1e3 / LATER_POOLS:,.0f} | "
            f"{', '.join(each)} | {run['snapshot_bytes'] / 1e3 / LATER_POOLS:,.0f} | "
            f"{run['cpu'] * 1e3:.2f} |"
            for hours, run in runs.items()
            for each in [[f"{value / 1e3 / LATER_POOLS:,.0f}" for value in _outside(run["memory"][2:])]]
        ),
    ]


def _outside(memory: list[dict[str, float]]) -> list[float]:
    """Bytes of anonymous memory less DuckDB's buffers, after each step."""
    return [sample["anonymous"] - sample["buffers"] for sample in memory]


def _growth(memory: list[dict[str, float]]) -> float:
    """Bytes a step by which memory less DuckDB's buffers grew, from the first measured step on."""
    outside = _outside(memory[2:])
    return 0.0 if len(outside) < 2 else (outside[-1] - outside[0]) / (len(outside) - 1)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.control.many",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the stores are made")
    parser.add_argument("--pools", default="10,100,1000", help="also 5000, which takes minutes of CPU")
    parser.add_argument("--minutes", type=int, default=60, help="what the pools have learned")
    parser.add_argument(
        "--hours", default="", help="also what 1,000 pools hold that have learned so many hours, such as 1,14"
    )
    parser.add_argument("--results", type=Path, help="write the results here as Markdown")
    parser.add_argument("--under", type=shlex.split, default=[], help="a command that every process runs under")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = measure(
        Workers(options.folder, options.under),
        options.folder,
        [int(n) for n in options.pools.split(",") if n],
        options.minutes,
        [int(hours) for hours in options.hours.split(",") if hours],
    )
    text = markdown(found)
    print(text)
    if options.results is not None:
        options.results.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
