"""Tells replicas that somebody set by hand from replicas that follow the advice, and leaves them alone for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["ManualChange"]

#: Advice that is remembered, changes only.
_MOST_ADVICE = 64


@dataclass(slots=True)
class ManualChange:
    """Watches the reported replicas of one pool. Pickles, and continues identically afterwards.

    A change is by hand when the fleet stood where it was advised to stand, and has moved to a number that no advice
    of the last ``respect_seconds`` explains: fleets follow late, and in steps. Where the fleet does not follow the
    advice in the first place nothing is taken for a change by hand.
    """

    respect_seconds: float
    replicas: int | None = None  # as set by hand, while that is respected
    raised: bool = False  # to more than before: more may still be advised
    until: float = 0.0
    before: int | None = None
    advised: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MOST_ADVICE))

    def learn(self, now: float, current: int | None, *, believed: bool) -> bool:
        """Learn the reported replicas (None: unknown) before a decision; whether they were changed by hand just now.

        ``believed``: the inputs are sound. Nobody is believed to have set zero: silence looks the same.
        """
        before, self.before = self.before, current
        if now >= self.until:
            self.replicas = None
        if not believed or not current or before is None or current == before or not self.advised:
            return False
        if before != self.advised[-1][1] and before != self.replicas:
            return False
        while len(self.advised) > 1 and self.advised[1][0] <= now - self.respect_seconds:
            self.advised.popleft()
        if any(min(before, to) <= current <= max(before, to) for _, to in self.advised):
            return False
        self.replicas, self.raised, self.until = current, current > before, now + self.respect_seconds
        return True

    def told(self, now: float, desired: int) -> None:
        """Remember what was advised."""
        if not self.advised or self.advised[-1][1] != desired:
            self.advised.append((now, desired))
