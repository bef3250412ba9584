"""What a policy is: a rule that says how many replicas are wanted, from what may be seen of the fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.config.settings import PoolSettings, Settings
from pipeline.evaluate.load_test import LoadTest
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.forecast.calendar.effects import CalendarRecord
from sizing.catalog import Catalog
from sizing.replica.memory import Resolved
from sizing.replica.step_time import StepModel
from sizing.simulate import Requests
from sizing.start_up import StartUp

__all__ = ["CALENDAR", "START_UP_PARTS", "KeepsWarm", "Knob", "Policy", "PolicySpec", "Setup", "Stabiliser"]


#: What a policy may need (``PolicySpec.needs``), as the command's options have it.
START_UP_PARTS, CALENDAR = "--start-up in parts", "--calendar"


class Policy(Protocol):
    """A rule under test. It may keep state; the same metrics in the same order give the same answers."""

    @property
    def interval_seconds(self) -> float:
        """Seconds between two decisions."""
        ...

    @property
    def initial_replicas(self) -> int | None:
        """Replicas that are ready from the beginning; None: those that every policy begins with."""
        ...

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas wanted now; the pool's limits are applied afterwards."""
        ...


@runtime_checkable
class KeepsWarm(Protocol):
    """A policy that also holds replicas warm, with their weights loaded, beside those that take requests."""

    @property
    def warm_replicas(self) -> int:
        """Replicas to hold warm, asked for at the beginning and after every decision."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What policies are made from. Times are seconds of the simulation.

    ``requests`` is the whole trace: for those alone that decide with hindsight (oracle, static). ``load_test`` is what
    an operator has measured. ``step`` is the true step time of a replica of this world, ``kv_tokens`` what its KV cache
    holds. ``epoch`` is the time of second 0, epoch seconds.
    ``calendar`` holds announced events, each known from its ``announced_at`` on, for policies that heed them.
    """

    settings: Settings
    pool: PoolSettings
    catalog: Catalog
    resolved: Resolved
    requests: Requests
    step: StepModel
    load_test: LoadTest
    kv_tokens: float
    epoch: int
    start_up: StartUp
    end_seconds: float
    calendar: tuple[CalendarRecord, ...] = ()

    @property
    def start_up_seconds(self) -> float:
        """What a replica needs from its order until it takes requests."""
        return self.start_up.total_seconds

    def limited(self, replicas: float) -> int:
        """Return a number of replicas within the pool's limits."""
        return int(min(max(replicas, self.pool.min_replicas), self.pool.max_replicas))


@dataclass(frozen=True, slots=True)
class Knob:
    """The one number of a policy that its operator turns to trade cost for attainment; ``values`` are swept.

    ``default`` None: the pool's own setting of that name.
    """

    name: str
    default: float | None
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy by name: how it is made for a run, with its knob at a value.

    ``needs``: what of the question it cannot do without (``START_UP_PARTS``, ``CALENDAR``); it is left out where all
    policies are asked for and that is not told. ``beside`` names the same rule without what this one adds.
    """

    name: str
    title: str
    make: Callable[[Setup, float], Policy]
    knob: Knob
    needs: str | None = None
    beside: str | None = None

    def policy(self, setup: Setup, value: float | None = None) -> Policy:
        """Return the policy for one run; ``value`` of the knob, None: its default."""
        if value is None:
            value = self.knob.default
        if value is None:
            value = float(getattr(setup.pool, self.knob.name))
        return self.make(setup, value)


class Stabiliser:
    """The Kubernetes HPA's stabilisation windows: down to the greatest, up to the least wish of the newest seconds.

    Source: Kubernetes, Horizontal Pod Autoscaling, "Stabilization window" (defaults: down 300 s, up 0 s).
    """

    def __init__(self, down_seconds: float = 300.0, up_seconds: float = 0.0) -> None:
        self._down_seconds, self._up_seconds = down_seconds, up_seconds
        self._wishes: deque[tuple[float, int]] = deque()

    def apply(self, now: float, current: int, wanted: int) -> int:
        """Return what may be done now about a wish."""
        self._wishes.append((now, wanted))
        while self._wishes[0][0] < now - max(self._down_seconds, self._up_seconds):
            self._wishes.popleft()
        highest = max(wish for at, wish in self._wishes if at >= now - self._down_seconds)
        lowest = min(wish for at, wish in self._wishes if at >= now - self._up_seconds)
        if current < lowest:
            return lowest
        return min(current, highest)
