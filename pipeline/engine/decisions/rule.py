"""What a decision rule is: from what is known of demand now to the demand to provision for at the lead time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.forecast.context import Floats

__all__ = ["AROUND_SEASON", "RECENT", "DecisionRule", "DemandView"]

#: Windows that rules may look back on, and on each side of the target a season before.
RECENT, AROUND_SEASON = 60, 2


@dataclass(frozen=True, slots=True)
class DemandView:
    """The demand of one pool as it is known after a window; columns are signals, all rates per second.

    ``recent`` ``(windows, signals)`` are the newest windows, at least one; the last row is the newest one, or what is
    live now where that is more. ``quantiles`` ``(levels, signals)`` are those of the forecast at the lead time at
    ``pipeline.forecast.types.LEVELS``, NaN before they can be trusted. ``season_before`` ``(signals,)`` is the highest
    demand around the target one season earlier, NaN where it is not known. ``ahead`` is the target in windows after
    the newest one.
    """

    recent: Floats
    quantiles: Floats
    season_before: Floats
    ahead: int

    @property
    def observed(self) -> Floats:
        """The newest window, ``(signals,)``."""
        newest: Floats = self.recent[-1]
        return newest


class DecisionRule(Protocol):
    """A rule in one or more variants, each an expert of its own; it keeps no state."""

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of the variants, distinct among the rules of a pool; headroom or level are part of them."""
        ...

    def demands(self, view: DemandView) -> Floats:
        """Return the demand to provision for, ``(variants, signals)``: not negative, NaN where none is known."""
        ...
