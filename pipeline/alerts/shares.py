"""PromQL of rules on the share that one counter has of others, judged only where there is enough to judge by."""

from __future__ import annotations

__all__ = ["SPAN", "share_above", "share_of"]

#: Over what the counters are compared: long enough for a share to mean something, short enough to end with its cause.
SPAN = "15m"


def share_of(part: str, *whole: str) -> str:
    """Return the share that the increase of the counter ``part`` has of that of all counters ``whole`` together.

    >>> share_of("late_total", "events_total")
    'sum(increase(late_total[15m])) / sum(increase(events_total[15m]))'
    """
    return f"{_increase(part)} / {_sum(*whole)}"


def share_above(part: str, *whole: str) -> str:
    """Return a condition with two thresholds: the share exceeds ``share``, and the whole grew by ``least_events``."""
    return f"{share_of(part, *whole)} > <share> and {_sum(*whole)} >= <least_events>"


def _increase(counter: str) -> str:
    return f"sum(increase({counter}[{SPAN}]))"


def _sum(*counters: str) -> str:
    text = " + ".join(map(_increase, counters))
    return f"({text})" if len(counters) > 1 else text
