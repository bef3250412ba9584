"""Writes the histories of the story of a quarter: python examples/stories/three_models.py FOLDER

Synthetic, the same each time: requests per second by the hour over 26 weeks, with a day, a week, growth and noise.
"""

import csv
import datetime
import sys
from pathlib import Path

import numpy as np

START = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC).timestamp()
HOURS = 26 * 7 * 24
#: Mean requests per second at the start, growth in 26 weeks, share of the day's wave, demand at weekends over workdays.
TEAM = {"assistant": (14.0, 1.5, 0.6, 0.5), "search": (45.0, 1.1, 0.4, 0.9), "code": (4.0, 2.0, 0.8, 0.2)}


def write(folder: Path) -> None:
    """Write one CSV for each model."""
    for seed, (name, (level, growth, wave, weekend)) in enumerate(TEAM.items()):
        random = np.random.default_rng(seed)
        hour = np.arange(HOURS)
        day = 1 + wave * np.sin(2 * np.pi * (hour % 24 - 8) / 24)
        week = np.where(hour // 24 % 7 >= 5, weekend, 1.0)
        rate = level * growth ** (hour / HOURS) * day * week * np.exp(random.normal(0.0, 0.1, HOURS))
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("timestamp", "requests_per_second"))
            rows.writerows((int(START) + 3600 * int(h), f"{value:.4f}") for h, value in zip(hour, rate, strict=True))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
