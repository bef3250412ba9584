"""How improbable all that is known of a value is together: ranks within the past of each measure, joined. Pure."""

from __future__ import annotations

import math

from pipeline.alerts.spikes.patterns import DailyTwin, Extremes, Neighbours
from pipeline.alerts.spikes.references import Moments

__all__ = ["Evidence", "Rarity", "joint_chance"]

#: Bins of the rank histogram: eight an octave, from 2^-24 to 2^40, in blocks so that a tail is summed in few steps.
_PER_OCTAVE, _LOWEST_OCTAVE = 8, -24
_BINS, _BLOCK = 512, 32
#: Scores after which the weight of one has fallen to 1/e, and scores before ranks mean anything.
_MEMORY = 4000
_MIN_SCORES = 24
_MOST_WEIGHT = 1e9
_MOST_SCORE = 1e300
#: A score beyond all before is rarer by this power of its ratio to them: the tail of a Pareto law.
_TAIL_POWER = 1.0
#: Windows whose mean is compared with the level: slow drifts and plateaus.
_DRIFT = 36
#: Measures that must be known before their evidence counts.
_MIN_MEASURES = 3
_LEAST_CHANCE = 1e-300


class Rarity:
    """Rank of a score among those before it, as −ln of the share that were as great; old ones fade.

    A histogram of the logarithm of the score in constant memory; needs no assumption about how scores are distributed.
    """

    __slots__ = ("_blocks", "_counts", "_seen", "_top", "_total", "_weight")

    def __init__(self) -> None:
        self._counts = [0.0] * _BINS
        self._blocks = [0.0] * (_BINS // _BLOCK)
        self._total = self._top = 0.0
        self._weight = 1.0
        self._seen = 0

    def observe(self, score: float) -> float | None:
        """Return how rare the non-negative ``score`` is, None while too few are known or it is NaN, and learn it."""
        if math.isnan(score):
            return None
        score = min(score, _MOST_SCORE)
        at = 0
        if score > 0.0:
            at = min(_BINS - 1, max(1, int(_PER_OCTAVE * (math.log2(score) - _LOWEST_OCTAVE))))
        block = at // _BLOCK
        weight = self._weight
        rare = None
        if self._seen >= _MIN_SCORES:
            tail = sum(self._counts[at : (block + 1) * _BLOCK]) + sum(self._blocks[block + 1 :])
            rare = math.log((self._total + weight) / (tail + weight))
            if score > self._top > 0.0:
                rare += _TAIL_POWER * (math.log(score) - math.log(self._top))
        self._top = max(self._top, score)
        self._counts[at] += weight
        self._blocks[block] += weight
        self._total += weight
        self._seen += 1
        self._weight = weight * (1.0 + 1.0 / _MEMORY)
        if self._weight > _MOST_WEIGHT:
            self._fade()
        return rare

    def _fade(self) -> None:
        self._counts = [count / self._weight for count in self._counts]
        self._blocks = [count / self._weight for count in self._blocks]
        self._total /= self._weight
        self._weight = 1.0


class Evidence:
    """Joins five measures of how unusual a series is into one chance: each is ranked within its own past.

    The measures: distance of the value from the level, distance of the mean of the newest 36 windows from it (both in
    units of the long window's spread), excess over all extremes, unlikeness of the newest six values to any six in a
    row before, unlikeness to the same time of the days before. None of them need stand out by itself: changes of shape,
    drifts and plateaus show in several at once.

    Args:
        grain_seconds: width of a window, positive.
    """

    __slots__ = ("_extremes", "_neighbours", "_newest", "_rarities", "_twin")

    def __init__(self, grain_seconds: float) -> None:
        self._newest = Moments(_DRIFT)
        self._extremes = Extremes()
        self._neighbours = Neighbours()
        self._twin = DailyTwin(grain_seconds)
        self._rarities = tuple(Rarity() for _ in range(5))

    def observe(self, end: float, value: float, level: float, spread: float) -> float | None:
        """Return the chance of the value in ordinary windows, None while too little is known, and learn it.

        ``level`` and ``spread`` (positive) are the mean and standard deviation of the long window before the value.
        """
        self._newest.push(value)
        settled = len(self._newest) == _DRIFT
        measures = (
            abs(value - level) / spread,
            abs(self._newest.mean() - level) / spread if settled else None,
            self._extremes.observe(value),
            self._neighbours.observe(value),
            self._twin.observe(end, value),
        )
        total, known = 0.0, 0
        for measure, rarity in zip(measures, self._rarities, strict=True):
            rare = None if measure is None else rarity.observe(measure)
            if rare is not None:
                total += rare
                known += 1
        return joint_chance(total, known) if known >= _MIN_MEASURES else None

    def miss(self) -> None:
        """Take a missing window."""
        self._neighbours.miss()


def joint_chance(rarity: float, measures: int) -> float:
    """The chance that the rarities of so many measures (−ln of the shares) sum to ``rarity`` or more.

    Fisher's method (Fisher 1925, "Statistical Methods for Research Workers", 21.1): −ln of a share is exponential, the
    sum of n independent ones Erlang distributed.

    >>> joint_chance(0.0, 5), round(joint_chance(3.0, 1), 4), round(joint_chance(11.5, 5), 3)
    (1.0, 0.0498, 0.011)
    """
    term = below = 1.0
    for n in range(1, measures):
        term *= rarity / n
        below += term
    return max(_LEAST_CHANCE, min(1.0, math.exp(-rarity) * below))
