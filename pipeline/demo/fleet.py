"""The simulated fleet's output: its past, folded by the code that folds events from Kafka, and its events to come."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo.router_count import RouterCount
from pipeline.demo.scenario import Scenario
from pipeline.demo.service import (
    BLOCK_SECONDS,
    ERROR,
    REJECTED,
    FleetSimulator,
    PlannedReplicas,
    ReadyReplicas,
    ServedRequests,
)
from pipeline.engine.types import StepInput
from pipeline.errors import InputError
from pipeline.events.columns import EventColumns, EventKey
from pipeline.events.request_event import STATUSES, RequestEvent
from pipeline.windows.fold import fold_to_columns
from pipeline.windows.latencies import latency_counts, with_latencies
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window, rollup
from pipeline.windows.types import DeltaRows, HistogramColumns, PoolKey, WindowKey

__all__ = ["HistoryChunk", "events", "history", "request_events", "to_columns"]


@dataclass(frozen=True, slots=True)
class HistoryChunk:
    """Base rows of the arrivals in [start, end) (epoch seconds), as ``fold_to_columns`` returns them.

    ``replicas`` holds, per pool and block of ``BLOCK_SECONDS``, those that ran, starting ones included, and those that
    served. Nobody kept who sent what.
    """

    start: int
    end: int
    keys: list[WindowKey]
    rows: DeltaRows
    histograms: HistogramColumns
    replicas: dict[PoolKey, tuple[tuple[int, int], ...]]

    def steps(self, grain_seconds: int) -> list[StepInput]:
        """Return the chunk as closed windows, one step per grain, every pool in every step.

        Raises:
            InputError: the chunk does not begin and end on the grain.
        """
        if self.start % grain_seconds or self.end % grain_seconds:
            raise InputError(f"history from {self.start} to {self.end} is not whole windows of {grain_seconds} s")
        found = {(w.start, w.key): w for w in rollup([(self.keys, self.rows)], grain_seconds)}
        told = latency_counts([(self.keys, self.rows, self.histograms)], grain_seconds)
        nothing = (0,) * len(CLOSED_MEASURES)
        steps = []
        for start in range(self.start, self.end, grain_seconds):
            windows = []
            for key, replicas in self.replicas.items():
                window = found.get((start, key)) or closed_window(start, grain_seconds, key.model, key.pool, nothing)
                block = min((start + grain_seconds - self.start) // BLOCK_SECONDS, len(replicas)) - 1
                current, ready = replicas[max(block, 0)]
                window = dataclasses.replace(window, current_replicas=current, ready_replicas=ready)
                windows.append(with_latencies(window, told.get((start, key.model, key.pool), {})))
            steps.append(StepInput(start + grain_seconds, tuple(windows)))
        return steps


def history(scenario: Scenario, start: float, end: float, chunk_seconds: int = 3_600) -> Iterator[HistoryChunk]:
    """Yield what the fleet was asked for in [start, end), served by the replicas a careful operator would have run.

    ``start`` and ``end`` (epoch seconds) are cut to whole blocks; requests that arrived before ``end`` are counted
    whether or not they had completed by then, so history and ``events`` from ``end`` on share no request and miss
    none. Chunks are aligned to ``chunk_seconds``, a multiple of ``BLOCK_SECONDS``.
    """
    if chunk_seconds <= 0 or chunk_seconds % BLOCK_SECONDS:
        raise InputError(f"chunk_seconds must be a multiple of {BLOCK_SECONDS}, not {chunk_seconds}")
    planned = PlannedReplicas(scenario)
    simulator = FleetSimulator(scenario, planned)
    at = math.floor(start / BLOCK_SECONDS) * BLOCK_SECONDS
    stop = math.floor(end / BLOCK_SECONDS) * BLOCK_SECONDS
    while at < stop:
        chunk_end = min(at - at % chunk_seconds + chunk_seconds, stop)
        blocks = range(at // BLOCK_SECONDS, chunk_end // BLOCK_SECONDS)
        keys, rows, histograms = fold_to_columns(to_columns(scenario, simulator.serve_blocks(blocks)))
        replicas = {
            spec.key: tuple(planned.running(number, float(block * BLOCK_SECONDS)) for block in blocks)
            for number, spec in enumerate(scenario.pools)
        }
        yield HistoryChunk(at, chunk_end, keys, rows, histograms, replicas)
        at = chunk_end


def to_columns(scenario: Scenario, served: Sequence[ServedRequests]) -> EventColumns:
    """Return served requests as the columns that decoding their events would give, without ids."""
    status = np.concatenate([s.status for s in served])
    rejected = np.isnan(np.concatenate([s.queue_seconds for s in served]))
    cached = np.concatenate([s.cached_input_tokens for s in served])
    n = len(status)
    return EventColumns(
        arrived_at=np.concatenate([s.arrived_at for s in served]),
        completed_at=np.round(np.concatenate([s.completed_at for s in served]), 6),
        e2e=np.concatenate([s.e2e_seconds for s in served]),
        queue=np.concatenate([s.queue_seconds for s in served]),
        ttft=np.concatenate([s.ttft_seconds for s in served]),
        tpot=np.concatenate([s.tpot_seconds for s in served]),
        input_tokens=np.concatenate([s.input_tokens for s in served]),
        cached_input_tokens=np.where(rejected, -1, cached),
        output_tokens=np.concatenate([s.output_tokens for s in served]),
        reasoning_output_tokens=np.full(n, -1, dtype=np.int64),
        preemptions=np.concatenate([s.preemptions for s in served]),
        status=status,
        attempt=np.full(n, -1, dtype=np.int64),
        server=np.full(n, -1, dtype=np.int64),
        key=np.concatenate([np.full(len(s.status), s.pool, dtype=np.int64) for s in served]),
        index=np.arange(n, dtype=np.int64),
        ids=np.zeros((n, 2), dtype=np.uint64),
        server_name=np.full(n, -1, dtype=np.int64),
        keys=[EventKey(spec.key.model, spec.key.pool, "") for spec in scenario.pools],
    )


def request_events(scenario: Scenario, served: ServedRequests) -> list[tuple[float, RequestEvent]]:
    """Return (completed_at, event) of every request, in order of arrival."""
    spec = scenario.pools[served.pool]
    settings = spec.settings
    prefix = f"{scenario.name}-{scenario.seed}-{served.pool}-{served.block}"
    found: list[tuple[float, RequestEvent]] = []
    columns = zip(
        served.arrived_at.tolist(),
        served.e2e_seconds.tolist(),
        served.queue_seconds.tolist(),
        served.ttft_seconds.tolist(),
        served.tpot_seconds.tolist(),
        served.input_tokens.tolist(),
        served.cached_input_tokens.tolist(),
        served.output_tokens.tolist(),
        served.preemptions.tolist(),
        served.status.tolist(),
        scenario.tenants(served.pool, served.arrived_at, served.block),
        strict=True,
    )
    for i, (arrived, e2e, queue, ttft, tpot, inputs, cached, outputs, preemptions, status, tenant) in enumerate(
        columns
    ):
        completed = round(arrived + e2e, 6)
        event = RequestEvent(
            event_id=f"{prefix}-{i}",
            model=settings.model,
            pool=settings.pool,
            operation="chat",
            arrived_at=arrived,
            completed_at=completed,
            e2e_seconds=e2e,
            queue_seconds=_known(queue),
            ttft_seconds=_known(ttft),
            tpot_seconds=_known(tpot),
            input_tokens=inputs,
            cached_input_tokens=None if status == REJECTED else cached,
            output_tokens=outputs,
            preemptions=preemptions,
            status=STATUSES[status],
            http_status=429 if status == REJECTED else 500 if status == ERROR else 200,
            tenant=tenant,
            engine="simulated",
            accelerator=settings.accelerator,
            accelerators_per_replica=settings.tensor_parallel * settings.pipeline_parallel * settings.data_parallel,
        )
        found.append((completed, event))
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def events(
    scenario: Scenario,
    start: float,
    end: float,
    replicas: ReadyReplicas | None = None,
    router: RouterCount | None = None,
) -> Iterator[Sequence[tuple[float, RequestEvent]]]:
    """Yield the requests that *arrive* in [start, end), in chunks ordered by completion.

    ``start`` and ``end`` (epoch seconds) are widened to whole blocks. Each chunk holds what completes within one block
    of ``BLOCK_SECONDS``; the replicas are asked for when the block is drawn, so a consumer that scales the fleet
    between chunks changes what follows. After ``end`` the requests still running finish. ``router`` counts them, at any
    time of the block of the chunk. Memory: the requests running.
    """
    simulator = FleetSimulator(scenario, replicas if replicas is not None else PlannedReplicas(scenario))
    running: list[tuple[float, int, RequestEvent]] = []
    order = 0
    block = int(start // BLOCK_SECONDS)
    last = int(-(-end // BLOCK_SECONDS))
    while block < last or running:
        if block < last:
            for served in simulator.serve_block(block):
                if router is not None:
                    router.take(scenario.pools[served.pool].key, served, float(block * BLOCK_SECONDS))
                for completed, event in request_events(scenario, served):
                    heapq.heappush(running, (completed, order, event))
                    order += 1
        block += 1
        chunk: list[tuple[float, RequestEvent]] = []
        while running and running[0][0] < block * BLOCK_SECONDS:
            completed, _, event = heapq.heappop(running)
            chunk.append((completed, event))
        yield chunk
