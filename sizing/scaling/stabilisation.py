"""How long the need has been lower: what one pool needed in the stabilisation period, and when the advice was raised.

A decision speaks for the window that ended with it, and for what the fleet has counted since. A period of s seconds
is therefore over once demand was known to be lower for s seconds, and not once decisions said so for s seconds, each
of which is made a window after that window began.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["Span", "Stabilisation"]


@dataclass(frozen=True, slots=True)
class Span:
    """What a decision rests on: the window from ``start`` to ``end``, and counts to ``until``; epoch seconds."""

    start: float
    end: float
    until: float


class Stabilisation:
    """The needs of the last ``seconds``. Pickles.

    Whatever raised the advice, it is not lowered for ``seconds`` afterwards (``raised``).
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._raised_at = -math.inf
        # (end of the window, need, need with a margin), oldest first.
        self._needs: deque[tuple[float, int, int]] = deque()

    def forget(self) -> None:
        """Forget all needs: what happened meanwhile is not known, and a lower need must prove itself anew."""
        self._since = None
        self._needs.clear()

    def raised(self, until: float) -> None:
        """Note that the advice was raised by what was known up to ``until``."""
        self._since, self._raised_at = None, until

    def not_lower(self) -> None:
        """Note that the newest need is not lower than what there is."""
        self._since = None

    def remember(self, span: Span, need: int, guarded: int) -> None:
        """Keep what was needed, plainly and with a margin, and forget older windows that ended before the period."""
        self._needs.append((span.end, need, guarded))
        oldest = span.until - self._seconds
        seen = span.end > span.start
        # A window that ended as the period began lies before it; a mere point in time does not.
        while len(self._needs) > 1 and (self._needs[0][0] < oldest or (seen and self._needs[0][0] == oldest)):
            self._needs.popleft()

    def lower(self, span: Span) -> bool:
        """Note a lower need; return whether the need was lower for the whole period."""
        if self._since is None:
            self._since = max(span.start, self._raised_at)
        return span.until - self._since >= self._seconds

    def stepped(self, span: Span, share: float) -> None:
        """Note a step down that a limit has cut: the next one must prove itself for this share of the period again."""
        self._since = span.until - (1.0 - share) * self._seconds

    def lower_for(self, span: Span) -> float:
        """Return for how many seconds the need has been lower."""
        return 0.0 if self._since is None else span.until - self._since

    def most(self, target: int) -> tuple[int, int]:
        """Return the highest needs of the period, plainly and with a margin, and at least ``target``."""
        plain = max((need for _, need, _ in self._needs), default=target)
        guarded = max((need for _, _, need in self._needs), default=target)
        return max(target, plain), max(target, guarded)
