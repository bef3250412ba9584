"""What a decision on one pool rests on beside its demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NOTHING_SPECIAL", "Situation"]


@dataclass(frozen=True, slots=True)
class Situation:
    """How far the inputs can be believed, and what is live in the fleet.

    ``problems`` say in words why the newest window cannot be believed; with any of them advice is held.
    ``whole`` is False when the newest window was not seen from its start to its end.
    ``ready`` are the replicas that serve, ``queued_requests`` the requests that wait for one (None: not known).
    ``interval_ratio`` is how many times as wide as the plan's the interval of the advice is to be.
    ``evidence`` are numbers that the recommendation carries beside its own.
    """

    problems: tuple[str, ...] = ()
    whole: bool = True
    ready: int | None = None
    queued_requests: int | None = None
    interval_ratio: float = 1.0
    evidence: Mapping[str, float] = field(default_factory=dict)


NOTHING_SPECIAL = Situation()
