"""Pictures for the guide: fans over real traces, the experts' weights over time, coverage.

    python benchmarks/forecast/pictures.py --traces FOLDER [--out docs/images]

Needs matplotlib (``requirements.txt``). Forecasts are those of the shipped forecaster, prequential, an hour ahead.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from traces import TRACES, WORLDCUP_START, load, matches

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

HOUR = 3600
#: Trace, first day shown, days shown.
FANS = (("az_5min", 2.0, 2.0), ("burst_conversation_1h", 12.0, 5.0), ("servegen_mid_10min", 4.0, 3.0))
COVERED = ("az_5min", "burst_tokens_5min", "servegen_mid_10min", "nasa_5min", "worldcup_5min")
_INK, _BLUE, _GREEN = "#222222", "#2563a8", "#1b7f5c"


@dataclass(frozen=True)
class Story:
    """An hour ahead: quantiles (windows, levels), weights (windows, experts), moved to the windows they are about."""

    days: np.ndarray
    values: np.ndarray
    quantiles: np.ndarray
    weights: np.ndarray
    names: tuple[str, ...]
    step: int


def tell(folder: Path, name: str, calendar: tuple[CalendarRecord, ...] = (), start: float = 0.0) -> Story:
    """Run the shipped forecaster over a trace."""
    trace, values = TRACES[name], load(folder, name)
    grain, step = trace.grain_seconds, HOUR // trace.grain_seconds
    model = SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), (HOUR,), grain)
    quantiles = np.full((len(values) + step, len(LEVELS)), np.nan)
    weights = np.zeros((len(values), len(model.pool.names)))
    for at, value in enumerate(values.tolist()):
        quantiles[at + step] = model.step(start + (at + 1.0) * grain, value, calendar)[0].quantiles
        weights[at] = model.pool.weights[0]
    days = (np.arange(len(values)) + 1.0) * grain / 86_400
    return Story(days, values, quantiles[: len(values)], weights, model.pool.names, step)


def fan(axes: Axes, story: Story, first: float, days: float, title: str, colour: str = _BLUE) -> None:
    """Bands of 90, 80 and 50 %, the median, and what came."""
    shown = (story.days > first) & (story.days <= first + days)
    x = story.days[shown]
    for low, high, shade in ((0, 6, 0.16), (1, 5, 0.2), (2, 4, 0.3)):
        told = story.quantiles[shown]
        axes.fill_between(x, told[:, low], told[:, high], color=colour, alpha=shade, linewidth=0)
    axes.plot(x, story.quantiles[shown][:, 3], color=colour, linewidth=1.2, label="median, an hour ahead")
    axes.plot(x, story.values[shown], color=_INK, linewidth=0.7, label="what came")
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlim(first, first + days)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def fans(folder: Path, out: Path) -> None:
    figure, rows = plt.subplots(len(FANS), 1, figsize=(9, 7.5), constrained_layout=True)
    for axes, (name, first, days) in zip(rows, FANS, strict=True):
        unit = "requests/s"
        fan(axes, tell(folder, name), first, days, f"{name}: {unit}, an hour ahead; bands of 50, 80 and 90 %")
    rows[0].legend(fontsize=8, frameon=False, loc="upper left")
    rows[-1].set_xlabel("days since the trace began", fontsize=8)
    save(figure, out / "forecast-fans.png")


def calendar_fan(folder: Path, out: Path) -> None:
    records = matches(folder)
    # Late in the group stage: a dozen match days have been learned.
    first = 53.0
    figure, rows = plt.subplots(2, 1, figsize=(9, 5.2), sharex=True, sharey=True, constrained_layout=True)
    for axes, known, title, colour in (
        (rows[0], (), "World Cup 1998, an hour ahead, without the fixture list", _BLUE),
        (rows[1], records, "… with the fixture list (kick-off times only)", _GREEN),
    ):
        fan(axes, tell(folder, "worldcup_5min", known, WORLDCUP_START), first, 1.5, title, colour)
        for record in records:
            day = (record.starts_at - WORLDCUP_START) / 86_400
            if first < day < first + 1.5:
                axes.axvspan(day, (record.ends_at - WORLDCUP_START) / 86_400, color="#cc7722", alpha=0.12, linewidth=0)
    rows[0].legend(fontsize=8, frameon=False, loc="upper left")
    rows[1].set_xlabel("days since 1998-05-01 UTC; shaded: matches", fontsize=8)
    rows[0].set_ylabel("requests/s", fontsize=8)
    save(figure, out / "forecast-calendar.png")


def weights(folder: Path, out: Path) -> None:
    figure, rows = plt.subplots(2, 1, figsize=(9, 6), constrained_layout=True)
    for axes, name in zip(rows, ("az_5min", "servegen_mid_10min"), strict=True):
        story = tell(folder, name)
        axes.stackplot(story.days, story.weights.T, labels=story.names, colors=plt.get_cmap("tab20").colors)
        axes.set_title(f"{name}: weights of the experts, an hour ahead", loc="left", fontsize=9)
        axes.set_xlim(0, story.days[-1])
        axes.set_ylim(0, 1)
        axes.tick_params(labelsize=8)
    rows[0].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    rows[-1].set_xlabel("days since the trace began", fontsize=8)
    save(figure, out / "forecast-weights.png")


def coverage(folder: Path, out: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 3.6), constrained_layout=True)
    for name in COVERED:
        story = tell(folder, name)
        day = TRACES[name].day
        below = (story.values <= story.quantiles[:, LEVELS.index(0.95)]).astype(float)[2 * day :]
        share = np.convolve(below, np.ones(day) / day, mode="valid")
        axes.plot(np.arange(share.size) / day + 3.0, share, linewidth=1.0, label=f"{name} ({below.mean():.3f})")
    axes.axhline(0.95, color=_INK, linewidth=0.8, linestyle="--")
    axes.axhspan(0.94, 0.96, color=_INK, alpha=0.06, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks([3, 5, 10, 20, 50], ["3", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set_ylim(0.8, 1.0)
    axes.set_title(
        "Share of windows at or below q95 over the last day, an hour ahead (overall)", loc="left", fontsize=9
    )
    axes.set_xlabel("days since the trace began", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right", ncols=2)
    save(figure, out / "forecast-coverage.png")


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where the pictures go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for draw in (fans, calendar_fan, weights, coverage):
        draw(arguments.traces, arguments.out)


if __name__ == "__main__":
    main()
