"""Is a spike of one tenant told as one? ServeGen's clients as tenants, with spikes put into real traffic.

    python benchmarks/spikes/tenants.py --traces FOLDER [--markdown FILE]

At 200 windows drawn per trace (10 minutes each, the second day on) the demand of one client, or of all of them, is
raised so that the whole grows by a factor. What is named is asked of the code that runs live, which has learned the
windows before as they were. Clients are drawn by their share of the demand. Nothing was chosen with these tables in
view.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np

from pipeline.alerts.spikes.attribution import UsualParts
from pipeline.forecast.types import Signal
from pipeline.testing import closed_window
from pipeline.windows.breakdown import breakdown
from pipeline.windows.types import ClosedWindow

GRAIN = 600
HALF_LIFE = 1800.0
DRAWS = 200
GROWTHS = (1.25, 1.5, 2.0, 3.0)
DAY = 86_400 // GRAIN


def window(start: int, counts: dict[str, int]) -> ClosedWindow:
    """A closed window of so many requests by client."""
    made = closed_window(start, sum(counts.values()), grain_seconds=GRAIN, input_tokens=0, output_tokens=0)
    told = breakdown("tenant", {name: (n, 0, 0, 0) for name, n in counts.items() if n}, made)
    return replace(made, breakdown=(told,))


def traffic(folder: Path, model: str) -> list[tuple[int, dict[str, int]]]:
    """(start, requests by client) of every window with requests."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    rows = duckdb.execute(
        "SELECT t_s, client, rate FROM read_parquet(?) WHERE model = ? AND rate > 0 ORDER BY t_s, client",
        [str(folder / "servegen/client_rates_10min.parquet"), model],
    ).fetchall()
    for at, client, rate in rows:
        found[int(at)][str(client)] = round(rate * GRAIN)
    return sorted(found.items())


def named(usual: UsualParts, start: int, counts: dict[str, int]) -> str | None:
    """Whom the rise is put down to."""
    rises = usual.explain(window(start, counts), Signal.REQUESTS)
    return rises[0].value if rises else None


def score(folder: Path, model: str) -> list[str]:
    """Rows of the table of one trace."""
    rows = traffic(folder, model)
    rng = np.random.default_rng(7)
    chosen = set(rng.choice(np.arange(DAY, len(rows)), DRAWS, replace=False).tolist())
    usual = UsualParts(0.5 ** (GRAIN / HALF_LIFE))
    of_one: dict[float, Counter[str]] = defaultdict(Counter)
    of_all: Counter[float] = Counter()
    for at, (start, counts) in enumerate(rows):
        if at in chosen:
            before = copy.deepcopy(usual)
            total = sum(counts.values())
            names = sorted(counts)
            client = str(rng.choice(names, p=np.array([counts[name] for name in names]) / total))
            for growth in GROWTHS:
                risen = counts | {client: counts[client] + round((growth - 1.0) * total)}
                said = named(before, start, risen)
                of_one[growth]["nobody" if said is None else "right" if said == client else "wrong"] += 1
                everybody = {name: round(growth * n) for name, n in counts.items()}
                of_all[growth] += named(before, start, everybody) is not None
        usual.learn(window(start, counts))
    return [
        f"| {model} | x{growth:g} | {of_one[growth]['right'] / DRAWS:.0%} | {of_one[growth]['wrong'] / DRAWS:.0%} | "
        f"{of_one[growth]['nobody'] / DRAWS:.0%} | {of_all[growth] / DRAWS:.0%} |"
        for growth in GROWTHS
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    lines = [
        "# Spikes of one tenant",
        "",
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, Python {platform.python_version()}. Made by `python "
        "benchmarks/spikes/tenants.py --traces FOLDER --markdown benchmarks/spikes/tenants.md`.",
        "",
        *(__doc__ or "").strip().split("\n\n")[2].splitlines(),
        "",
        "| trace | the whole grows | one client: named | another named | nobody named | all clients: somebody named |",
        "|---|---|---|---|---|---|",
        *(row for model in ("m-small", "m-mid") for row in score(options.traces, model)),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
