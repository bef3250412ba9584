"""The newest hours of one pool's request rate in memory, coarse enough to keep for every pool."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["KEPT_SECONDS", "SPANS", "STEP_SECONDS", "RecentDemand", "RecentRates"]

#: What is kept, by name: seconds of one step, and how many steps.
SPANS = {"3h": (180, 60), "24h": (900, 96)}
#: The longest span, and the finest step: what a restart needs of the store to have all of it again.
KEPT_SECONDS = max(seconds * count for seconds, count in SPANS.values())
STEP_SECONDS = min(seconds for seconds, _ in SPANS.values())


@dataclass(frozen=True, slots=True)
class RecentRates:
    """Mean request rates per second of equal steps; ``start`` is that of the first step, epoch seconds.

    None: nothing is known of the step (no window closed in it, or telemetry was missing).
    """

    start: int
    step_seconds: int
    requests_per_second: tuple[float | None, ...]


class RecentDemand:
    """Rings of mean rates over the spans of ``SPANS``; its owner sees to it that one thread at a time uses it."""

    def __init__(self) -> None:
        # Per step: its start, the sum of the rates of its windows, and how many those were.
        self._steps: dict[str, deque[tuple[int, float, int]]] = {
            name: deque(maxlen=count) for name, (_, count) in SPANS.items()
        }
        self._newest_start = -1

    def learn(self, start: int, rate: float | None) -> None:
        """Add the rate of the window that begins at ``start`` (epoch seconds); None: not known.

        Windows come in order; one that is not newer than the newest seen is left out.
        """
        if start <= self._newest_start:
            return
        self._newest_start = start
        if rate is None:
            return
        for name, (seconds, _) in SPANS.items():
            steps, slot = self._steps[name], start // seconds * seconds
            if steps and steps[-1][0] == slot:
                _, total, windows = steps.pop()
                steps.append((slot, total + rate, windows + 1))
            else:
                steps.append((slot, rate, 1))

    def rates(self, span: str, end: float) -> RecentRates:
        """Return the mean rates of the steps of a span that begin before ``end`` (epoch seconds), oldest first."""
        seconds, count = SPANS[span]
        last = int(end - 1) // seconds * seconds
        first = last - (count - 1) * seconds
        known = {slot: total / windows for slot, total, windows in self._steps[span]}
        values = tuple(known.get(first + seconds * place) for place in range(count))
        return RecentRates(first, seconds, values)
