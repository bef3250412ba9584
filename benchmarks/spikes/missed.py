"""Which labelled events are missed live, and why; and what constant thresholds, chosen in hindsight, would find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import budget
import numpy as np
from labelled import Bools, Labelled
from rivals import Floats

SETTING = 1.0
#: Multiples of the tails' thresholds that are tried in hindsight.
TRIED = np.geomspace(0.05, 12.0, 40)
#: As in the detector: what is news in the rest after an alert.
LOUDER = 1.2


@dataclass(frozen=True, slots=True)
class Scores:
    """Of every window its score (0: it could not be an alert), whether that is one of a fall, what it had to exceed,
    whether it was told, and whether an alert stood; scores are in units of the tails' threshold. ``rest_seconds``: how
    long the detector rests.
    """

    score: Floats
    falls: Bools
    threshold: Floats
    told: Bools
    stood: Bools
    rest_seconds: float


class _Listening:
    """An alert budget that keeps the score that it was last given."""

    def __init__(self, budget_: Any) -> None:
        self._budget = budget_
        self.score = 0.0
        self.falls = False

    @property
    def threshold(self) -> float:
        return float(self._budget.threshold)

    def learn(self, at: float, score: float, *, told: bool, second: bool = False) -> None:
        self.score, self.falls = score, second
        self._budget.learn(at, score, told=told, second=second)


def scores(series: Labelled, setting: float) -> Scores:
    """Run the detector as live, without forecasts."""
    detector = budget.live_detector(setting, max(1.0, float(np.median(np.diff(series.seconds)))))
    listening: Any = _Listening(detector._budget)
    detector._budget = listening
    rows = []
    for at, value in zip(series.seconds.tolist(), series.values.tolist(), strict=True):
        listening.score, listening.falls, threshold = 0.0, False, listening.threshold
        state = detector.observe(at, value)
        rows.append((listening.score, listening.falls, threshold, state.news, state.active))
    score, falls, thresholds, told, stood = (np.array(column) for column in zip(*rows, strict=True))
    return Scores(score, falls, thresholds, told, stood, float(detector._rest_seconds))


def by_constant(series: Labelled, known: Scores, threshold: float) -> Bools:
    """The alerts that a constant threshold gives, by the live rule for reporting them."""
    told = np.zeros(len(known.score), dtype=np.bool_)
    quiet_until, loudest = [-math.inf, -math.inf], [0.0, 0.0]
    for at in np.flatnonzero(known.score > threshold).tolist():
        end, score, falls = float(series.seconds[at]), float(known.score[at]), int(known.falls[at])
        if end >= quiet_until[falls] or score > LOUDER * loudest[falls]:
            told[at] = True
            quiet_until[falls], loudest[falls] = end + known.rest_seconds, score
    return told


def best_constant(series: Labelled, known: Scores, setting: float) -> budget.Delivered:
    """What the constant threshold finds that finds most labelled events of this very series within the setting."""
    best = budget.delivered(series, np.zeros(len(known.score), dtype=np.bool_))
    for threshold in TRIED.tolist():
        found = budget.delivered(series, by_constant(series, known, threshold))
        if found.false <= setting * found.days and found.found > best.found:
            best = found
    return best


def _why(series: Labelled, known: Scores, first: int, end: int) -> str:
    most, least = budget.extremes(series, first, end)
    if most < budget.RISE and least > 1.0 / budget.RISE:
        return "neither a rise nor a fall of 1.25 times"
    if known.stood[first]:
        return "told before it, and still standing"
    if series.seconds[first] < series.seconds[0] + budget.LEARNED_SECONDS:
        return "in the first two days"
    return "below the threshold" if not (known.score > known.threshold)[first:end].any() else "in the rest of another"


def measure(folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of missed events, and of causes: how many events, and what hindsight finds."""
    rows: list[list[str]] = []
    causes: dict[str, int] = {}
    events = found = hindsight = stood = 0
    for series in budget.load(folder):
        if not series.events:
            continue
        known = scores(series, SETTING)
        hindsight += best_constant(series, known, SETTING).found
        for first, end in series.events:
            events += 1
            stood += bool(known.stood[first:end].any())
            if known.told[first:end].any():
                found += 1
                continue
            why = _why(series, known, first, end)
            causes[why] = causes.get(why, 0) + 1
            most, least = budget.extremes(series, first, end)
            at = first + int(np.argmax((known.score / known.threshold)[first:end]))
            rows.append(
                [
                    series.name,
                    str(first),
                    str(end - first),
                    f"{(series.seconds[first] - series.seconds[0]) / 86_400.0:.1f}",
                    f"{most:.2f}" if most < 1e4 else "from 0",
                    f"{least:.2f}" if least < 1e4 else "-",
                    f"{known.score[at]:.2f}",
                    f"{known.threshold[at]:.2f}",
                    why,
                ]
            )
    told = [["told in it", f"{found}"], *([f"missed: {why}", f"{count}"] for why, count in causes.items())]
    told.append(["an alert stood in it, told then or before", f"{stood}"])
    told.append(["told at the best constant threshold of each series, in hindsight", f"{hindsight}"])
    return rows, [[name, count, f"{int(count) / events:.2f}"] for name, count in told]
