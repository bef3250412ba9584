"""Several replicas behind a router: start-up time, draining, and what became of every request.

Deterministic: the same requests, seed and scaling give the same outcome, whatever the host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sizing.errors import InvalidInput
from sizing.replica.memory import Resolved, require_fit
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.simulate.lane import BLOCK_TOKENS, Lane, LaneLoad
from sizing.simulate.outcome import Frontend, Outcome
from sizing.simulate.requests import LaneLimits, Requests, RequestTable
from sizing.simulate.world import World

__all__ = ["Fleet", "ReplicaTimes", "Routing", "lane_limits", "simulate"]


class Routing(StrEnum):
    """How a request finds its replica (and the lane within it)."""

    LEAST_OUTSTANDING = "least_outstanding"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"


@dataclass(slots=True)
class _Replica:
    number: int
    lanes: list[Lane]
    ordered_seconds: float
    ready_seconds: float
    drained_seconds: float = math.inf
    fails_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class ReplicaTimes:
    """When one replica was ordered, ready, drained and gone; seconds, infinite where that has not happened yet."""

    ordered_seconds: float
    ready_seconds: float
    drained_seconds: float
    gone_seconds: float


def lane_limits(resolved: Resolved, resident_tokens: float) -> LaneLimits:
    """Return what bounds one lane of a deployment.

    KV is counted in blocks of equal size; for windowed or linear attention their number is what the cache holds of
    contexts of ``resident_tokens`` tokens (exact for full attention and for capacities that the engine reported).

    Raises:
        DoesNotFit: no room is left for a KV cache.
    """
    memory = require_fit(resolved)
    deployment = resolved.deployment
    tokens = memory.max_sequences(resident_tokens) * resident_tokens / resolved.lanes
    return LaneLimits(
        max_num_seqs=max(deployment.max_num_seqs // deployment.pipeline_parallel, 1),
        max_batched_tokens=deployment.max_batched_tokens,
        kv_blocks=int(tokens // BLOCK_TOKENS),
    )


class Fleet:
    """Replicas of one deployment serving ``requests``; ``advance`` it, ``scale_to`` in between, read ``outcome``.

    ``replicas`` are ready at the first arrival; those ordered later after ``cold_start_seconds``. Requests that find no
    replica ready wait in front of the router; those routed stay with their replica, which finishes them when drained.
    ``world`` says how the fleet differs from the model; a replica that fails is replaced by one that starts anew.

    Raises:
        InvalidInput: counts or times that cannot be.
        DoesNotFit: the weights leave no room for a KV cache.
    """

    def __init__(
        self,
        resolved: Resolved,
        requests: Requests,
        *,
        replicas: int = 1,
        cold_start_seconds: float = 0.0,
        routing: Routing | str = Routing.LEAST_OUTSTANDING,
        seed: int = 0,
        coefficients: StepCoefficients | None = None,
        frontend: Frontend | None = None,
        world: World | None = None,
    ) -> None:
        if not 0 <= replicas <= 100_000 or not 0 <= cold_start_seconds < math.inf:
            raise InvalidInput(f"{replicas!r} replicas with a cold start of {cold_start_seconds!r} s cannot be")
        try:
            self.routing = Routing(routing)
        except ValueError:
            raise InvalidInput(f"routing must be one of {', '.join(Routing)}, not {str(routing)[:40]!r}") from None
        self._world, self._seed = world, seed
        self.requests = requests
        self.cold_start_seconds = cold_start_seconds
        self._frontend = frontend or Frontend()
        self._lanes_per_replica = resolved.lanes
        self._step = step_model(resolved, coefficients)
        self._table = RequestTable(
            requests.arrival_seconds.tolist(),
            requests.input_tokens.tolist(),
            (requests.input_tokens - requests.cached_tokens).tolist(),
            requests.output_tokens.tolist(),
        )
        resident = requests.input_tokens + requests.output_tokens / 2
        self._limits = lane_limits(resolved, float(resident.mean()) if len(requests) else 1.0)
        blocks = -(-(requests.input_tokens + requests.output_tokens) // BLOCK_TOKENS)
        self._rejected = blocks > self._limits.kv_blocks
        self._rejects: list[bool] = self._rejected.tolist()
        self._owner = [-1] * len(requests)
        self._next = 0
        self._front: deque[int] = deque()
        self._turn = 0
        self._random = np.random.default_rng(seed)
        self._replicas: list[_Replica] = []
        self._changes = 0
        self._routable: tuple[tuple[int, float], list[Lane], list[int]] | None = None
        self.now_seconds = float(requests.arrival_seconds[0]) if len(requests) else 0.0
        self._order(replicas, 0.0)

    @property
    def replicas(self) -> int:
        """Replicas ordered and not drained."""
        return sum(1 for replica in self._replicas if replica.drained_seconds == math.inf)

    @property
    def ready_replicas(self) -> int:
        """Replicas that take requests now."""
        return len(self._serving(self.now_seconds))

    @property
    def table(self) -> RequestTable:
        """What became of every request so far, without what the ``frontend`` adds."""
        return self._table

    @property
    def owner(self) -> list[int]:
        """The number of the replica that took each request; -1: none yet."""
        return self._owner

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """Which requests are longer than a lane's whole KV cache."""
        return self._rejected

    @property
    def waiting_in_front(self) -> int:
        """Requests that no replica has taken yet."""
        return len(self._front)

    def frontend_seconds(self) -> NDArray[np.float64]:
        """Return what the ``frontend`` adds to every latency of each request."""
        prompts = self.requests.input_tokens.astype(np.float64)
        return self._frontend.request_seconds + self._frontend.prompt_token_seconds * prompts

    def loads(self) -> list[tuple[LaneLoad, ...]]:
        """Return what the lanes of each ready replica hold after ``advance``."""
        return [tuple(lane.load for lane in replica.lanes) for replica in self._serving(self.now_seconds)]

    def replica_times(self) -> list[ReplicaTimes]:
        """Return the life of every replica that was ever ordered, up to now."""
        return [
            ReplicaTimes(r.ordered_seconds, r.ready_seconds, r.drained_seconds, self._gone(r, math.inf))
            for r in self._replicas
        ]

    def _order(self, count: int, start_seconds: float) -> None:
        """Order replicas that need so long to start; 0: they are ready at once, whatever the world."""
        for number in range(len(self._replicas), len(self._replicas) + count):
            step, attempts, lifetime = self._step, 1, math.inf
            if self._world is not None:
                ratio, attempts, lifetime = self._world.fate(number, self._seed)
                step = step.scaled(ratio)
            ready = self.now_seconds + start_seconds * attempts
            lanes = [Lane(step, self._limits, self._table, ready) for _ in range(self._lanes_per_replica)]
            fails = ready + lifetime
            self._replicas.append(_Replica(number, lanes, self.now_seconds, ready, fails_seconds=fails))
        self._changes += 1

    def _serving(self, now: float) -> list[_Replica]:
        return [r for r in self._replicas if r.ready_seconds <= now and r.drained_seconds == math.inf]

    def scale_to(self, replicas: int) -> None:
        """Order new replicas, or drain the newest ones (those not ready yet first).

        Raises:
            InvalidInput: a negative count.
        """
        if not 0 <= replicas <= 100_000:
            raise InvalidInput(f"{replicas!r} replicas cannot be")
        kept = [r for r in self._replicas if r.drained_seconds == math.inf]
        if replicas > len(kept):
            self._order(replicas - len(kept), self.cold_start_seconds)
        kept.sort(key=lambda r: (r.ready_seconds > self.now_seconds, r.number))
        for replica in kept[replicas:]:
            replica.drained_seconds = self.now_seconds
            replica.fails_seconds = math.inf  # what is being drained finishes
            self._changes += 1

    def advance(self, until_seconds: float = math.inf) -> None:
        """Route every arrival before ``until_seconds`` and run all replicas up to it (by default to the last token)."""
        arrival = self._table.arrival
        while True:
            # Up to the next replica that becomes ready or fails the set of replicas stays the same.
            change = self._next_change(until_seconds)
            self._dispatch_front()
            while self._next < len(arrival) and arrival[self._next] < change:
                request = self._next
                self._next += 1
                self.now_seconds = max(self.now_seconds, arrival[request])
                if not self._rejects[request]:
                    self._route(request)
            if change < math.inf:
                self.now_seconds = max(self.now_seconds, change)
            if change >= until_seconds:
                break
            self._replace_failed()
        self._dispatch_front()
        for replica in self._replicas:
            for lane in replica.lanes:
                lane.run_until(until_seconds)

    def _next_change(self, until_seconds: float) -> float:
        """Return when the next replica becomes ready or fails, at most ``until_seconds``.

        Without an end, failures beyond the last arrival do not count: there would be no end of replacements.
        """
        last = self._table.arrival[-1] if self._table.arrival else 0.0
        times = [r.ready_seconds for r in self._replicas if r.drained_seconds == math.inf]
        times += [r.fails_seconds for r in self._replicas if until_seconds < math.inf or r.fails_seconds <= last]
        return min((t for t in times if self.now_seconds < t < until_seconds), default=until_seconds)

    def _replace_failed(self) -> None:
        now = self.now_seconds
        failed = [r for r in self._replicas if r.fails_seconds <= now and r.drained_seconds == math.inf]
        for replica in failed:
            for lane in replica.lanes:
                lane.run_until(now)
                lane.abandon(now)
            replica.drained_seconds = now
        if failed:
            self._order(len(failed), self.cold_start_seconds)

    def _dispatch_front(self) -> None:
        if self._front and self._serving(self.now_seconds):
            waiting, self._front = self._front, deque()
            for request in waiting:
                self._route(request)

    def _route(self, request: int) -> None:
        if self._routable is None or self._routable[0][0] != self._changes or self.now_seconds >= self._routable[0][1]:
            serving = self._serving(self.now_seconds)
            later = [r.ready_seconds for r in self._replicas if r.ready_seconds > self.now_seconds]
            lanes = [lane for place in range(self._lanes_per_replica) for lane in (r.lanes[place] for r in serving)]
            numbers = [r.number for _ in range(self._lanes_per_replica) for r in serving]
            self._routable = ((self._changes, min(later, default=math.inf)), lanes, numbers)
        _, lanes, numbers = self._routable
        if not lanes:
            self._front.append(request)
            return
        if len(lanes) == 1:
            chosen = 0
        elif self.routing is Routing.ROUND_ROBIN:
            chosen = self._turn % len(lanes)
            self._turn += 1
        elif self.routing is Routing.RANDOM:
            chosen = int(self._random.integers(len(lanes)))
        else:
            chosen = self._least_outstanding(lanes)
        self._owner[request] = numbers[chosen]
        lanes[chosen].submit(request)

    def _least_outstanding(self, lanes: list[Lane]) -> int:
        """Return the lane with the fewest unfinished requests; among equals the next one in turn."""
        now, count = self.now_seconds, len(lanes)
        fewest, chosen = math.inf, 0
        for place in range(self._turn, self._turn + count):
            index = place % count
            lane = lanes[index]
            lane.run_until(now)
            held = lane.outstanding(now)
            if held < fewest:
                fewest, chosen = held, index
                if held == 0:
                    break
        self._turn = (chosen + 1) % count
        return chosen

    def outcome(self) -> Outcome:
        """Return what became of the requests so far."""
        table, arrival = self._table, self.requests.arrival_seconds
        delay = self.frontend_seconds()
        first, finish = np.array(table.first) + delay, np.array(table.finish) + delay
        after = np.maximum(self.requests.output_tokens - 1, 1)
        tpot = np.where(self.requests.output_tokens > 1, (finish - first) / after, np.nan)
        lanes = [lane for replica in self._replicas for lane in replica.lanes]
        end = max([self.now_seconds, *(lane.clock_seconds for lane in lanes if lane.steps)])

        return Outcome(
            requests=self.requests,
            ttft_seconds=first - arrival,
            tpot_seconds=tpot,
            e2e_seconds=finish - arrival,
            queue_seconds=np.array(table.admitted) - arrival,
            replica=np.array(self._owner, dtype=np.int64),
            preemptions=np.array(table.preemptions, dtype=np.int64),
            rejected=self._rejected,
            end_seconds=end,
            busy_seconds=_total(lanes, lambda lane: lane.busy_seconds),
            running_seconds=_total(lanes, lambda lane: lane.running_seconds),
            batch_seconds=_total(lanes, lambda lane: lane.batch_seconds),
            replica_seconds=math.fsum(max(self._gone(r, end) - r.ordered_seconds, 0.0) for r in self._replicas),
            kv_blocks=self._limits.kv_blocks,
            most_kv_blocks_used=self._limits.kv_blocks
            - min((lane.least_free_blocks for lane in lanes), default=self._limits.kv_blocks),
        )

    @staticmethod
    def _gone(replica: _Replica, end: float) -> float:
        """Return when a replica gave its GPUs back: when drained and done; ``end`` while it stays."""
        if replica.drained_seconds == math.inf:
            return end
        return max(replica.drained_seconds, *(lane.clock_seconds for lane in replica.lanes if lane.steps), 0.0)


def _total(lanes: list[Lane], value: Callable[[Lane], float]) -> float:
    return math.fsum(value(lane) for lane in lanes)


def simulate(
    resolved: Resolved,
    requests: Requests,
    *,
    replicas: int = 1,
    routing: Routing | str = Routing.LEAST_OUTSTANDING,
    seed: int = 0,
    coefficients: StepCoefficients | None = None,
    frontend: Frontend | None = None,
    world: World | None = None,
) -> Outcome:
    """Serve ``requests`` with a fixed number of replicas until the last token; see ``Fleet``."""
    fleet = Fleet(
        resolved,
        requests,
        replicas=replicas,
        routing=routing,
        seed=seed,
        coefficients=coefficients,
        frontend=frontend,
        world=world,
    )
    fleet.advance()
    return fleet.outcome()
