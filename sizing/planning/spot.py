"""How many replicas may be on spot capacity, so that the SLO survives their interruptions.

A spot replica is interrupted λ times an hour. From the notice on it takes no more requests, and its replacement needs a
start-up: of the time it is missing for u = λ·L / (3600 + λ·L), the mean down time over that of a cycle (alternating
renewal process: Ross, Introduction to Probability Models, section 7.5). Of its requests a share of λ / 3600 · max(E -
notice, 0) is lost, with E the seconds that a request takes: that many seconds' worth cannot finish in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sizing.errors import InvalidInput

__all__ = ["SpotPart", "spot_part"]


@dataclass(frozen=True, slots=True)
class SpotPart:
    """``replicas`` of those held may be on spot capacity; with them ``outside_share`` of the requests is outside the
    SLO.

    ``missing_share`` is the share of the time for which one spot replica is missing, ``lost_share`` that of its
    requests that are lost with it.
    """

    replicas: int
    outside_share: float
    missing_share: float
    lost_share: float


def spot_part(
    held: int,
    needed: int,
    *,
    interruptions_per_hour: float,
    notice_seconds: float,
    start_up_seconds: float,
    request_seconds: float,
    allowed_share: float,
    together: bool = True,
) -> SpotPart:
    """Return the most spot replicas among ``held`` with at most ``allowed_share`` of the requests outside the SLO.

    Requests count as outside while fewer than ``needed`` replicas are left. ``together``: all spot replicas are
    interrupted at once, as when a provider takes a GPU type back; without it each on its own, which is the optimistic
    case.

    Two of twelve are to spare: losing two is survived, losing a third is not, whenever it happens.

    >>> args = dict(interruptions_per_hour=0.5, notice_seconds=120.0, start_up_seconds=600.0, request_seconds=20.0)
    >>> spot_part(12, 10, allowed_share=0.05, **args).replicas, spot_part(12, 10, allowed_share=0.08, **args).replicas
    (2, 12)

    Raises:
        InvalidInput: a number is negative or not finite, more are needed than held, or the share is above 1.
    """
    numbers = (needed, interruptions_per_hour, notice_seconds, start_up_seconds, request_seconds)
    if not all(0 <= n < math.inf for n in numbers) or not 0 <= allowed_share <= 1:
        raise InvalidInput(f"spot capacity with {numbers} and {allowed_share!r} of the requests cannot be judged")
    if not needed <= held <= 100_000:
        raise InvalidInput(f"{held!r} replicas are held where {needed!r} are needed")
    down = interruptions_per_hour * start_up_seconds
    missing = down / (3_600.0 + down)
    lost = min(interruptions_per_hour / 3_600.0 * max(request_seconds - notice_seconds, 0.0), 1.0)
    spare = held - needed

    def outside(spot: int) -> float:
        if spot <= spare:
            short = 0.0
        elif together:
            short = missing
        else:
            terms = (math.comb(spot, k) * missing**k * (1.0 - missing) ** (spot - k) for k in range(spare + 1))
            short = max(1.0 - math.fsum(terms), 0.0)
        return min(short + (lost * spot / held if held else 0.0), 1.0)

    best = 0
    for spot in range(held + 1):
        if outside(spot) > allowed_share:
            break
        best = spot
    return SpotPart(best, outside(best), missing, lost)
