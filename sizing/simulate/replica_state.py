"""One replica of a simulated fleet: its lanes, and when it was ordered, warm, ready, drained and gone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sizing.simulate.lane import Lane
from sizing.simulate.world import ReplicaFate

__all__ = ["ReplicaState", "ReplicaTimes"]


@dataclass(frozen=True, slots=True)
class ReplicaTimes:
    """When one replica was ordered, ready, drained and gone; seconds, infinite where that has not happened yet."""

    ordered_seconds: float
    ready_seconds: float
    drained_seconds: float
    gone_seconds: float


@dataclass(slots=True)
class ReplicaState:
    """A replica in the fleet; seconds, infinite: not yet, or never.

    ``warm_seconds`` is when all but the last part of its start is done; while it is kept warm (``held``) it has no
    lanes. It is lost at ``fails_seconds``. At ``interrupted_seconds`` it hears that it will be taken away at
    ``taken_seconds``.
    """

    number: int
    fate: ReplicaFate
    ordered_seconds: float
    warm_seconds: float
    lanes: Sequence[Lane] = ()
    ready_seconds: float = math.inf
    drained_seconds: float = math.inf
    fails_seconds: float = math.inf
    interrupted_seconds: float = math.inf
    taken_seconds: float = math.inf

    @property
    def wanted(self) -> bool:
        """Whether it is not drained."""
        return self.drained_seconds == math.inf

    @property
    def held(self) -> bool:
        """Whether it is kept warm."""
        return self.wanted and self.ready_seconds == math.inf

    def start(self, ready_seconds: float, lanes: Iterable[Lane]) -> None:
        """Let it take requests from ``ready_seconds`` on; from then on it can fail and be interrupted."""
        self.ready_seconds, self.lanes = ready_seconds, list(lanes)
        self.fails_seconds = ready_seconds + self.fate.lifetime_seconds
        self.interrupted_seconds = ready_seconds + self.fate.interrupted_after_seconds

    def drain(self, now_seconds: float, taken_seconds: float = math.inf) -> None:
        """Give it no more requests; it finishes what it holds, if it can by ``taken_seconds``."""
        self.drained_seconds, self.taken_seconds = now_seconds, taken_seconds
        self.fails_seconds = self.interrupted_seconds = math.inf

    def abandon(self, now_seconds: float) -> None:
        """Lose whatever it holds."""
        for lane in self.lanes:
            lane.run_until(now_seconds)
            lane.abandon(now_seconds)

    def gone(self, end_seconds: float) -> float:
        """Return when it gave its GPUs back: when drained and done; ``end_seconds`` while it stays."""
        if self.wanted:
            return end_seconds
        return max(self.drained_seconds, *(lane.clock_seconds for lane in self.lanes if lane.steps), 0.0)

    def times(self) -> ReplicaTimes:
        """Return its life up to now."""
        return ReplicaTimes(self.ordered_seconds, self.ready_seconds, self.drained_seconds, self.gone(math.inf))
