"""Who sends most, in bounded memory: space-saving counters that forget.

Metwally, Agrawal and El Abbadi 2005, "Efficient computation of frequent and top-k elements in data streams": of ``m``
counters, the smallest is taken over, with its count, by a name that has none. No count is too low, and none is too high
by more than the total over ``m``.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["HeavyHitters"]

_RESCALE = 1e12


class HeavyHitters:
    """Decayed counts by name.

    Args:
        counters: how many names are remembered, at least one.
        half_life: steps after which a count weighs half, positive.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, counters: int, half_life: float) -> None:
        if counters < 1 or not half_life > 0.0:
            raise ValueError(f"there must be counters and a positive half-life, not {counters} and {half_life}")
        self._limit = counters
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight = 1.0
        self._counts: dict[str, float] = {}
        self._total = 0.0

    def learn(self, counts: Mapping[str, float], others: float = 0.0) -> None:
        """Add the counts of one step and the sum of all ``others``; what is not positive and finite is left out."""
        # Newer counts weigh more instead of older ones less.
        self._weight *= self._growth
        if self._weight > _RESCALE:
            self._counts = {name: count / self._weight for name, count in self._counts.items()}
            self._total /= self._weight
            self._weight = 1.0
        if 0.0 < others < float("inf"):
            self._total += others * self._weight
        for name in sorted(counts):
            count = counts[name]
            if not 0.0 < count < float("inf"):
                continue
            added = count * self._weight
            self._total += added
            if name not in self._counts and len(self._counts) >= self._limit:
                least = min(self._counts, key=lambda known: (self._counts[known], known))
                added += self._counts.pop(least)
            self._counts[name] = self._counts.get(name, 0.0) + added

    def shares(self) -> dict[str, float]:
        """The remembered names by share of the total, largest first; shares are at most overstated."""
        if self._total <= 0.0:
            return {}
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return {name: min(1.0, count / self._total) for name, count in ordered}
