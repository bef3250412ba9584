"""How long replicas of one pool take from being ordered to serving, from what the fleet reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.windows.fleet import ReplicaCount
from pipeline.windows.types import ClosedWindow

__all__ = ["LEAST_START_UPS", "StartUps"]

#: Start-ups that must have been seen before their quantile is used, and how many are remembered.
LEAST_START_UPS, _REMEMBERED = 5, 64
#: The quantile that is planned with: one replica in ten may start later.
_QUANTILE = 0.9
#: Replicas that are followed at a time; of more that start together the first ones stand for all.
_MOST_STARTING = 256
_LONGEST_SECONDS = 86_400.0


@dataclass(slots=True)
class StartUps:
    """The newest start-ups of one pool. Pickles, and continues identically afterwards.

    Replicas that appear in ``current`` are ordered then; when ``ready`` grows, those that were ordered first serve.
    Replicas that disappear before they served are those ordered last. A replica that stops serving and serves again
    was not ordered at a known time, and is no start-up.
    """

    seconds: list[float] = field(default_factory=list)
    starting: list[float | None] = field(default_factory=list)  # when ordered (None: unknown), first ones first
    newest: ReplicaCount | None = None

    def learn(self, window: ClosedWindow) -> None:
        """Add what the reports of one window say; reports that are not newer than the last one say nothing."""
        if window.fleet is not None:
            self.add(window.fleet.counts)
        elif window.current_replicas is not None:
            self._add(ReplicaCount(float(window.end), window.current_replicas, window.ready_replicas))

    @property
    def reported_at(self) -> float | None:
        """When the fleet reported last (epoch seconds); None: it never has."""
        return None if self.newest is None else self.newest.at

    def add(self, counts: Sequence[ReplicaCount]) -> None:
        """Add reports, in order of time; those that are not newer than the last one say nothing."""
        for count in counts:
            self._add(count)

    def quantile(self) -> float | None:
        """Return the 0.9 quantile (nearest rank) of the remembered start-ups, seconds; None: too few were seen."""
        if len(self.seconds) < LEAST_START_UPS:
            return None
        return sorted(self.seconds)[math.ceil(_QUANTILE * len(self.seconds)) - 1]

    def starting_seconds(self, start_up_seconds: float) -> tuple[float | None, ...]:
        """Return in how many seconds after the newest report each replica that starts will serve; None: not known.

        ``start_up_seconds`` is what a start-up takes. One that takes longer already is not known.
        """
        if self.newest is None:
            return ()
        left = (None if at is None else at + start_up_seconds - self.newest.at for at in self.starting)
        return tuple(None if seconds is None or seconds <= 0 else seconds for seconds in left)

    def _add(self, count: ReplicaCount) -> None:
        before = self.newest
        if before is not None and count.at <= before.at:
            return
        self.newest = count
        if before is None or count.ready is None or before.ready is None:
            self.starting.clear()
            self._reconcile(count)
            return
        self._extend(count.current - before.current, count.at)
        for _ in range(min(count.ready - before.ready, len(self.starting))):
            ordered_at = self.starting.pop(0)
            if ordered_at is not None and count.at - ordered_at <= _LONGEST_SECONDS:
                self.seconds.append(count.at - ordered_at)
                del self.seconds[:-_REMEMBERED]
        self._reconcile(count)

    def _reconcile(self, count: ReplicaCount) -> None:
        """Follow exactly the replicas that are not ready."""
        waiting = max(0, count.current - (count.current if count.ready is None else count.ready))
        while len(self.starting) > waiting:
            self.starting.pop()
        self._extend(waiting - len(self.starting), None)

    def _extend(self, replicas: int, ordered_at: float | None) -> None:
        self.starting.extend([ordered_at] * min(replicas, _MOST_STARTING - len(self.starting)))
