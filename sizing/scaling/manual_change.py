"""Tells replicas that somebody set by hand from replicas that follow the advice, and leaves them alone for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sizing.scaling.recommendation import Advice, moved
from sizing.types import PolicyConfig, Reason, RecommendationState

__all__ = ["ManualChange", "left_alone"]

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
        if not believed or current is None or not self._stood(before, current):
            return False
        while len(self.advised) > 1 and self.advised[1][0] <= now - self.respect_seconds:
            self.advised.popleft()
        if before is None or self._explained(before, current):
            return False
        self.replicas, self.raised, self.until = current, current > before, now + self.respect_seconds
        return True

    def under_way(self, now: float, current: int | None) -> bool:
        """Whether a change by hand is respected, or the reported replicas tell of one since; nothing is learned."""
        if self.replicas is not None and now < self.until:
            return True
        before = self.before
        if current is None or before is None or not self._stood(before, current):
            return False
        return not self._explained(before, current)

    def _stood(self, before: int | None, current: int) -> bool:
        """Whether the fleet stood where it was to stand, and does not any more."""
        if not current or before is None or current == before or not self.advised:
            return False
        return before in (self.advised[-1][1], self.replicas)

    def _explained(self, before: int, current: int) -> bool:
        """Whether advice that is remembered explains a change."""
        return any(min(before, to) <= current <= max(before, to) for _, to in self.advised)

    def told(self, now: float, desired: int) -> None:
        """Remember what was advised."""
        if not self.advised or self.advised[-1][1] != desired:
            self.advised.append((now, desired))


def left_alone(advice: Advice, manual: ManualChange, policy: PolicyConfig) -> Advice:
    """Return advice that leaves a fleet alone that was set by hand a moment ago."""
    by_hand = manual.replicas
    if by_hand is None or advice.state is not RecommendationState.FRESH:
        return advice
    desired = max(by_hand, policy.min_replicas)
    if desired == advice.desired or (manual.raised and advice.desired > desired):
        return advice
    text = f"{advice.message}; set to {by_hand} by hand: left alone for the stabilisation period"
    return moved(advice, desired, Reason.MANUAL_CHANGE, text)
