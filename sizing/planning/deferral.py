"""Work that may wait, moved into the valleys of work that may not: earliest deadline first against a demand forecast.

At every step the lowest level of capacity is sought at which what waits still meets its deadlines if the urgent demand
comes as forecast (the "optimal available" rule of Yao, Demers and Shenker 1995, "A scheduling model for reduced CPU
energy", with the urgent demand as a floor). Work up to that level is released now, earliest deadline first, as a
lease that expires: who hears nothing more of it releases nothing more, but for what is due.

Units: work is in replica-seconds, demand and levels in replicas. Pure and deterministic.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.errors import InvalidInput

__all__ = ["DeferralQueue", "DrainLease", "Room", "lowest_level", "room_now"]

Floats = NDArray[np.float64]

#: Bisections of the level: to 2⁻⁴⁰ of the bracket.
_ROUNDS = 40


@dataclass(frozen=True, slots=True)
class DrainLease:
    """What may be released from ``starts_at`` until ``expires_at`` (epoch seconds).

    ``level_replicas`` is the capacity that the plan keeps to, ``released`` the work (replica-seconds) in ``jobs`` that
    are released, earliest deadline first; ``forced`` of them are because they are due, whatever the demand.
    """

    starts_at: float
    expires_at: float
    level_replicas: float
    released: float
    jobs: tuple[int, ...]
    forced: int


def lowest_level(urgent: Floats, step_seconds: float, due_seconds: Floats, work: Floats) -> float:
    """Return the least capacity at which work meets its deadlines beside the urgent demand.

    Args:
        urgent: forecast of the urgent demand in replicas, by step from now.
        step_seconds: how long a step is.
        due_seconds: when work is due, seconds from now, ascending.
        work: how much is due then, replica-seconds.

    What is due beyond the forecast counts as due at its end. Work that is due within the first step, or before now, is
    placed in the first step.

    >>> two_valleys = np.array([4.0, 0.0, 0.0, 4.0])
    >>> lowest_level(two_valleys, 100.0, np.array([300.0]), np.array([400.0]))  # two hundred in each
    2.0
    """
    if not work.size:
        return 0.0
    ends = np.clip(np.ceil(due_seconds / step_seconds - 1e-9), 1, len(urgent)).astype(np.int64)
    by_step = np.cumsum(np.bincount(ends - 1, work, len(urgent)))
    low, high = 0.0, float(urgent.max()) + float(by_step[-1]) / step_seconds
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        free = np.cumsum(np.maximum(middle - urgent, 0.0)) * step_seconds
        if (free >= by_step).all():
            high = middle
        else:
            low = middle
    return round(high, 9)


@dataclass(frozen=True, slots=True)
class Room:
    """``spare_replicas`` are free of urgent demand in the step that begins now; ``released`` replica-seconds may start.

    ``level_replicas`` must be held for the work to meet its deadline (None: no work was stated). ``due``: it is
    released because it is due, whatever the demand.
    """

    spare_replicas: float
    released: float
    level_replicas: int | None = None
    due: bool = False


def room_now(
    running: float,
    urgent_now: float,
    step_seconds: float,
    *,
    urgent: Floats | None = None,
    work: float | None = None,
    due_seconds: float = 0.0,
) -> Room:
    """Return what divisible work may start within a step on replicas that run anyway.

    Args:
        running: replicas that run and will go on running.
        urgent_now: what the urgent demand needs of them meanwhile, replicas; infinite: not known.
        step_seconds: how long the room is for.
        urgent: forecast of the urgent demand in replicas, by step from now; None: not known, and no level is told.
        work: replica-seconds that wait; None: not stated, the whole room is told.
        due_seconds: when the last of it must have started, seconds from now.

    Raises:
        InvalidInput: a number is negative or not a number, the work or its deadline infinite.
    """
    finite = (running, step_seconds, due_seconds, work or 0.0)
    if not (all(0 <= value < math.inf for value in finite) and urgent_now >= 0):
        raise InvalidInput(f"replicas, work and deadlines must be at least 0, not {(*finite, urgent_now)}")
    spare = max(running - urgent_now, 0.0)
    if work is None:
        return Room(spare, spare * step_seconds)
    level = None
    if urgent is not None and len(urgent):
        level = math.ceil(lowest_level(urgent, step_seconds, np.array([due_seconds]), np.array([work])) - 1e-6)
    if due_seconds < step_seconds:
        return Room(spare, work, level, due=True)
    return Room(spare, min(work, spare * step_seconds), level)


class DeferralQueue:
    """Jobs that wait, each with its work and its deadline."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, float]] = []  # deadline, job, work

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: int, deadline: float, work: float) -> None:
        """Add a job; ``deadline`` (epoch seconds) is when it must be released at the latest.

        Raises:
            InvalidInput: the deadline or the work is not finite, or the work negative.
        """
        if not (math.isfinite(deadline) and 0 <= work < math.inf):
            raise InvalidInput(f"job {job} has deadline {deadline!r} and work {work!r}")
        insort(self._waiting, (deadline, job, work))

    def lease(
        self,
        now: float,
        step_seconds: float,
        urgent: Floats | None,
        *,
        spare_replicas: float = 0.0,
        whole: bool = True,
    ) -> DrainLease:
        """Release what the step that begins now has room for, earliest deadline first, and what is due within it.

        Args:
            now: epoch seconds.
            step_seconds: how long the lease holds.
            urgent: forecast quantile of the urgent demand in replicas, by step from now; None: not known, and nothing
                but what is due is released.
            spare_replicas: capacity that is paid for anyway.
            whole: levels are whole replicas, as they are paid for.
        """
        level = 0.0
        room = 0.0
        if urgent is not None and len(urgent) and self._waiting:
            deadlines, _, work = np.array(self._waiting).T
            level = lowest_level(urgent, step_seconds, deadlines - now, work)
            if whole:
                level = math.ceil(level - 1e-6)
            level = max(level, spare_replicas)
            room = max(level - float(urgent[0]), 0.0) * step_seconds
        released: list[int] = []
        done, forced = 0.0, 0
        for deadline, job, amount in self._waiting:
            due = deadline < now + step_seconds
            if not due and done + amount > room + 1e-9:
                break
            forced += int(due and done + amount > room + 1e-9)
            done += amount
            released.append(job)
        del self._waiting[: len(released)]
        return DrainLease(now, now + step_seconds, level, done, tuple(released), forced)
