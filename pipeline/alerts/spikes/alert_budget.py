"""Keeps the rate of false alerts at the wanted one, by the alerts told so far and what operators said of them. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from pipeline.alerts.feedback import Verdict

__all__ = ["AlertBudget"]

#: Moves of the logarithm of the threshold per alert: the first alerts teach most, later ones this much.
_FIRST_STEP, _STEP = 0.6, 0.2
#: The threshold stays within these multiples of the one that the tails of the scores give.
_LEAST, _MOST = 0.2, 6.0
#: Tails fitted to few scores understate rare ones and overstate frequent ones: the logarithm starts at this times that
#: of the chance at which they are right over the one wanted, within bounds.
_START_SLOPE, _START_CHANCE, _START_LEAST, _START_MOST = 0.18, 4e-3, -0.3, 0.5
#: Scores of ordinary alerts over the threshold follow a Pareto law; its power is taken as this until alerts tell ...
_POWER = 6.0
#: ... with the weight of so many alerts, and from the newest so many.
_PRIOR_ALERTS, _MEMORY_ALERTS = 5.0, 40.0
#: An alert tells of that law as at most so many thresholds.
_MOST_RATIO = 4.0
#: An alert that was certainly ordinary counts this much; on average over ordinary ones it is 1.
_MOST_COUNT = 2.0
#: Newest alerts that can be marked.
_REMEMBERED = 256


@dataclass(slots=True)
class _Told:
    """One alert: how much it counts, and by how much one that counts 1 moved the threshold."""

    at: float
    size: float
    count: float


class AlertBudget:
    """A multiple of the threshold that makes alerts as frequent as wanted.

    The logarithm of the multiple falls with every window and rises with every alert, in the proportion in which alerts
    are wanted to windows, so that over a long time as many are told as wanted whatever the scores are distributed like
    (adaptive conformal inference: Gibbs and Candès, NeurIPS 2021, "Adaptive conformal inference under distribution
    shift", with a step that starts large). It is bounded to 0.2 to 6.

    Only false alerts have a budget. An alert counts by how plausible its score is in ordinary traffic: twice the chance
    that an ordinary alert has a score as great, by a Pareto law of the scores over the threshold fitted to the alerts
    told (Hill 1975, "A simple general approach to inference about the tail of a distribution"), so that ordinary ones
    count 1 on average and a score far beyond them next to nothing. One that an operator marked ``false`` counts 2, one
    marked ``useful`` 0.

    Args:
        probability: wanted false alerts per window, in (0, 0.5].
    """

    __slots__ = ("_expected", "_fitted", "_in_run", "_log", "_logs", "_probability", "_told", "threshold")

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self._expected = 0.0
        self._log = max(_START_LEAST, min(_START_MOST, _START_SLOPE * math.log(_START_CHANCE / probability)))
        self._fitted = _PRIOR_ALERTS
        self._logs = _PRIOR_ALERTS / _POWER
        self._told: deque[_Told] = deque(maxlen=_REMEMBERED)
        #: What a score must exceed, in units of the threshold of its tail.
        self.threshold = math.exp(self._log)
        self._in_run = False

    def learn(self, at: float, score: float, *, told: bool) -> None:
        """Take one judged window that ended at ``at`` with ``score``, and whether it is alerted; a run of windows
        that are is one alert.
        """
        self._expected += self._probability
        size = max(_STEP, _FIRST_STEP / (1.0 + self._expected))
        count = 0.0
        if told and not self._in_run:
            excess = max(0.0, math.log(score / self.threshold))
            count = _MOST_COUNT * math.exp(-self._fitted / self._logs * excess)
            keep = 1.0 if self._fitted < _MEMORY_ALERTS else 1.0 - 1.0 / _MEMORY_ALERTS
            self._fitted = keep * self._fitted + 1.0
            self._logs = keep * self._logs + min(excess, math.log(_MOST_RATIO))
            self._told.append(_Told(at, size, count))
        self._in_run = told
        self._move(size * (count - self._probability))

    def mark(self, at: float, verdict: Verdict) -> bool:
        """Count the alert that began at ``at`` as an operator says; a later mark replaces an earlier one.

        Returns whether there is such an alert among the newest 256.
        """
        told = next((told for told in self._told if told.at == at), None)
        if told is None:
            return False
        count = _MOST_COUNT if verdict is Verdict.FALSE else 0.0
        self._move(told.size * (count - told.count))
        told.count = count
        return True

    def _move(self, by: float) -> None:
        self._log = min(math.log(_MOST), max(math.log(_LEAST), self._log + by))
        self.threshold = math.exp(self._log)
