"""What a decision on one pool rests on beside its demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sizing.scaling.live_queue import ServingFleet
from sizing.scaling.stabilisation import Span
from sizing.types import Demand

__all__ = ["NOTHING_SPECIAL", "Situation"]


@dataclass(frozen=True, slots=True)
class Situation:
    """How far the inputs can be believed, and what is live in the fleet.

    ``problems`` say in words why the newest window cannot be believed; with any of them advice is held.
    ``whole`` is False when the newest window was not seen from its start to its end.
    ``ready`` are the replicas that serve, ``queued_requests`` the requests that wait for one (None: not known).
    ``starting_seconds`` say of each replica that starts in how many seconds it will serve (None: not known), and
    ``start_up_seconds`` what one that is ordered now takes (None: not known, the policy's lead time stands for it).
    ``newest_requests_per_second`` came in the seconds before the newest report (None: not known).
    ``interval_ratio`` is how many times as wide as the plan's the interval of the advice is to be.
    ``window_seconds`` is how long the newest window is, and ``known_after_seconds`` for how long after its end the
    fleet has counted what came.
    ``evidence`` are numbers that the recommendation carries beside its own.
    """

    problems: tuple[str, ...] = ()
    whole: bool = True
    ready: int | None = None
    queued_requests: int | None = None
    starting_seconds: tuple[float | None, ...] = ()
    start_up_seconds: float | None = None
    newest_requests_per_second: float | None = None
    interval_ratio: float = 1.0
    window_seconds: float = 0.0
    known_after_seconds: float = 0.0
    evidence: Mapping[str, float] = field(default_factory=dict)

    def span(self, now: float) -> Span:
        """Return what a decision at ``now``, the end of the newest window, rests on."""
        return Span(now - self.window_seconds, now, now + self.known_after_seconds)

    def arrivals_per_second(self, demand: Demand | None) -> float | None:
        """Return what comes now, requests/s: what is observed, or what came last where that is more; None: unknown."""
        observed = None if demand is None else demand.observed_requests_per_second
        known = [rate for rate in (observed, self.newest_requests_per_second) if rate is not None]
        return max(known, default=None)

    def fleet(self, current: int | None, lead_time_seconds: float) -> ServingFleet | None:
        """Return what serves and what starts; None: not known. Without ``ready`` all ``current`` replicas serve."""
        serving = current if self.ready is None else self.ready
        if serving is None:
            return None
        start_up = lead_time_seconds if self.start_up_seconds is None else self.start_up_seconds
        return ServingFleet(max(serving, 0), self.starting_seconds, start_up)


NOTHING_SPECIAL = Situation()
