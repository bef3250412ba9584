"""Writes forecasts of your own for the expert ``external``: here, the median of the same time on earlier days.

Usage: python write_forecasts.py demand.csv forecasts.csv

``demand.csv`` has the columns timestamp (epoch seconds at which a window begins) and count (requests in it). Replace
``quantiles`` by your model; it may look at ``past`` only, which is what was known when the forecast was issued.
"""

import csv
import statistics
import sys

MODEL, POOL = "llama-3.1-8b-instruct", "chat"  # as the events name them
STEP_SECONDS = 1800
AHEAD = 4  # windows that are forecast each time; at least the longest horizon of Tokentide
LEVELS = ("0.1", "0.5", "0.9")


def quantiles(past: dict[int, float], target: int) -> list[float] | None:
    """Return rates per second at LEVELS for the window that ends at ``target``; None: too little is known."""
    days = [past[at] for day in range(1, 15) if (at := target - 86_400 * day) in past]
    if not days:
        return None
    middle = statistics.median(days)
    return [0.8 * middle, middle, 1.2 * middle]


def main(demand: str, forecasts: str) -> None:
    """Issue forecasts at the end of every window, as a program beside Tokentide would."""
    past: dict[int, float] = {}
    with open(demand, newline="") as source, open(forecasts, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["model", "pool", "issued_at", "target_at", *LEVELS])
        for row in csv.DictReader(source):
            now = int(row["timestamp"]) + STEP_SECONDS
            past[now] = float(row["count"]) / STEP_SECONDS  # rates per second, as everything in Tokentide
            for target in range(now + STEP_SECONDS, now + AHEAD * STEP_SECONDS + 1, STEP_SECONDS):
                values = quantiles(past, target)
                if values is not None:
                    writer.writerow([MODEL, POOL, now, target, *(f"{value:.6g}" for value in values)])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} demand.csv forecasts.csv")
    main(*sys.argv[1:])
