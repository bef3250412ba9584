"""What a live queue needs: requests that wait now are demand that no forecast has to guess.

Replicas that are ordered now serve only after a start-up; by then those that serve and those that start already have
worked off a part of the queue, or it has grown. What is left then decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sizing.errors import SizingError
from sizing.planning.demand_needs import replicas_text, whole
from sizing.planning.operating_point import OperatingPoint
from sizing.planning.plan import Plan, Planner
from sizing.types import Demand

__all__ = ["CLEAR_SECONDS", "ClearingCost", "LiveQueue", "ServingFleet", "backlog", "clearing_replicas", "queue_need"]

#: A queue that is too long is to be gone so many seconds after the replicas serve, unless that costs too much.
CLEAR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ClearingCost:
    """What replicas that work off a queue cost: one is kept for ``kept_seconds`` once it serves.

    ``under_to_over`` is the cost of a replica-hour too few over that of one too many.
    """

    under_to_over: float
    kept_seconds: float


@dataclass(frozen=True, slots=True)
class ServingFleet:
    """``ready`` replicas serve; ``starting_seconds`` from now on each of the others does (None: not known when).

    ``start_up_seconds`` is what one that is ordered now takes. One that starts at an unknown time is taken to serve
    no sooner than one that is ordered now; so is one whose time has passed and that does not serve.
    """

    ready: int
    starting_seconds: Sequence[float | None] = ()
    start_up_seconds: float = 0.0

    def __str__(self) -> str:
        starting = len(self.starting_seconds)
        return replicas_text(self.ready) + (f", {starting} more start" if starting else "")

    def joining_seconds(self) -> list[float]:
        """Return when each replica that starts will serve, seconds from now, at most a start-up; ascending."""
        most = max(self.start_up_seconds, 0.0)
        return sorted(
            min(seconds, most) if seconds is not None and seconds > 0 else most for seconds in self.starting_seconds
        )


def backlog(queued_requests: float, per_second: float, each_per_second: float, fleet: ServingFleet) -> float:
    """Return the requests that will wait when a replica that is ordered now serves.

    A fluid queue: it grows by arrivals less what the replicas that serve by then work off, and is never below zero
    (Newell 1982, "Applications of Queueing Theory", chapter 2).

    Args:
        queued_requests: those that wait now.
        per_second: arrivals.
        each_per_second: what one replica serves while requests wait.
        fleet: what serves and what starts.
    """
    left, at, serving = max(queued_requests, 0.0), 0.0, fleet.ready
    for joins in (*fleet.joining_seconds(), max(fleet.start_up_seconds, 0.0)):
        left = max(left + (per_second - serving * each_per_second) * (joins - at), 0.0)
        at, serving = joins, serving + 1
    return left


def clearing_replicas(backlog_seconds: float, carried: float, paid_seconds: float, under_to_over: float) -> float:
    """Return the replicas beside those that carry the arrivals, with which working off a backlog costs least.

    m of them need b / m seconds for a backlog of b replica-seconds and are paid for p seconds besides: m · p + b too
    many. Meanwhile the demand of λ replicas is late: λ · b / m too few. r · λ · b / m + m · p is least where
    m = √(r · λ · b / p), as in the economic order quantity (Harris 1913).

    Args:
        backlog_seconds: b, how long one replica would work it off.
        carried: λ, the replicas that the arrivals keep busy; at least one replica's worth of requests waits.
        paid_seconds: p, how long a replica is paid for before and after it works the backlog off.
        under_to_over: r, the cost of a replica-hour too few over that of one too many.
    """
    return math.sqrt(under_to_over * max(carried, 1.0) * max(backlog_seconds, 0.0) / max(paid_seconds, CLEAR_SECONDS))


def queue_need(
    queued_requests: int | None,
    fleet: ServingFleet | None,
    requests_per_second: float | None,
    point: OperatingPoint | None,
    ttft_seconds: float | None,
    cost: ClearingCost | None = None,
) -> int | None:
    """Return the replicas that a live queue needs; None: it needs no more than serve and start.

    Without a replica any queue needs one. Otherwise it is too long when, by the time that a replica ordered now
    serves, the last request of what is left of it (``backlog``) would wait longer than the objective for the time to
    first token: backlog / (replicas by then × saturation rate), by Little's law (Little 1961). What is needed then is
    what carries the arrivals, and while the backlog lasts serves them beside working it off in ``CLEAR_SECONDS`` (the
    backlog per instance that an acceptable latency allows, as in "Scaling based on Amazon SQS", Amazon EC2 Auto
    Scaling user guide), or more slowly where that costs less (``clearing_replicas``): a backlog that is as long as
    a long start-up would need many replicas for a minute, which are paid for all of the start-up.

    A longer queue and more arrivals never need fewer replicas; one more that serves or starts never needs more.

    Args:
        queued_requests: requests that wait; None: not known.
        fleet: replicas that serve and start; None: not known.
        requests_per_second: arrivals; None: not known, taken to be what the replicas that serve work off.
        point: what one replica carries; None: not known.
        ttft_seconds: objective for the time to first token; None: ``CLEAR_SECONDS`` stand for it.
        cost: what working it off costs; None: that does not count.
    """
    if not queued_requests or queued_requests < 0 or fleet is None:
        return None
    known = fleet.ready + len(fleet.starting_seconds)
    if point is None or not point.requests_per_second > 0:
        return 1 if known == 0 else None
    each = max(point.saturation_requests_per_second, point.requests_per_second)
    rate = requests_per_second if requests_per_second is not None and math.isfinite(requests_per_second) else None
    arrivals = fleet.ready * each if rate is None else max(rate, 0.0)
    left = backlog(queued_requests, arrivals, each, fleet)
    objective = CLEAR_SECONDS if ttft_seconds is None else ttft_seconds
    if known and left <= known * each * objective:
        return None
    carried = 0.0 if rate is None else arrivals / point.requests_per_second
    busy, clearing = arrivals / each, left / CLEAR_SECONDS / each
    if cost is not None:
        paid = max(fleet.start_up_seconds, 0.0) + cost.kept_seconds
        clearing = min(clearing, clearing_replicas(left / each, busy, paid, cost.under_to_over))
    return max(1, whole(max(carried, busy + clearing)))


class LiveQueue:
    """What a live queue needs, by what one replica carries as far as that is known. Pickles.

    That is what the newest plan says; before the first one, what ``planner`` says of the requests seen so far.
    """

    def __init__(self, planner: Planner | None, ttft_seconds: float | None, cost: ClearingCost | None = None) -> None:
        self._planner = planner
        self._ttft_seconds = ttft_seconds
        self._cost = cost
        self._before: tuple[float, int] | None = None  # when (epoch seconds), and how many waited
        self._point: OperatingPoint | None = None

    def busy_with(self, now: float, queued_requests: int | None, fleet: ServingFleet | None) -> float:
        """Return the replicas that are busy working off a queue that is too long, by how it has shrunk; 0: none.

        A replica that serves its own queue takes nothing of what comes now, so that they are needed beside those that
        carry the arrivals; and of a queue that all share, they are what works it off.
        """
        before, self._before = self._before, None if queued_requests is None else (now, queued_requests)
        if before is None or not queued_requests or fleet is None or self._point is None or now <= before[0]:
            return 0.0
        each = self._point.saturation_requests_per_second
        objective = CLEAR_SECONDS if self._ttft_seconds is None else self._ttft_seconds
        if not each > 0 or queued_requests <= fleet.ready * each * objective:
            return 0.0
        return min(max(before[1] - queued_requests, 0) / (now - before[0]) / each, float(fleet.ready))

    def need(
        self,
        queued_requests: int | None,
        fleet: ServingFleet | None,
        requests_per_second: float | None,
        plan: Plan | None,
        demand: Demand | None,
    ) -> int | None:
        """Return what ``queue_need`` does; ``plan`` and ``demand`` are those of this decision, None: there is none."""
        if plan is not None:
            self._point = plan.operating_point
        elif self._point is None and self._planner is not None and demand is not None:
            with suppress(SizingError):
                self._point = self._planner.operating_point(demand.workload, demand.dispersion)
        return self.needed_now(queued_requests, fleet, requests_per_second)

    def needed_now(
        self, queued_requests: int | None, fleet: ServingFleet | None, requests_per_second: float | None
    ) -> int | None:
        """Return what ``queue_need`` does, by what one replica carried at the last decision; nothing changes."""
        return queue_need(queued_requests, fleet, requests_per_second, self._point, self._ttft_seconds, self._cost)
