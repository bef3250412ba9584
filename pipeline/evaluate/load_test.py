"""A load test of one simulated replica: the most that it carries within the SLO, as an operator would measure it.

Rules that need a number by hand (a target concurrency, a threshold) get theirs from here, measured in the very world
that they will run in: a rival is never judged by a number that its operator got wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.replica.memory import Resolved
from sizing.simulate import Outcome, Requests, World, simulate
from sizing.types import Slo

__all__ = ["LoadTest", "load_test", "within_slo"]

_REQUESTS = 1_500
_ROUNDS = 9


@dataclass(frozen=True, slots=True)
class LoadTest:
    """What one replica carries with the SLO's share of the requests within it (0.95 for p95); all per replica.

    ``concurrency`` is the mean number of requests in it at that rate.
    ``feasible`` is False when even single requests miss the SLO: the figures are then those of a nearly idle replica.
    """

    feasible: bool
    requests_per_second: float
    concurrency: float
    input_tokens: float
    output_tokens: float


def within_slo(ttft_seconds: NDArray[np.float64], tpot_seconds: NDArray[np.float64], slo: Slo) -> NDArray[np.bool_]:
    """Return which requests are within both objectives; one token has no TPOT, no first token is outside."""
    met = np.isfinite(ttft_seconds)
    if slo.ttft_seconds is not None:
        met &= ttft_seconds <= slo.ttft_seconds
    if slo.tpot_seconds is not None:
        met &= ~(tpot_seconds > slo.tpot_seconds)
    return met


def load_test(resolved: Resolved, requests: Requests, slo: Slo, world: World | None, seed: int) -> LoadTest:
    """Find the highest rate of Poisson arrivals, with lengths drawn from ``requests``, that one replica carries."""
    random = np.random.default_rng([seed, 7])
    drawn = random.integers(0, len(requests), _REQUESTS)
    gaps = random.standard_exponential(_REQUESTS)
    # One plain replica of this world: neither a straggler nor one that fails or is interrupted.
    plain = None if world is None else World(slow=world.slow)

    def run(rate: float) -> tuple[float, Outcome]:
        columns = (requests.input_tokens[drawn], requests.output_tokens[drawn], requests.cached_tokens[drawn])
        outcome = simulate(resolved, Requests.of(np.cumsum(gaps) / rate, *columns), world=plain)
        met = within_slo(outcome.ttft_seconds, outcome.tpot_seconds, slo)
        return float(met[~outcome.rejected].mean()) if not outcome.rejected.all() else 0.0, outcome

    low, high = 1e-3, 1e-3
    attained, best = run(low)
    feasible = attained >= slo.percentile
    if feasible:
        while attained >= slo.percentile and high < 1e6:
            low, high = high, high * 4.0
            attained, outcome = run(high)
            best = outcome if attained >= slo.percentile else best
        for _ in range(_ROUNDS):
            middle = math.sqrt(low * high)
            attained, outcome = run(middle)
            if attained >= slo.percentile:
                low, best = middle, outcome
            else:
                high = middle
    served = best.requests
    mean_seconds = float(np.nanmean(best.e2e_seconds)) if best.finished.any() else 0.0
    return LoadTest(
        feasible, low, low * mean_seconds, float(served.input_tokens.mean()), float(served.output_tokens.mean())
    )
