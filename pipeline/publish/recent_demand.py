"""The newest hours of one pool's request rate in memory, coarse enough to keep for every pool."""

from __future__ import annotations

from array import array
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


class _Steps:
    """The newest ``count`` steps, oldest first: a step in 20 bytes, where a tuple of numbers takes some 130."""

    __slots__ = ("_count", "starts", "totals", "windows")

    def __init__(self, count: int) -> None:
        self._count = count
        self.starts = array("q")
        self.totals = array("d")  # sums of the rates of a step's windows ...
        self.windows = array("I")  # ... and how many those were

    def add(self, start: int, rate: float) -> None:
        """Add the rate of a window to the step that begins at ``start``, the newest or one after it."""
        if self.starts and self.starts[-1] == start:
            self.totals[-1] += rate
            self.windows[-1] += 1
            return
        self.starts.append(start)
        self.totals.append(rate)
        self.windows.append(1)
        if len(self.starts) > self._count:
            del self.starts[0], self.totals[0], self.windows[0]


class RecentDemand:
    """Rings of mean rates over the spans of ``SPANS``; its owner sees to it that one thread at a time uses it."""

    __slots__ = ("_newest_start", "_steps")

    def __init__(self) -> None:
        self._steps = {name: _Steps(count) for name, (_, count) in SPANS.items()}
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
            self._steps[name].add(start // seconds * seconds, rate)

    def rates(self, span: str, end: float) -> RecentRates:
        """Return the mean rates of the steps of a span that begin before ``end`` (epoch seconds), oldest first."""
        seconds, count = SPANS[span]
        last = int(end - 1) // seconds * seconds
        first = last - (count - 1) * seconds
        steps = self._steps[span]
        known = {
            start: total / windows
            for start, total, windows in zip(steps.starts, steps.totals, steps.windows, strict=True)
        }
        values = tuple(known.get(first + seconds * place) for place in range(count))
        return RecentRates(first, seconds, values)
