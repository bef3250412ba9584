"""Writes the trace of the story of a launch: python examples/stories/launch.py FOLDER

Synthetic, the same each time: Poisson arrivals on Thursday, 3 December 2026, from 06:30 UTC to 10:00 UTC, four times as
many from 09:00 on.
"""

import csv
import datetime
import sys
from pathlib import Path

import numpy as np

START = datetime.datetime(2026, 12, 3, 6, 30, tzinfo=datetime.UTC).timestamp()
LAUNCH = datetime.datetime(2026, 12, 3, 9, 0, tzinfo=datetime.UTC).timestamp()
END = datetime.datetime(2026, 12, 3, 10, 0, tzinfo=datetime.UTC).timestamp()
REQUESTS_PER_SECOND, TIMES = 0.6, 4.0


def write(path: Path) -> None:
    """Write the requests as CSV."""
    random = np.random.default_rng(1203)
    times = []
    for start, end, rate in (
        (START, LAUNCH, REQUESTS_PER_SECOND),
        (LAUNCH, END, TIMES * REQUESTS_PER_SECOND),
    ):
        times.append(np.sort(random.uniform(start, end, random.poisson(rate * (end - start)))))
    arrived = np.concatenate(times)
    inputs = random.gamma(2.0, 2000.0, arrived.size).astype(int) + 1
    outputs = random.gamma(2.0, 250.0, arrived.size).astype(int) + 1
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("arrived_at", "input_tokens", "output_tokens"))
        rows.writerows(zip((f"{at:.3f}" for at in arrived), inputs, outputs, strict=True))


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "launch.csv")
