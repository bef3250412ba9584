"""A small pool and small traces for the tests of the closed loop."""

from __future__ import annotations

import functools

import numpy as np

from pipeline.config.settings import PoolSettings, Settings
from pipeline.evaluate.policies.base import Setup
from pipeline.evaluate.run import make_setup
from pipeline.evaluate.trace import RequestTrace
from sizing.catalog import Catalog
from sizing.simulate import Requests, World
from sizing.start_up import StartUp

POOL = PoolSettings(
    model="m", profile="llama-3.1-8b", accelerator="h100-sxm", max_replicas=6, lead_time_seconds=30.0, tpot_seconds=0.03
)
SETTINGS = Settings(pools=(POOL,))


def trace(rates: tuple[float, ...] = (4.0, 24.0, 4.0), seconds: float = 120.0, seed: int = 3) -> RequestTrace:
    """Phases of Poisson arrivals, 2000 tokens in and 300 out on average."""
    random = np.random.default_rng(seed)
    times = [
        place * seconds + np.sort(random.random(random.poisson(rate * seconds))) * seconds
        for place, rate in enumerate(rates)
    ]
    arrival = np.concatenate(times)
    inputs, outputs = (np.maximum(random.normal(mean, mean / 5, arrival.size), 1) for mean in (2000, 300))
    return RequestTrace("phases.csv", Requests.of(arrival, inputs, outputs), len(rates) * seconds)


@functools.cache
def setup(pool: PoolSettings = POOL, world: World | None = None) -> Setup:
    """What policies are made from, for ``trace``."""
    settings = SETTINGS.model_copy(update={"pools": (pool,)})
    return make_setup(trace(), settings, pool, Catalog(), start_up=StartUp(30.0), world=world, seed=0)
