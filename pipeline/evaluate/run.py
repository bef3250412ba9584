"""The closed loop: a policy looks at the fleet, the fleet is scaled, requests are served, and so on to the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config.settings import PoolSettings, Settings
from pipeline.errors import InputError
from pipeline.evaluate.load_test import load_test
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import KeepsWarm, Policy, Setup
from pipeline.evaluate.trace import RequestTrace
from sizing.catalog import Catalog
from sizing.replica.memory import resolve
from sizing.replica.step_time import step_model
from sizing.simulate import Fleet, Outcome, Requests, World
from sizing.simulate.fleet import lane_limits
from sizing.simulate.lane import BLOCK_TOKENS
from sizing.simulate.replica_state import ReplicaTimes
from sizing.start_up import Stage, StartUp

__all__ = ["Run", "make_setup", "replicas_over_time", "run_policy", "trace_origin"]

#: Second 0 of a trace whose times count from its own beginning: Monday, 5 January 2026, 00:00 UTC.
_RELATIVE_EPOCH = 1_767_571_200
#: All but fixed fleets begin with what the first minutes need, unless the pool says otherwise.
_FIRST_SECONDS = 300.0
#: Below this, times are not dates but seconds since the beginning of the trace (1973).
_RELATIVE_BELOW = 1e8


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one trace: what became of the requests, the life of every replica, and what was decided.

    ``scaled`` holds (seconds, replicas ordered) of every change.
    """

    outcome: Outcome
    replicas: tuple[ReplicaTimes, ...]
    scaled: tuple[tuple[float, int], ...]
    initial_replicas: int


def trace_origin(trace: RequestTrace, grain_seconds: int) -> tuple[int, int]:
    """Return second 0 of the simulation in the trace's own time, and in epoch seconds."""
    first = float(trace.requests.arrival_seconds[0])
    origin = math.floor(first / grain_seconds) * grain_seconds
    relative = first < _RELATIVE_BELOW
    return origin, origin + (math.ceil(_RELATIVE_EPOCH / grain_seconds) * grain_seconds if relative else 0)


def make_setup(
    trace: RequestTrace,
    settings: Settings,
    pool: PoolSettings,
    catalog: Catalog,
    *,
    start_up: StartUp,
    world: World | None,
    seed: int,
) -> Setup:
    """Return what all policies of an evaluation share: the trace on the simulation's clock, and a load test.

    Raises:
        SizingError: the pool's deployment cannot be sized.
    """
    origin, epoch = trace_origin(trace, settings.windows.grain_seconds)
    moved = trace.requests
    requests = Requests(moved.arrival_seconds - origin, moved.input_tokens, moved.output_tokens, moved.cached_tokens)
    # Requests of less than a window, or of a single instant, are paid for to the end of the window.
    last = max(trace.end_seconds - origin, float(requests.arrival_seconds[-1]))
    end = max(last, float(settings.windows.grain_seconds))
    resolved = resolve(pool.deployment(), catalog)
    step = step_model(resolved).scaled(world.slow if world is not None else 1.0)
    resident = float((requests.input_tokens + requests.output_tokens / 2).mean())
    kv_tokens = lane_limits(resolved, resident).kv_blocks * BLOCK_TOKENS * resolved.lanes
    return Setup(
        settings=settings,
        pool=pool,
        catalog=catalog,
        resolved=resolved,
        requests=requests,
        step=step,
        load_test=load_test(resolved, requests, pool.slo(), world, seed),
        kv_tokens=float(kv_tokens),
        epoch=epoch,
        start_up=start_up,
        end_seconds=end,
    )


def run_policy(
    setup: Setup,
    policy: Policy,
    *,
    world: World | None,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Run:
    """Serve the trace with the fleet that the policy asks for; after its end the fleet stays and finishes.

    ``progress`` is called with the share of the trace that is done. The same arguments give the same run.

    Raises:
        InputError: the policy's interval is not positive.
        SizingError: it keeps replicas warm, and the parts of the start-up are not known.
    """
    initial = policy.initial_replicas
    if initial is None:
        initial = setup.limited(setup.pool.initial_replicas or _first_need(setup))
    keeps_warm = policy if isinstance(policy, KeepsWarm) else None
    fleet = Fleet(
        setup.resolved,
        setup.requests,
        replicas=initial,
        cold_start_seconds=setup.start_up_seconds,
        warm_replicas=0 if keeps_warm is None else _warm(setup, keeps_warm, initial),
        warm_start_seconds=0.0 if keeps_warm is None else setup.start_up.left_seconds(Stage.LOADED),
        seed=seed,
        world=world,
    )
    metrics = FleetMetrics(fleet)
    scaled: list[tuple[float, int]] = []
    interval = policy.interval_seconds
    if not interval > 0:
        raise InputError(f"a policy must decide at positive intervals, not every {interval!r} s")
    turns = int(setup.end_seconds // interval)
    for turn in range(1, turns + 1):
        now = turn * interval
        if now <= fleet.now_seconds:
            continue
        fleet.advance(now)
        metrics.refresh()
        wanted = setup.limited(policy.decide(metrics))
        if wanted != metrics.replicas:
            fleet.scale_to(wanted)
            scaled.append((now, wanted))
        if keeps_warm is not None:
            fleet.keep_warm(_warm(setup, keeps_warm, wanted))
        if progress is not None and turn % 64 == 0:
            progress(now / setup.end_seconds)
    fleet.advance()  # after the end of the trace nothing is scaled any more
    if progress is not None:
        progress(1.0)
    return Run(fleet.outcome(), tuple(fleet.replica_times()), tuple(scaled), initial)


def _warm(setup: Setup, policy: KeepsWarm, replicas: int) -> int:
    """Return what may be held warm: with those that take requests, no more than the pool's limit."""
    return min(policy.warm_replicas, max(setup.pool.max_replicas - replicas, 0))


def _first_need(setup: Setup) -> int:
    """Return what the first minutes need by the load test, at least 1: a fleet that served what came before."""
    seconds = min(_FIRST_SECONDS, max(setup.end_seconds, 1.0))
    count = int(np.searchsorted(setup.requests.arrival_seconds, seconds))
    return max(math.ceil(count / seconds / setup.load_test.requests_per_second), 1)


def replicas_over_time(run: Run, seconds: NDArray[np.float64], *, ready: bool) -> NDArray[np.int64]:
    """Return how many replicas were paid for (``ready``: took requests) at the given times."""
    counts = np.zeros(len(seconds), dtype=np.int64)
    for life in run.replicas:
        start, end = (life.ready_seconds, life.drained_seconds) if ready else (life.ordered_seconds, life.gone_seconds)
        counts += (seconds >= start) & (seconds < end)
    return counts
