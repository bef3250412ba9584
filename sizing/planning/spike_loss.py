"""Requests that wait too long when demand jumps and capacity follows later: a fluid queue, worked out exactly.

From second 0 requests come at a constant rate D, first come first served by a capacity that only grows. With K(x) the
requests that can have been served by second x, the one that comes at t waits longer than s if and only if D·t > K(t +
s); D·t - K(t + s) is concave and made of straight pieces (Newell 1982, "Applications of Queueing Theory", chapter 2:
cumulative arrival and departure curves). Randomness within a minute is not in it: near saturation more requests are
late than it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sizing.errors import InvalidInput

__all__ = ["late_requests"]


def late_requests(
    requests_per_second: float,
    capacity: Sequence[tuple[float, float]],
    *,
    patience_seconds: float,
    duration_seconds: float,
) -> float:
    """Return how many requests of a spike wait longer than they may.

    Args:
        requests_per_second: demand during the spike.
        capacity: (seconds from the onset, requests per second from then on), in order of time, the first at 0 and never
            falling.
        patience_seconds: how long a request may wait.
        duration_seconds: how long the spike lasts.

    Four requests a second on a capacity of one, and of five after 600 s: those that come from second 3 1/3 to 2350 are
    late.

    >>> round(late_requests(4.0, [(0.0, 1.0), (600.0, 5.0)], patience_seconds=10.0, duration_seconds=7200.0), 1)
    9386.7

    Raises:
        InvalidInput: a number is negative or not finite, or the capacity falls or does not begin at 0.
    """
    numbers = (requests_per_second, patience_seconds, duration_seconds, *(n for step in capacity for n in step))
    if not all(0 <= n < math.inf for n in numbers):
        raise InvalidInput(f"rates and times of a spike must be finite and not negative: {numbers}")
    if not capacity or capacity[0][0] != 0 or list(capacity) != sorted(capacity):
        raise InvalidInput(f"capacity must begin at second 0 and come in order of time, not {list(capacity)[:5]}")
    if [rate for _, rate in capacity] != sorted(rate for _, rate in capacity):
        raise InvalidInput("the capacity of a spike must not fall")
    turns = {0.0, duration_seconds}
    turns |= {at - patience_seconds for at, _ in capacity if 0 < at - patience_seconds < duration_seconds}
    times = sorted(turns)
    behind = [requests_per_second * t - _served(capacity, t + patience_seconds) for t in times]
    late = 0.0
    for begin, end, first, last in zip(times, times[1:], behind, behind[1:], strict=False):
        if first > 0 and last > 0:
            late += end - begin
        elif first > 0 or last > 0:
            late += (end - begin) * max(first, last) / (abs(first) + abs(last))
    return late * requests_per_second


def _served(capacity: Sequence[tuple[float, float]], at: float) -> float:
    """Return the requests that can have been served by ``at``."""
    ends = [begin for begin, _ in capacity[1:]] + [math.inf]
    return math.fsum(
        rate * (min(end, at) - begin) for (begin, rate), end in zip(capacity, ends, strict=True) if begin < at
    )
