"""Several replicas behind a router: start-up time, draining, and what became of every request.

Deterministic: the same requests, seed and scaling give the same outcome, whatever the host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sizing.errors import InvalidInput
from sizing.replica.memory import Resolved, require_fit
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.simulate.lane import BLOCK_TOKENS, Lane, LaneLoad
from sizing.simulate.outcome import Frontend, Outcome
from sizing.simulate.replica_state import ReplicaState, ReplicaTimes
from sizing.simulate.requests import LaneLimits, Requests, RequestTable
from sizing.simulate.world import NO_FATE, World

__all__ = ["Fleet", "Routing", "lane_limits", "simulate"]


class Routing(StrEnum):
    """How a request finds its replica (and the lane within it)."""

    LEAST_OUTSTANDING = "least_outstanding"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"


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
    ``world`` says how the fleet differs from the model; a replica that fails, or is interrupted, is replaced by one
    that starts anew. ``warm_replicas`` are held warm from the beginning; one that is held needs ``warm_start_seconds``
    to take requests (``keep_warm``).

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
        warm_replicas: int = 0,
        warm_start_seconds: float = 0.0,
        routing: Routing | str = Routing.LEAST_OUTSTANDING,
        seed: int = 0,
        coefficients: StepCoefficients | None = None,
        frontend: Frontend | None = None,
        world: World | None = None,
    ) -> None:
        if not 0 <= warm_start_seconds <= max(cold_start_seconds, 0.0):
            raise InvalidInput(
                f"a warm start of {warm_start_seconds!r} s must be within that of {cold_start_seconds!r} s"
            )
        if not 0 <= replicas <= 100_000 or not 0 <= cold_start_seconds < math.inf:
            raise InvalidInput(f"{replicas!r} replicas with a cold start of {cold_start_seconds!r} s cannot be")
        try:
            self.routing = Routing(routing)
        except ValueError:
            raise InvalidInput(f"routing must be one of {', '.join(Routing)}, not {str(routing)[:40]!r}") from None
        self._world, self._seed = world, seed
        self.requests = requests
        self.cold_start_seconds, self._warm_start_seconds = cold_start_seconds, warm_start_seconds
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
        self._replicas: list[ReplicaState] = []
        self._changes = 0
        self._routable: tuple[tuple[int, float], list[Lane], list[int]] | None = None
        self.now_seconds = float(requests.arrival_seconds[0]) if len(requests) else 0.0
        self._order(replicas, 0.0)
        self._order(_count(warm_replicas), 0.0, held=True)

    @property
    def replicas(self) -> int:
        """Replicas ordered to take requests, and not drained."""
        return len(self._kept())

    @property
    def warm_replicas(self) -> int:
        """Replicas ordered to be held warm, whether they are yet or not."""
        return sum(1 for replica in self._replicas if replica.held)

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
        return [replica.times() for replica in self._replicas]

    def _order(self, count: int, start_seconds: float, *, held: bool = False) -> None:
        """Order replicas that need so long to start, or to be warm; 0: they are at once, whatever the world."""
        for number in range(len(self._replicas), len(self._replicas) + count):
            fate = NO_FATE if self._world is None else self._world.fate(number, self._seed)
            at = self.now_seconds + start_seconds * fate.attempts
            replica = ReplicaState(number, fate, self.now_seconds, at)
            self._replicas.append(replica)
            if not held:
                self._start(replica, at)
        self._changes += 1

    def _start(self, replica: ReplicaState, ready_seconds: float) -> None:
        step = self._step.scaled(replica.fate.step_ratio) if self._world is not None else self._step
        lanes = (Lane(step, self._limits, self._table, ready_seconds) for _ in range(self._lanes_per_replica))
        replica.start(ready_seconds, lanes)

    def _kept(self) -> list[ReplicaState]:
        return [r for r in self._replicas if r.wanted and not r.held]

    def _serving(self, now: float) -> list[ReplicaState]:
        return [r for r in self._replicas if r.ready_seconds <= now and r.wanted]

    def scale_to(self, replicas: int) -> None:
        """Wake what is held warm, order new replicas, or drain the newest ones (those not ready yet first).

        Raises:
            InvalidInput: a negative count.
        """
        kept = self._kept()
        missing = _count(replicas) - len(kept)
        if missing > 0:
            held = sorted((r for r in self._replicas if r.held), key=lambda r: (r.warm_seconds, r.number))[:missing]
            for replica in held:
                self._start(replica, max(replica.warm_seconds, self.now_seconds) + self._warm_start_seconds)
            self._order(missing - len(held), self.cold_start_seconds)
        kept.sort(key=lambda r: (r.ready_seconds > self.now_seconds, r.number))
        self._drain(kept[replicas:])

    def keep_warm(self, replicas: int) -> None:
        """Hold so many replicas warm beside those that take requests; they are paid for. The newest are given back.

        One takes ``cold_start_seconds`` less ``warm_start_seconds`` to be warm.

        Raises:
            InvalidInput: a negative count.
        """
        held = [r for r in self._replicas if r.held]
        if _count(replicas) > len(held):
            self._order(replicas - len(held), self.cold_start_seconds - self._warm_start_seconds, held=True)
        self._drain(held[replicas:])

    def _drain(self, replicas: list[ReplicaState]) -> None:
        for replica in replicas:
            replica.drain(self.now_seconds)
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
            self._replace_lost()
        self._dispatch_front()
        for replica in self._replicas:
            for lane in replica.lanes:
                lane.run_until(until_seconds)

    def _next_change(self, until_seconds: float) -> float:
        """Return when the next replica becomes ready, fails, is interrupted or taken, at most ``until_seconds``.

        Without an end, failures beyond the last arrival do not count: there would be no end of replacements.
        """
        last = until_seconds if until_seconds < math.inf else self._table.arrival[-1] if self._table.arrival else 0.0
        times = [r.ready_seconds for r in self._replicas if r.wanted]
        times += [t for r in self._replicas for t in (r.fails_seconds, r.interrupted_seconds) if t <= last]
        times += [r.taken_seconds for r in self._replicas]
        return min((t for t in times if self.now_seconds < t < until_seconds), default=until_seconds)

    def _replace_lost(self) -> None:
        now, notice = self.now_seconds, 0.0 if self._world is None else self._world.spot_notice
        lost = [r for r in self._replicas if r.wanted and min(r.fails_seconds, r.interrupted_seconds) <= now]
        for replica in lost:
            if replica.fails_seconds <= now:
                replica.abandon(now)
                replica.drain(now)
            else:
                replica.drain(now, now + notice)
        for replica in self._replicas:
            if replica.taken_seconds <= now:
                replica.abandon(now)
                replica.taken_seconds = math.inf
        if lost:
            self._order(len(lost), self.cold_start_seconds)

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
            replica_seconds=math.fsum(max(r.gone(end) - r.ordered_seconds, 0.0) for r in self._replicas),
            kv_blocks=self._limits.kv_blocks,
            most_kv_blocks_used=self._limits.kv_blocks
            - min((lane.least_free_blocks for lane in lanes), default=self._limits.kv_blocks),
        )


def _count(replicas: int) -> int:
    if not 0 <= replicas <= 100_000:
        raise InvalidInput(f"{replicas!r} replicas cannot be")
    return replicas


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
