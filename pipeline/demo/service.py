"""The simulated service: draws requests and serves them with the replicas that are ready.

Everything is a pure function of the scenario, its seed and the replicas over time. Randomness is drawn per pool and
minute of arrival, each from its own generator, so the same minute holds the same requests wherever a run begins.

The service model is deliberately simple and stated here, because the product under demonstration must not depend on it:

- utilisation ρ = arrivals of the second / (ready replicas · capacity of one);
- a fluid queue per pool grows by what exceeds the capacity; a request waits for what stands before it, and is rejected
  with status ``rejected`` when that wait would exceed ``MAX_QUEUE_SECONDS``;
- prefill = uncached input tokens / prefill rate · (1 + 0.5 ρ); time per output token = idle value · (1 + 0.9 ρ²),
  each with a few per cent of lognormal noise; ρ is capped at 1.2 in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.scenario import PoolScenario, Scenario
from pipeline.events.request_event import STATUSES

__all__ = ["BLOCK_SECONDS", "ERROR", "REJECTED", "FleetSimulator", "PlannedReplicas", "ReadyReplicas", "ServedRequests"]

#: Requests are drawn and served in blocks of this many seconds of arrival time.
BLOCK_SECONDS = 60
#: From ordering a simulated replica until it serves.
START_UP_SECONDS = 180
#: A request that would wait longer is turned away.
MAX_QUEUE_SECONDS = 12.0

#: Rates are computed for so many blocks at once: for one, most of the time goes into calling numpy.
_RATE_BLOCKS = 60

_OK, ERROR, _CANCELLED, REJECTED = (STATUSES.index(s) for s in ("ok", "error", "cancelled", "rejected"))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ReadyReplicas(Protocol):
    """Tells how many replicas of a pool can serve."""

    def ready(self, pool: int, time: float) -> int:
        """Return the replicas of pool number ``pool`` that are ready at ``time`` (epoch seconds)."""
        ...


class PlannedReplicas:
    """Replicas as a careful operator who knows the demand would run them; what history was served by."""

    def __init__(self, scenario: Scenario) -> None:
        self._planned = lru_cache(maxsize=4_096)(scenario.planned_replicas)

    def ready(self, pool: int, time: float) -> int:
        """Return the planned replicas of pool number ``pool`` at ``time`` (epoch seconds)."""
        return self._planned(pool, time)

    def running(self, pool: int, time: float) -> tuple[int, int]:
        """Return those that run at ``time``, ordered early enough to serve when planned, and those that serve."""
        starting = range(0, START_UP_SECONDS + 1, BLOCK_SECONDS)
        return max(self._planned(pool, time + ahead) for ahead in starting), self._planned(pool, time)


@dataclass(frozen=True, slots=True)
class ServedRequests:
    """Finished requests of one pool and consecutive blocks, in columns ordered by arrival.

    Times are epoch seconds to the microsecond; durations are seconds, NaN where a request had none. ``status`` indexes
    ``STATUSES``. ``block`` is the number of the first block since the epoch.
    """

    pool: int
    block: int
    arrived_at: Floats
    e2e_seconds: Floats
    queue_seconds: Floats
    ttft_seconds: Floats
    tpot_seconds: Floats
    input_tokens: Ints
    cached_input_tokens: Ints
    output_tokens: Ints
    preemptions: Ints
    status: Ints

    @property
    def completed_at(self) -> Floats:
        """Completion, epoch seconds."""
        return self.arrived_at + self.e2e_seconds


class FleetSimulator:
    """Draws and serves block after block; holds the queue of each pool between blocks."""

    def __init__(self, scenario: Scenario, replicas: ReadyReplicas) -> None:
        self._scenario = scenario
        self._replicas = replicas
        self._backlog = [0.0] * len(scenario.pools)
        self._rates = lru_cache(maxsize=2 * len(scenario.pools))(self._rates_of)

    def _rates_of(self, pool: int, hour: int) -> Floats:
        """Expected requests per second in the middle of each second: (blocks of an hour, seconds of a block)."""
        seconds = float(hour * _RATE_BLOCKS * BLOCK_SECONDS) + np.arange(_RATE_BLOCKS * BLOCK_SECONDS, dtype=np.float64)
        return self._scenario.rate(pool, seconds + 0.5).reshape(_RATE_BLOCKS, BLOCK_SECONDS)

    def serve_block(self, block: int) -> tuple[ServedRequests, ...]:
        """Return the requests that arrive in [block, block + 1) · ``BLOCK_SECONDS``, one item per pool.

        Blocks must be asked for in order; each sees the replicas that are ready when it begins.
        """
        return self.serve_blocks(range(block, block + 1))

    def serve_blocks(self, blocks: range) -> tuple[ServedRequests, ...]:
        """Return what ``serve_block`` returns for each of ``blocks``, joined: one item per pool, for less CPU."""
        return tuple(self._serve(pool, blocks) for pool in range(len(self._scenario.pools)))

    def _serve(self, pool: int, blocks: range) -> ServedRequests:
        spec = self._scenario.pools[pool]
        drawn = [self._draw(pool, block) for block in blocks]
        per_second = np.concatenate([arrivals for arrivals, *_ in drawn])
        into_second, draws, uniforms = (np.concatenate(parts, axis=-1) for parts in list(zip(*drawn, strict=True))[1:])
        queued = [
            self._queue(pool, spec, float(block * BLOCK_SECONDS), arrivals)
            for block, (arrivals, *_) in zip(blocks, drawn, strict=True)
        ]
        wait_of_second, turned_away, load_of_second = (np.concatenate(parts) for parts in zip(*queued, strict=True))
        second = np.repeat(np.arange(len(per_second)), per_second)
        n = len(second)
        of_block = second % BLOCK_SECONDS + into_second
        arrived = _rounded(np.sort((second - second % BLOCK_SECONDS + blocks.start * BLOCK_SECONDS) + of_block), 6)

        lengths = spec.lengths
        inputs = _lognormal_tokens(draws[0], lengths.input_mean_tokens, lengths.input_sigma, lengths.input_max_tokens)
        outputs = _lognormal_tokens(
            draws[1], lengths.output_mean_tokens, lengths.output_sigma, lengths.output_max_tokens
        )
        # A prefix is cached or not: most requests hit little, some hit nearly all; the mean is cached_share.
        cached = np.floor(inputs * np.power(uniforms[0], 1.0 / max(spec.lengths.cached_share, 1e-3) - 1.0)).astype(
            np.int64
        )
        cached = np.minimum(cached, np.maximum(inputs - 1, 0))

        load = np.minimum(load_of_second[second], 1.2)
        queue = wait_of_second[second]
        rank = np.arange(n) - np.searchsorted(second, second)  # position within the second
        rejected = rank >= (per_second - turned_away)[second]

        prefill = (inputs - cached) / spec.prefill_tokens_per_second * (1.0 + 0.5 * load) * np.exp(0.08 * draws[2])
        tpot = spec.tpot_seconds * (1.0 + 0.9 * load**2) * np.exp(0.05 * draws[3])

        status = np.full(n, _OK, dtype=np.int64)
        status[uniforms[1] < spec.error_share + spec.cancelled_share] = _CANCELLED
        status[uniforms[1] < spec.error_share] = ERROR
        status[rejected] = REJECTED
        outputs = np.where(status == _CANCELLED, np.maximum(outputs // 2, 1), outputs)
        outputs = np.where((status == ERROR) | (status == REJECTED), 0, outputs)

        served = outputs > 0
        ttft = np.where(served, queue + prefill, np.nan)
        tpot = np.where(outputs > 1, tpot, np.nan)
        e2e = np.where(served, queue + prefill + np.where(outputs > 1, tpot, 0.0) * (outputs - 1), 0.02)
        e2e = np.where(status == ERROR, queue + 0.5 * prefill + 0.05, e2e)
        return ServedRequests(
            pool=pool,
            block=blocks.start,
            arrived_at=arrived,
            e2e_seconds=_rounded(e2e, 6),
            queue_seconds=np.where(status == REJECTED, np.nan, _rounded(queue, 6)),
            ttft_seconds=_rounded(ttft, 6),
            tpot_seconds=_rounded(tpot, 7),
            input_tokens=inputs,
            cached_input_tokens=cached,
            output_tokens=outputs,
            preemptions=((load >= 1.05) & (draws[2] > 1.0) & served).astype(np.int64),
            status=status,
        )

    def _draw(self, pool: int, block: int) -> tuple[Ints, Floats, Floats, Floats]:
        """Return a block's requests per second, and per request its place in the second and six random numbers."""
        rng = np.random.default_rng([self._scenario.seed, pool, block])
        per_second = rng.poisson(self._rates(pool, block // _RATE_BLOCKS)[block % _RATE_BLOCKS])
        n = int(per_second.sum())
        return per_second, rng.random(n), rng.standard_normal((4, n)), rng.random((2, n))

    def _queue(self, pool: int, spec: PoolScenario, start: float, per_second: Ints) -> tuple[Floats, Ints, Floats]:
        """Return per second: the wait (seconds), the requests turned away, the utilisation."""
        capacity = self._replicas.ready(pool, start) * spec.capacity_requests_per_second
        if capacity <= 0:
            return np.zeros(len(per_second)), per_second.astype(np.int64), np.full(len(per_second), 1.2)
        backlog = self._backlog[pool]
        if backlog > 0.0 or per_second.max() > capacity:
            wait, turned_away = self._wait_in_line(pool, capacity, per_second)
        else:  # nearly always: nobody waits
            wait, turned_away = np.zeros(len(per_second)), np.zeros(len(per_second), dtype=np.int64)
        # Load of a second is smoothed over ten: a batch does not empty between two arrivals.
        padded = np.concatenate([np.full(9, per_second[:10].mean()), per_second])
        smooth = np.convolve(padded, np.full(10, 0.1), "valid")
        return wait, turned_away, np.maximum(smooth / capacity, np.minimum(wait, 1.2))

    def _wait_in_line(self, pool: int, capacity: float, per_second: Ints) -> tuple[Floats, Ints]:
        """Return per second the wait (seconds) and the requests turned away, and keep what still waits at the end."""
        backlog = self._backlog[pool]
        limit = MAX_QUEUE_SECONDS * capacity
        wait = np.zeros(len(per_second))
        turned_away = np.zeros(len(per_second), dtype=np.int64)
        for i, arrivals in enumerate(per_second.tolist()):
            wait[i] = backlog / capacity
            over = backlog + arrivals - limit
            if over > 0:
                turned_away[i] = min(int(np.ceil(over)), arrivals)
            backlog = max(backlog + arrivals - int(turned_away[i]) - capacity, 0.0)
        self._backlog[pool] = backlog
        return wait, turned_away


def _lognormal_tokens(normal: Floats, mean: float, sigma: float, cap: int) -> Ints:
    """Whole tokens in [1, cap] whose mean before rounding and capping is ``mean``."""
    tokens = np.exp(np.log(mean) - 0.5 * sigma**2 + sigma * normal)
    whole: Ints = np.clip(np.rint(tokens), 1, cap).astype(np.int64)
    return whole


def _rounded(values: Floats, decimals: int) -> Floats:
    return np.asarray(np.round(values, decimals), dtype=np.float64)
