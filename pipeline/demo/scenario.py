"""Scenarios: what a simulated fleet is asked for, as pure functions of event time.

A scenario is made for one *live start*: the instant at which history ends and events begin to flow. Its local time of
day is anchored there (live start is 09:20 local), so that a demo sees the same morning whenever it is started. All
rates are requests per second, all times epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.config.settings import PoolSettings
from pipeline.errors import InputError
from pipeline.windows.types import PoolKey

__all__ = ["SCENARIOS", "DailySpike", "FlashSpike", "Lengths", "PoolScenario", "Scenario", "scenario"]

DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600

#: Local time of day at live start.
LIVE_START_OF_DAY_SECONDS = 9 * HOUR_SECONDS + 20 * 60

#: Slow wander of demand around its daily shape: (period in seconds, amplitude as a share). The periods do not divide
#: a day, so no two days are alike.
WANDER = ((2_273.0, 0.02), (5_003.0, 0.025), (12_697.0, 0.03))

#: How full a careful operator lets replicas run; beyond it the simulated latencies miss the pools' objectives.
PLANNED_UTILISATION = 0.62


#: Sets the draws of who sends apart from all others.
_TENANTS = 1


@dataclass(frozen=True, slots=True)
class DailySpike:
    """Demand ``ratio`` times as high every day from ``at_seconds_of_day`` (local) for ``duration_seconds``.

    It rises within ``onset_seconds`` and falls within ``decay_seconds``; both lie inside the duration. The height
    differs from day to day by up to ``ratio_jitter`` (a share). ``tenant`` sends what comes on top; None: everybody.
    """

    at_seconds_of_day: float
    ratio: float
    duration_seconds: float = 18 * 60.0
    onset_seconds: float = 45.0
    decay_seconds: float = 150.0
    ratio_jitter: float = 0.06
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class FlashSpike:
    """Demand ``ratio`` times as high once, ``after_live_start_seconds`` after live start; nothing announces it.

    ``tenant`` sends what comes on top; None: everybody.
    """

    after_live_start_seconds: float
    ratio: float
    duration_seconds: float = 14 * 60.0
    onset_seconds: float = 20.0
    decay_seconds: float = 180.0
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lognormal token lengths: mean (tokens), standard deviation of the logarithm, and the cap that a server sets."""

    input_mean_tokens: float
    input_sigma: float
    input_max_tokens: int
    output_mean_tokens: float
    output_sigma: float
    output_max_tokens: int
    cached_share: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolScenario:
    """One pool: its demand, its lengths, and how one of its replicas really behaves.

    ``capacity_requests_per_second`` is what one replica serves without a growing queue;
    ``prefill_tokens_per_second`` and ``tpot_seconds`` are those of an idle replica. They are properties of the
    simulation, which the pipeline under demonstration never sees. ``tenants`` are those who send ordinary demand, with
    their shares of it.
    """

    settings: PoolSettings
    base_requests_per_second: float
    day_amplitude: float
    peak_seconds_of_day: float
    lengths: Lengths
    capacity_requests_per_second: float
    prefill_tokens_per_second: float
    tpot_seconds: float
    spikes: tuple[DailySpike, ...] = ()
    flashes: tuple[FlashSpike, ...] = ()
    tenants: tuple[tuple[str, float], ...] = ()
    error_share: float = 0.002
    cancelled_share: float = 0.006

    @property
    def key(self) -> PoolKey:
        """The pool's name."""
        return PoolKey(self.settings.model, self.settings.pool)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet's demand. Equal scenarios give equal events."""

    name: str
    seed: int
    live_start: float
    pools: tuple[PoolScenario, ...]

    def rate(self, pool: int, times: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Expected requests per second of pool number ``pool`` at ``times`` (epoch seconds, any shape)."""
        t = np.asarray(times, dtype=np.float64)
        spec = self.pools[pool]
        since_live = t - self.live_start
        local = since_live + LIVE_START_OF_DAY_SECONDS
        of_day = np.mod(local, DAY_SECONDS)
        angle = 2 * np.pi * (of_day - spec.peak_seconds_of_day) / DAY_SECONDS
        shape = 1.0 + spec.day_amplitude * (0.85 * np.cos(angle) + 0.15 * np.cos(2 * angle))
        rate = np.asarray(spec.base_requests_per_second * shape, dtype=np.float64)
        for number, (period, amplitude) in enumerate(WANDER):
            phase = _unit(self.seed, pool, number) * 2 * np.pi
            rate = rate * (1.0 + amplitude * np.sin(2 * np.pi * since_live / period + phase))
        for _, surge in self._surges(pool, t):
            rate = rate * surge
        return np.asarray(rate, dtype=np.float64)

    def tenants(self, pool: int, times: NDArray[np.float64], seed: int) -> list[str | None]:
        """Who sends the requests of pool number ``pool`` that arrive at ``times`` (epoch seconds); drawn from ``seed``.

        What a spike brings on top of ordinary demand comes from the spike's tenant.
        """
        spec = self.pools[pool]
        if not spec.tenants:
            return [None] * len(times)
        rng = np.random.default_rng([self.seed, pool, seed, _TENANTS])
        names = [name for name, _ in spec.tenants]
        shares = np.cumsum([share for _, share in spec.tenants])
        drawn = rng.random((1 + len(spec.spikes) + len(spec.flashes), len(times)))
        ordinary = np.minimum(np.searchsorted(shares, drawn[0] * shares[-1], side="right"), len(names) - 1)
        found: list[str | None] = [names[at] for at in ordinary.tolist()]
        for (tenant, surge), draw in zip(self._surges(pool, times), drawn[1:], strict=True):
            if tenant is not None:
                for at in np.flatnonzero(draw < 1.0 - 1.0 / surge).tolist():
                    found[at] = tenant
        return found

    def _surges(self, pool: int, t: NDArray[np.float64]) -> Iterator[tuple[str | None, NDArray[np.float64]]]:
        """By how much every spike of a pool multiplies its rate at ``t``, and whose it is; 1 outside the spike."""
        spec = self.pools[pool]
        since_live = t - self.live_start
        local = since_live + LIVE_START_OF_DAY_SECONDS
        of_day = np.mod(local, DAY_SECONDS)
        day = np.floor(local / DAY_SECONDS)
        for number, spike in enumerate(spec.spikes):
            jitter = spike.ratio_jitter * (2.0 * _day_unit(self.seed + 31 * number, pool, day) - 1.0)
            into = np.mod(of_day - spike.at_seconds_of_day, DAY_SECONDS)
            pulse = _pulse(into, spike.duration_seconds, spike.onset_seconds, spike.decay_seconds)
            yield spike.tenant, 1.0 + (spike.ratio - 1.0) * (1.0 + jitter) * pulse
        for flash in spec.flashes:
            into = since_live - flash.after_live_start_seconds
            pulse = _pulse(into, flash.duration_seconds, flash.onset_seconds, flash.decay_seconds)
            yield flash.tenant, 1.0 + (flash.ratio - 1.0) * pulse

    def planned_replicas(self, pool: int, time: float) -> int:
        """Replicas that a careful operator who knew the demand would run at ``time``: what history was served by."""
        spec = self.pools[pool]
        rate = float(self.rate(pool, np.arange(time, time + 300.0, 60.0)).max())
        wanted = int(np.ceil(rate / (PLANNED_UTILISATION * spec.capacity_requests_per_second)))
        return min(max(wanted, spec.settings.min_replicas, 1), spec.settings.max_replicas)

    def pool_settings(self) -> tuple[PoolSettings, ...]:
        """The pools as the pipeline's settings describe them."""
        return tuple(spec.settings for spec in self.pools)


def _pulse(into: NDArray[np.float64], duration: float, onset: float, decay: float) -> NDArray[np.float64]:
    """0 outside [0, duration), 1 inside, with straight flanks."""
    if not np.any((into > 0.0) & (into < duration)):  # nearly always; the flanks cost more than this look
        return np.zeros_like(into)
    up = np.clip(into / onset, 0.0, 1.0)
    down = np.clip((duration - into) / decay, 0.0, 1.0)
    return np.minimum(up, down)


@lru_cache(maxsize=4_096)
def _unit(*parts: int) -> float:
    """A fixed number in [0, 1) for these integers."""
    return float(np.random.default_rng(list(parts)).random())


def _day_unit(seed: int, pool: int, day: NDArray[np.float64]) -> NDArray[np.float64]:
    """A fixed number in [0, 1) per day, vectorised (the fractional part of a large sine)."""
    value = np.sin(day * 12.9898 + seed * 78.233 + pool * 37.719) * 43_758.5453
    return np.asarray(value - np.floor(value), dtype=np.float64)


def _demo(live_start: float, seed: int) -> Scenario:
    """Two models, three pools, about 30 requests/s in the morning; small enough for a laptop at 60 × real time."""
    chat_spikes = tuple(
        DailySpike(at_seconds_of_day=hour * HOUR_SECONDS, ratio=2.5, tenant="acme") for hour in (10.0, 14.5, 20.0)
    )  # 10:00 local is 40 minutes after live start
    small = tuple((f"team-{number:02d}", 0.02) for number in range(1, 13))
    return Scenario(
        name="demo",
        seed=seed,
        live_start=live_start,
        pools=(
            PoolScenario(
                settings=PoolSettings(
                    model="llama-3.1-8b-instruct",
                    pool="chat",
                    profile="llama-3.1-8b",
                    accelerator="L40S",
                    tpot_seconds=0.035,
                    max_replicas=32,
                    lead_time_seconds=240.0,
                ),
                base_requests_per_second=15.0,
                day_amplitude=0.45,
                peak_seconds_of_day=15 * HOUR_SECONDS,
                lengths=Lengths(900, 0.9, 8_000, 180, 0.8, 700, cached_share=0.3),
                capacity_requests_per_second=7.0,
                prefill_tokens_per_second=9_000,
                tpot_seconds=0.024,
                spikes=chat_spikes,
                tenants=(("acme", 0.30), ("globex", 0.26), ("initech", 0.20), *small),
            ),
            PoolScenario(
                settings=PoolSettings(
                    model="llama-3.1-8b-instruct",
                    pool="batch",
                    profile="llama-3.1-8b",
                    accelerator="L40S",
                    max_replicas=16,
                    ttft_seconds=10.0,
                    tpot_seconds=0.1,
                    under_to_over_cost=3.0,
                    lead_time_seconds=240.0,
                ),
                base_requests_per_second=6.0,
                day_amplitude=0.5,
                peak_seconds_of_day=2 * HOUR_SECONDS,
                lengths=Lengths(2_200, 0.7, 12_000, 120, 0.7, 500, cached_share=0.05),
                capacity_requests_per_second=4.6,
                prefill_tokens_per_second=9_000,
                tpot_seconds=0.032,
                tenants=(("nightly", 0.55), ("reports", 0.30), ("globex", 0.15)),
            ),
            PoolScenario(
                settings=PoolSettings(
                    model="llama-3.3-70b-instruct",
                    pool="chat",
                    profile="llama-3.3-70b",
                    accelerator="H100-SXM",
                    tensor_parallel=4,
                    max_replicas=16,
                    ttft_seconds=2.0,
                    tpot_seconds=0.03,
                    lead_time_seconds=300.0,
                ),
                base_requests_per_second=8.0,
                day_amplitude=0.35,
                peak_seconds_of_day=14 * HOUR_SECONDS,
                lengths=Lengths(1_100, 0.9, 8_000, 210, 0.8, 700, cached_share=0.25),
                capacity_requests_per_second=8.5,
                prefill_tokens_per_second=14_000,
                tpot_seconds=0.022,
                flashes=(FlashSpike(after_live_start_seconds=80 * 60.0, ratio=3.0, tenant="globex"),),
                tenants=(("acme", 0.40), ("globex", 0.25), ("umbrella", 0.11), *small),
            ),
        ),
    )


#: Built-in scenarios by name: (live start in epoch seconds, seed) → scenario.
SCENARIOS: dict[str, Callable[[float, int], Scenario]] = {"demo": _demo}


def scenario(name: str, live_start: float, seed: int = 7) -> Scenario:
    """Return a built-in scenario whose live part begins at ``live_start`` (epoch seconds, cut to a whole minute).

    Raises:
        InputError: there is no scenario of that name, or the start is not a plausible time.
    """
    build = SCENARIOS.get(name)
    if build is None:
        raise InputError(f"there is no scenario {name!r}; built-in are: {', '.join(sorted(SCENARIOS))}")
    if not (30 * DAY_SECONDS <= live_start < 4e9):
        raise InputError(f"live start {live_start} is not a time in epoch seconds between 1970 and 2096")
    return build(float(live_start - live_start % 60), seed)
