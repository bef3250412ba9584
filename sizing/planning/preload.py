"""When to begin loading replicas before a spike that is announced or forecast, how many, where, and what it costs.

A replica that takes L seconds to start must be ordered at onset - L - margin. One for which a warm place is kept (its
machine is there, or its weights are loaded too) starts with what is left of L, so that it is ordered later and idles
less. What idling costs is paid from the order to the onset; what it saves are the requests that would wait beyond the
objective (``spike_loss``). Pure; the clock is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sizing.errors import InvalidInput
from sizing.planning.spike_loss import late_requests
from sizing.start_up import Stage, StartUp

__all__ = ["Load", "Preload", "Spike", "WarmPlace", "preload"]


@dataclass(frozen=True, slots=True)
class Spike:
    """Demand that will jump at ``starts_at`` (epoch seconds): ``needed`` replicas of ``model`` where ``running`` are
    there.

    ``requests_per_second`` come during it, of which one replica carries ``replica_requests_per_second``; a request may
    wait ``patience_seconds``. ``dollars_per_replica_hour`` None: no price is known.

    Raises:
        InvalidInput: a number is negative or not finite, or it ends before it starts.
    """

    name: str
    model: str
    starts_at: float
    ends_at: float
    running: int
    needed: int
    requests_per_second: float
    replica_requests_per_second: float
    patience_seconds: float
    start_up: StartUp
    dollars_per_replica_hour: float | None = None

    def __post_init__(self) -> None:
        rates = (self.requests_per_second, self.replica_requests_per_second)
        numbers = (self.running, self.needed, *rates, self.patience_seconds, self.dollars_per_replica_hour or 0.0)
        if not all(0 <= n < math.inf for n in numbers):
            raise InvalidInput(f"spike {self.name[:40]!r} has numbers that cannot be: {numbers}")
        if not (math.isfinite(self.starts_at) and self.starts_at < self.ends_at < math.inf):
            raise InvalidInput(f"spike {self.name[:40]!r} must end after it starts")


@dataclass(frozen=True, slots=True)
class WarmPlace:
    """A place for one replica that is paid for anyway: its machine is there. ``model``: whose weights are loaded."""

    name: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """``replicas`` to begin loading at ``begin_at`` (epoch seconds); they take requests at ``ready_at``.

    ``place`` names the warm place of one replica; None: new machines.
    """

    begin_at: float
    ready_at: float
    replicas: int
    stage: Stage
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Preload:
    """What to load before one spike.

    ``idle_replica_seconds`` are paid from each load's beginning to the onset, ``idle_dollars`` for them (None: no
    price); time of warm places is paid for anyway and not counted. ``late_requests_without``: beyond their patience if
    the same replicas are ordered ``detection_seconds`` after the onset; ``late_requests_with``: with these loads.
    ``delay_seconds`` is how long after the onset the last of them is ready, where it is known too late.
    """

    spike: Spike
    loads: tuple[Load, ...]
    idle_replica_seconds: float
    idle_dollars: float | None
    late_requests_without: float
    late_requests_with: float

    @property
    def replicas(self) -> int:
        """Replicas to load."""
        return sum(load.replicas for load in self.loads)

    @property
    def begin_at(self) -> float | None:
        """When the first load begins, epoch seconds; None: there is nothing to load."""
        return min((load.begin_at for load in self.loads), default=None)

    @property
    def ready_at(self) -> float | None:
        """When the last load is ready, epoch seconds; None: there is nothing to load."""
        return max((load.ready_at for load in self.loads), default=None)

    @property
    def delay_seconds(self) -> float:
        """How long after the onset the last replica is ready; 0: in time."""
        return 0.0 if self.ready_at is None else max(self.ready_at - self.spike.starts_at, 0.0)


def preload(
    spikes: Iterable[Spike],
    now: float,
    *,
    margin_seconds: float = 0.0,
    detection_seconds: float = 0.0,
    places: Sequence[WarmPlace] = (),
) -> tuple[Preload, ...]:
    """Return what to load before each spike, in order of their onsets.

    Args:
        spikes: what will come.
        now: epoch seconds; nothing is begun before.
        margin_seconds: replicas are to be ready so long before the onset.
        detection_seconds: how long after the onset a rule that reacts orders what is missing.
        places: warm places. Each serves one spike at a time. A spike gets those first that have its model's weights,
        then
            any other, until as many as it needs; what is left goes to new machines. Spikes of one moment come in order
            of the requests that are at stake.

    Raises:
        InvalidInput: a time is negative or not finite, or places are told and the parts of a start-up are not known.
    """
    for seconds in (margin_seconds, detection_seconds):
        if not 0 <= seconds < math.inf:
            raise InvalidInput(f"margins must be finite and not negative, not {seconds!r}")
    if not math.isfinite(now):
        raise InvalidInput(f"now must be epoch seconds, not {now!r}")
    holds = {place.name: place.model for place in places}
    free_from = dict.fromkeys(holds, -math.inf)

    def at_stake(spike: Spike) -> float:
        return _late(spike, [(detection_seconds + spike.start_up.total_seconds, spike.needed - spike.running)])

    found = []
    for spike in sorted(spikes, key=lambda spike: (spike.starts_at, -at_stake(spike), spike.name)):
        ready_by = spike.starts_at - margin_seconds
        loads: list[Load] = []
        missing = max(spike.needed - spike.running, 0)
        for place in sorted(holds, key=lambda place: (holds[place] != spike.model, place)):
            if len(loads) == missing:
                break
            stage = Stage.LOADED if holds[place] == spike.model else Stage.PROVISIONED
            load = _load(spike, now, ready_by, 1, stage, place)
            if free_from[place] <= load.begin_at:
                loads.append(load)
                holds[place], free_from[place] = spike.model, spike.ends_at
        if len(loads) < missing:
            loads.append(_load(spike, now, ready_by, missing - len(loads), Stage.COLD, None))
        found.append(_told(spike, loads, at_stake(spike)))
    return tuple(found)


def _load(spike: Spike, now: float, ready_by: float, replicas: int, stage: Stage, place: str | None) -> Load:
    left = spike.start_up.left_seconds(stage)
    begin = max(ready_by - left, now)
    return Load(begin, begin + left, replicas, stage, place)


def _told(spike: Spike, loads: list[Load], without: float) -> Preload:
    paid = [(max(spike.starts_at - load.begin_at, 0.0), load.replicas) for load in loads if load.place is None]
    idle = math.fsum(seconds * replicas for seconds, replicas in paid)
    dollars = spike.dollars_per_replica_hour
    later = [(load.ready_at - spike.starts_at, load.replicas) for load in loads]
    cost = None if dollars is None else idle / 3_600.0 * dollars
    return Preload(spike, tuple(loads), idle, cost, without, _late(spike, later))


def _late(spike: Spike, ready: Iterable[tuple[float, int]]) -> float:
    """Return the late requests if replicas become ready so many seconds after the onset (before it: negative)."""
    times = sorted((max(at, 0.0), replicas) for at, replicas in [(0.0, spike.running), *ready] if replicas >= 0)
    steps, total = [], 0
    for at, together in groupby(times, key=lambda item: item[0]):
        total += sum(replicas for _, replicas in together)
        steps.append((at, total * spike.replica_requests_per_second))
    return late_requests(
        spike.requests_per_second,
        steps,
        patience_seconds=spike.patience_seconds,
        duration_seconds=spike.ends_at - spike.starts_at,
    )
