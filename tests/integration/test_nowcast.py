"""The live edge of a spike with long generations: the nowcast against the raw count, through fold and store."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.store.store import Store
from pipeline.testing import PipelineTestDriver, request_event
from pipeline.windows.completeness import completeness
from pipeline.windows.types import BASE_SECONDS

START = 1_700_000_000
SPIKE_AT, SPIKE_ENDS, ENDS = 1_500, 1_740, 1_800
CALM_PER_SECOND, SPIKE_PER_SECOND = 8.0, 60.0
MEDIAN_SECONDS, P99_SECONDS = 15.0, 90.0
#: Windows at the live edge: the six newest that have ended.
EDGE = 6
TRUNCATED_SECONDS = 180


def edge_errors(slower: float, seed: int) -> tuple[float, float]:
    """Sum of absolute errors over the true count, of the raw count and of the nowcast, over the spike.

    ``slower``: how many times as long generations take during the spike.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.concatenate(
        [
            START + rng.uniform(a, b, rng.poisson(rate * (b - a)))
            for a, b, rate in (
                (0, SPIKE_AT, CALM_PER_SECOND),
                (SPIKE_AT, SPIKE_ENDS, SPIKE_PER_SECOND),
                (SPIKE_ENDS, ENDS, CALM_PER_SECOND),
            )
        ]
    )
    sigma = math.log(P99_SECONDS / MEDIAN_SECONDS) / 2.326
    latencies = rng.lognormal(math.log(MEDIAN_SECONDS), sigma, len(arrivals))
    latencies[(arrivals >= START + SPIKE_AT) & (arrivals < START + SPIKE_ENDS)] *= slower
    truth = Counter(((arrivals - START) // BASE_SECONDS).astype(int).tolist())
    order = np.argsort(arrivals + latencies)
    raw_error = nowcast_error = total = 0.0
    with Store.open(Path(":memory:")) as store:
        driver = PipelineTestDriver(store, now=START + ENDS + 1_000)
        aggregator = driver.aggregator(0)
        told = 0
        for now in range(SPIKE_AT, SPIKE_ENDS + 60, BASE_SECONDS):
            values = []
            while told < len(order) and arrivals[order[told]] + latencies[order[told]] <= START + now:
                i = int(order[told])
                event = request_event(f"e{i}", float(arrivals[i]), model="m", e2e_seconds=float(latencies[i]))
                values.append(json.dumps(event).encode())
                told += 1
            driver.produce(0, values)
            while not aggregator.caught_up:
                delta = aggregator.fold(5_000)
                assert delta is not None
                aggregator.append(delta)
            driver.control(0)
            # Only windows old enough that nearly all of their requests have been reported: else F is cut off.
            history = store.e2e_histogram(START, START + now - TRUNCATED_SECONDS)["m", "default"]
            for age in range(1, EDGE + 1):
                at = START + now - age * BASE_SECONDS
                raw = sum(window.requests for window in store.window_sums(at, at + BASE_SECONDS))
                estimate = raw / completeness(history, at, BASE_SECONDS, START + now)
                true = truth[(at - START) // BASE_SECONDS]
                raw_error += abs(raw - true)
                nowcast_error += abs(estimate - true)
                total += true
    return raw_error / total, nowcast_error / total


def test_the_nowcast_is_three_times_as_near_as_the_raw_count() -> None:
    raw, estimate = edge_errors(slower=1.0, seed=5)
    print(f"live edge of a spike, p99 {P99_SECONDS:g} s: raw count off by {raw:.1%}, nowcast by {estimate:.1%}")
    assert raw > 0.2, "the simulation must be hard"
    assert estimate * 3 <= raw


@pytest.mark.parametrize("slower", [1.5])
def test_when_generations_get_slower_too_the_nowcast_is_still_nearer(slower: float) -> None:
    """What is learned from the hour before is then too fast; the advantage shrinks, it does not turn."""
    raw, estimate = edge_errors(slower=slower, seed=5)
    print(f"generations {slower:g} times as long in the spike: raw count off by {raw:.1%}, nowcast by {estimate:.1%}")
    assert estimate < raw
