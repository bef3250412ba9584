"""Persistence: what was, will be."""

from __future__ import annotations

from pipeline.forecast.context import Floats
from pipeline.forecast.experts.base import Expert

__all__ = ["LastValue"]


class LastValue(Expert):
    """The newest value at every horizon; also the yardstick by which the pool scales losses."""

    __slots__ = ("context",)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "last"

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return self.context.flat_last()
