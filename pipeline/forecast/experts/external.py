"""A slot for anybody else's forecasts, which are weighed by their record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.forecast.context import Floats, SeriesContext
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.model import LEVELS

__all__ = ["ExternalExpert"]

_MEDIAN = LEVELS.index(0.5)


class ExternalExpert(Expert):
    """Whatever another program (Prophet, a foundation model, a team's own) has offered for the target times.

    Sleeps while any horizon lacks an offer. What is older than now or beyond twice the longest horizon is not kept.

    Args:
        context: the series.
        label: name within a pool.
    """

    def __init__(self, context: SeriesContext, label: str = "external") -> None:
        super().__init__(context)
        self._label = label
        self._offers: dict[int, float] = {}

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._label

    def offer(self, target_at: float, quantiles: Sequence[float]) -> bool:
        """Take quantiles at ``LEVELS`` for the window that ends at ``target_at`` (epoch seconds); a later offer wins.

        Returns:
            Whether it was kept: False for a target that has passed or lies beyond twice the longest horizon.

        Raises:
            ValueError: not one finite, non-negative number per level, not ascending, or a time that is not finite.
        """
        if len(quantiles) != len(LEVELS) or not all(math.isfinite(value) and value >= 0.0 for value in quantiles):
            raise ValueError(f"an offer needs {len(LEVELS)} finite, non-negative quantiles, not {tuple(quantiles)}")
        if any(b < a for a, b in pairwise(quantiles)):
            raise ValueError(f"quantiles must ascend, not {tuple(quantiles)}")
        if not math.isfinite(target_at):
            raise ValueError(f"target_at must be finite, not {target_at}")
        ahead = round(target_at / self.context.grain_seconds) - self.context.index
        if not 0 < ahead <= 2 * int(self.context.steps[-1]):
            return False
        self._offers[self.context.index + ahead] = float(quantiles[_MEDIAN])
        return True

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return all(index in self._offers for index in self._targets())

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        del y
        now = self.context.index
        if self._offers:
            self._offers = {index: value for index, value in self._offers.items() if index > now}

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        if not self.awake:
            return self.context.flat(self.context.last)
        return np.asarray(np.minimum(np.array([self._offers[index] for index in self._targets()]), self.context.clip))

    def _targets(self) -> list[int]:
        targets: list[int] = (self.context.index + self.context.steps).tolist()
        return targets
