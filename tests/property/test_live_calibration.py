"""What live windows teach about a replica must be true of it: at any load, in overload, while a queue is worked off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.load_samples import LoadObserver
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.windows import WindowFeed
from sizing.calibration.measurement import implied_lane_batch
from sizing.planning.operating_point import rough_lane_batch
from sizing.planning.plan import Planner
from sizing.replica.replica_model import ReplicaModel
from sizing.scaling.load_learner import LoadLearner
from sizing.simulate import Fleet, Requests, World
from sizing.types import Workload

POOL = PoolSettings(
    model="qwen3-32b",
    profile="qwen3-32b",
    accelerator="h100-sxm",
    tensor_parallel=2,
    ttft_seconds=3.0,
    tpot_seconds=0.1,
)
PHASE_SECONDS, START_UP_SECONDS = 300.0, 100.0
#: So many loads are learned before anything is planned with them.
LEAST_LOADS = 5


def taught(
    lengths: tuple[int, int], shares: list[float], slow: float, more: int, seed: int, *, seen: bool = False
) -> tuple[int, float]:
    """Return how many loads taught, and the learned over the predicted step at the operating point or most ``seen``.

    ``shares`` are the loads of phases of five minutes, as shares of what two replicas of that world carry at most;
    ``more`` replicas are ordered a minute into the second phase.
    """
    planner = Planner(POOL.deployment(), POOL.slo())
    workload = Workload(*map(float, lengths))
    model = ReplicaModel(planner.resolved, workload)
    random = np.random.default_rng(seed)
    arrivals = []
    for phase, share in enumerate(shares):
        rate = share * 2 * model.saturation_requests_per_second / slow
        times = random.random(random.poisson(rate * PHASE_SECONDS)) * PHASE_SECONDS
        arrivals.append(phase * PHASE_SECONDS + np.sort(times))
    arrival = np.concatenate(arrivals)
    spread = [np.maximum(np.rint(random.normal(mean, mean / 10, arrival.size)), 2) for mean in lengths]
    fleet = Fleet(
        planner.resolved,
        Requests.of(arrival, *spread),
        replicas=2,
        cold_start_seconds=START_UP_SECONDS,
        world=World(slow=slow),
    )
    metrics, feed, observer = FleetMetrics(fleet), WindowFeed(Settings(pools=(POOL,)), POOL, 0), LoadObserver()
    learner, learned = LoadLearner(planner, None), 0
    for now in np.arange(15.0, PHASE_SECONDS * len(shares), 15.0).tolist():
        fleet.advance(now)
        if now == PHASE_SECONDS + 60.0:
            fleet.scale_to(2 + more)
        metrics.refresh()
        feed.report(metrics)
        while feed.due(now):
            load = observer.load(feed.close(metrics))
            learned += load is not None and learner.learn(load)
    found = learner._learner.calibration
    batch = rough_lane_batch(found.replica(workload), POOL.slo())
    if seen and found.points:
        batch = max(implied_lane_batch(planner.resolved, point, found.prior) for point in found.points)
    return learned, found.at(workload, batch).step_seconds / model.step_seconds(batch)


LENGTHS = st.sampled_from([(8_192, 256), (4_000, 1_000), (1_000, 200), (500, 500)])


def loads(least: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(least, 1.4), min_size=3, max_size=3)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(LENGTHS, loads(0.2), st.integers(0, 3), st.integers(0, 2**16))
def test_a_replica_that_is_as_predicted_is_learned_as_such(
    lengths: tuple[int, int], shares: list[float], more: int, seed: int
) -> None:
    learned, ratio = taught(lengths, shares, 1.0, more, seed)
    if learned >= LEAST_LOADS:
        assert 1 / 1.1 <= ratio <= 1.1


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(LENGTHS, loads(0.2), st.integers(0, 3), st.integers(0, 2**16))
def test_a_slower_replica_is_learned_as_such(
    lengths: tuple[int, int], shares: list[float], more: int, seed: int
) -> None:
    """At the largest load that was learned; at an operating point far above it the prior rightly keeps a part."""
    learned, ratio = taught(lengths, shares, 1.4, more, seed, seen=True)
    if learned >= LEAST_LOADS:
        assert 1.4 / 1.15 <= ratio <= 1.4 * 1.15
