"""Keeps the rate of false alerts at the wanted one, by the scores so far and what operators said of alerts. Pure."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pipeline.alerts.feedback import Verdict
from pipeline.alerts.spikes.told_alerts import Told, ToldAlerts

__all__ = ["LEAST_THRESHOLD", "AlertBudget"]

#: The threshold stays within these multiples of the one that the tails of the scores give ...
LEAST_THRESHOLD, _MOST_THRESHOLD = 0.2, 6.0
#: ... and is sought between so many levels, evenly spaced in the logarithm.
_LEVELS = 35
_LEAST_LOG, _MOST_LOG = math.log(LEAST_THRESHOLD), math.log(_MOST_THRESHOLD)
_STEP = (_MOST_LOG - _LEAST_LOG) / (_LEVELS - 1)
_LOGS = tuple(_LEAST_LOG + _STEP * level for level in range(_LEVELS))
#: Tails fitted to few scores understate rare ones and overstate frequent ones: before anything is known the logarithm
#: is this times that of the chance at which they are right over the one wanted, within bounds.
_START_SLOPE, _START_CHANCE, _START_LEAST, _START_MOST = 0.18, 4e-3, -0.3, 0.5
#: What other series have taught counts as so many alerts at most.
_PRIOR_COUNT = 3.0
#: Scores of ordinary alerts over the threshold follow a Pareto law; its power is taken as this until alerts tell ...
_POWER = 6.0
#: ... with the weight of so many alerts, and from the newest so many.
_PRIOR_ALERTS, _MEMORY_ALERTS = 5.0, 40.0
#: An alert tells of that law as at most so many thresholds.
_MOST_RATIO = 4.0
#: A score so far above a level that ordinary ones are with this chance is no ordinary one; the others count for it.
_GREAT_CHANCE = 0.2
_COUNT = 1.0 / (1.0 - _GREAT_CHANCE)
#: What an alert counts that was certainly ordinary; on average over ordinary ones it is 1.
_MOST_COUNT = 2.0
#: Counts fade in the time in which so many false alerts are wanted.
_MEMORY_WANTED = 25.0
_MOST_WEIGHT = 1e9
#: The threshold is found anew whenever a score counts, and in the time in which so many false alerts are wanted.
_LEAST_WANTED = 0.002
_TINY = 1e-300
#: What is left of a wrong rate moves the logarithm by so much per alert, and no farther than this in all.
_SHIFT_STEP, _MOST_SHIFT = 0.05, 0.5


@lru_cache(maxsize=64)
def _prior(probability: float) -> tuple[array[float], array[float]]:
    """What is counted at each level, and what is wanted, before anything is known: shared, never changed."""
    start = max(_START_LEAST, min(_START_MOST, _START_SLOPE * math.log(_START_CHANCE / probability)))
    rates = [math.exp(_POWER * (start - log)) for log in _LOGS]
    counts = array("d", (_PRIOR_COUNT * min(1.0, rate) for rate in rates))
    return counts, array("d", (_PRIOR_COUNT * min(1.0, 1.0 / rate) for rate in rates))


def _count_at(told: Told, level: int) -> float:
    """What an alert counts at a level now."""
    if told.marked is not None:
        return told.marked
    return _COUNT if told.counted >> level & 1 else 0.0


class AlertBudget:
    """The multiple of the threshold at which alerts would have been as frequent as wanted so far.

    At each of 35 levels from 0.2 to 6 it is counted how many alerts there would have been, by the rule by which they
    are told; the threshold is where that is as many as were wanted in the time, between the two levels next to it. So
    every score teaches, not only those that were told, and the threshold settles instead of moving with every alert
    (the empirical quantile of what came true: split conformal prediction, Lei et al. 2018, "Distribution-free
    predictive inference for regression"; with weights that fade, Barber et al. 2023, "Conformal prediction beyond
    exchangeability"). What is then left of a wrong rate a slow feedback takes away: the logarithm of the threshold
    falls with every window and rises with every alert, in the proportion in which alerts are wanted to windows
    (Angelopoulos et al. 2023, "Conformal PID control for time series prediction": a quantile and an integrator). Until
    there are some, the counts are mostly those that other series had: a gamma prior of a Poisson rate, worth at most
    three alerts.

    Only false alerts have a budget. A score that ordinary ones exceed with a chance of 0.2 at most, given that they
    exceed the level, counts nothing there, and the others 1.25, so that ordinary ones count 1 on average: by a Pareto
    law of the scores over the threshold fitted to the alerts told (Hill 1975, "A simple general approach to inference
    about the tail of a distribution"). An alert that an operator marked ``false`` counts 2, one marked ``useful`` 0.

    Args:
        probability: wanted false alerts per window, in (0, 0.5].
        rest_seconds: after an alert there is none for so long ...
        louder: ... unless its score exceeds that of the last one by this factor.
        directions: 2 where rises and falls share the budget; each has a rest of its own.
    """

    __slots__ = (
        "_at",
        "_counts",
        "_expected",
        "_fade",
        "_fall",
        "_fitted",
        "_in_run",
        "_last",
        "_logs",
        "_longest_run",
        "_louder",
        "_loudest",
        "_pending",
        "_prior_counts",
        "_prior_expected",
        "_probability",
        "_quiet_until",
        "_rest_seconds",
        "_shift",
        "_since",
        "_told",
        "_weight",
        "_windows",
        "threshold",
    )

    def __init__(
        self, probability: float, rest_seconds: float = 0.0, louder: float = math.inf, directions: int = 1
    ) -> None:
        self._probability = probability
        self._rest_seconds = rest_seconds
        self._louder = math.log(louder)
        self._prior_counts, self._prior_expected = _prior(probability)
        # Of what is newer counts more: the weight of a window grows, which spares the fading of all that is older.
        self._weight = 1.0
        self._fade = 1.0 - probability / _MEMORY_WANTED
        self._counts = array("d", bytes(8 * _LEVELS))
        self._expected = 0.0
        # By direction and level.
        self._quiet_until = array("d", [-math.inf]) * (directions * _LEVELS)
        self._loudest = array("d", [-math.inf]) * (directions * _LEVELS)
        self._last = array("q", [-1]) * _LEVELS
        self._since = array("q", [0]) * _LEVELS
        # A run that lasts half of the wanted time between alerts counts again: else one that never ends would be none.
        self._longest_run = math.ceil(0.5 / probability)
        self._shift = self._pending = 0.0
        self._fall = _SHIFT_STEP * probability
        self._windows = 0
        self._fitted = _PRIOR_ALERTS
        self._logs = _PRIOR_ALERTS / _POWER
        self._told = ToldAlerts()
        self._in_run = False
        self._at = 1
        #: What a score must exceed, in units of the threshold of its tail.
        self.threshold = 1.0
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        """What was known before follows from the wanted rate."""
        return {
            name: getattr(self, name) for name in self.__slots__ if name not in ("_prior_counts", "_prior_expected")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was known before from where all share it."""
        for name, value in state.items():
            setattr(self, name, value)
        self._prior_counts, self._prior_expected = _prior(self._probability)

    def learn(self, at: float, score: float, *, told: bool, second: bool = False) -> None:
        """Take one judged window that ended at ``at`` with ``score`` (0: it could not be an alert), and whether it is
        alerted; a run of windows that are is one alert. ``second``: the score is one of the second direction.
        """
        self._windows += 1
        self._weight /= self._fade
        self._expected += self._probability * self._weight
        counted = levels = 0
        if score > LEAST_THRESHOLD:
            log = math.log(score)
            levels = min(_LEVELS, 1 + int((log - _LEAST_LOG) / _STEP))
            counted = self._count(at, log, levels, _LEVELS if second else 0)
        begins = told and not self._in_run
        if begins:
            excess = max(0.0, math.log(score / self.threshold))
            count = 0.0 if excess > -math.log(_GREAT_CHANCE) * self._logs / self._fitted else _COUNT
            self._move(count)
            keep = 1.0 if self._fitted < _MEMORY_ALERTS else 1.0 - 1.0 / _MEMORY_ALERTS
            self._fitted = keep * self._fitted + 1.0
            self._logs = keep * self._logs + min(excess, math.log(_MOST_RATIO))
            self._told.append(Told(at, self._windows, levels, counted, count))
        self._in_run = told
        self._shift = max(-_MOST_SHIFT, self._shift - self._fall)
        self._pending += self._probability
        if begins or counted or self._pending >= _LEAST_WANTED:
            self._pending = 0.0
            self._settle()
        if self._weight > _MOST_WEIGHT:
            self._expected /= self._weight
            self._counts = array("d", (count / self._weight for count in self._counts))
            self._weight = 1.0

    def mark(self, at: float, verdict: Verdict) -> bool:
        """Count the alert that began at ``at`` as an operator says; a later mark replaces an earlier one.

        Returns whether there is such an alert among the newest 256.
        """
        number = self._told.find(at)
        if number is None:
            return False
        told = self._told[number]
        count = _MOST_COUNT if verdict is Verdict.FALSE else 0.0
        weight = self._weight * self._fade ** (self._windows - told.window)
        for level in range(told.levels):
            self._counts[level] += weight * (count - _count_at(told, level))
        self._move(count - told.count)
        self._told[number] = replace(told, count=count, marked=count)
        self._settle()
        return True

    def _count(self, at: float, log: float, levels: int, first: int) -> int:
        """Count a score at the levels it exceeds and would be told at; return those that count it, as bits."""
        counted = 0
        ordinary = log + math.log(_GREAT_CHANCE) * self._logs / self._fitted
        for level in range(levels):
            place = first + level
            if at < self._quiet_until[place] and log <= self._loudest[place] + self._louder:
                continue
            self._loudest[place] = log
            self._quiet_until[place] = at + self._rest_seconds
            in_run = self._last[level] == self._windows - 1
            self._last[level] = self._windows
            if in_run and self._windows - self._since[level] < self._longest_run:
                continue
            self._since[level] = self._windows
            if _LOGS[level] >= ordinary:
                self._counts[level] += _COUNT * self._weight
                counted |= 1 << level
        return counted

    def _move(self, count: float) -> None:
        self._shift = max(-_MOST_SHIFT, min(_MOST_SHIFT, self._shift + _SHIFT_STEP * count))

    def _settle(self) -> None:
        """Find the threshold: from where it was, the next level at which no more than wanted were counted."""
        at, weight, expected = self._at, self._weight, self._expected
        counts, more, wanted = self._counts, self._prior_counts, self._prior_expected
        while at < _LEVELS - 1 and counts[at] + weight * more[at] > expected + weight * wanted[at]:
            at += 1
        while at > 1 and counts[at - 1] + weight * more[at - 1] <= expected + weight * wanted[at - 1]:
            at -= 1
        self._at = at
        # Logarithms of the alerts counted over those wanted, at the two levels.
        below = math.log((counts[at - 1] + weight * more[at - 1] or _TINY) / (expected + weight * wanted[at - 1]))
        here = math.log((counts[at] + weight * more[at] or _TINY) / (expected + weight * wanted[at]))
        share = 0.0 if below <= 0.0 else 1.0 if here > 0.0 else below / (below - here)
        self.threshold = math.exp(max(_LEAST_LOG, min(_MOST_LOG, _LOGS[at - 1] + share * _STEP + self._shift)))
