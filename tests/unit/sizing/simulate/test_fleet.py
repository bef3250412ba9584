from __future__ import annotations

import math

import numpy as np
import pytest

from sizing.errors import InvalidInput
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import step_model
from sizing.simulate import Fleet, Frontend, Requests, generate, simulate
from sizing.types import Deployment, Workload

H100 = resolve(Deployment("llama-3.1-8b", "h100-sxm"))


def test_a_lone_request_takes_its_prefill_and_its_steps() -> None:
    step = step_model(H100)
    outcome = simulate(H100, Requests.of([5.0], 1000, 4), frontend=Frontend(0.0, 0.0))
    prefill = step.base_seconds(1000) + 1000 * step.prompt_token_seconds(500.0)
    assert outcome.ttft_seconds[0] == pytest.approx(prefill)
    decode = sum(step.step_seconds(1, context) for context in (1000, 1001, 1002))
    assert outcome.tpot_seconds[0] == pytest.approx(decode / 3)
    assert outcome.e2e_seconds[0] == pytest.approx(prefill + decode)


def test_a_long_prompt_is_computed_in_chunks() -> None:
    step = step_model(H100)
    outcome = simulate(H100, Requests.of([0.0], 20_000, 1), frontend=Frontend(0.0, 0.0))
    expected = 20_000 * step.prompt_token_seconds(10_000.0) + sum(step.base_seconds(n) for n in (8192, 8192, 3616))
    assert outcome.ttft_seconds[0] == pytest.approx(expected)


def test_cached_prompt_tokens_are_not_computed() -> None:
    plain, cached = (simulate(H100, Requests.of([0.0], 4000, 2, c)).ttft_seconds[0] for c in (0, 3000))
    assert plain - cached > 2900 * step_model(H100).prefill_seconds


@pytest.mark.parametrize(
    ("workload", "utilisation"),
    [
        (Workload(1000, 200), 0.5),
        (Workload(1000, 200), 0.8),
        (Workload(200, 60), 0.7),
        (Workload(500, 500), 0.6),
        (Workload(1000, 200, cached_share=0.5), 0.6),
    ],
)
def test_means_agree_with_the_mean_field_below_the_knee(workload: Workload, utilisation: float) -> None:
    """TPOT and batch within 7 %, TTFT within 15 %, at Poisson arrivals: the mean field has no fluctuating batch."""
    model = ReplicaModel(H100, workload)
    rate = model.saturation_requests_per_second * utilisation
    batch = model.lane_batch(rate)
    assert batch is not None
    expected = model.mean_latency(batch)
    requests = generate(
        12_000, rate, workload.input_tokens, workload.output_tokens, cached_share=workload.cached_share, seed=3
    )
    outcome = simulate(H100, requests)
    print(np.nanmean(outcome.tpot_seconds) / expected.tpot_seconds, outcome.ttft_seconds.mean() / expected.ttft_seconds)
    assert np.nanmean(outcome.tpot_seconds) == pytest.approx(expected.tpot_seconds, rel=0.07)
    assert outcome.batch == pytest.approx(batch, rel=0.07)
    assert outcome.ttft_seconds.mean() == pytest.approx(expected.ttft_seconds, rel=0.15)


def test_beyond_saturation_it_queues_and_serves_at_the_saturation_rate() -> None:
    model = ReplicaModel(H100, Workload(1000, 200))
    requests = generate(8000, 2 * model.saturation_requests_per_second, 1000, 200, seed=4)
    outcome = simulate(H100, requests)
    finish = requests.arrival_seconds + outcome.e2e_seconds
    middle = np.sort(finish)[2000:6000]
    assert 3999 / (middle[-1] - middle[0]) == pytest.approx(model.saturation_requests_per_second, rel=0.05)
    assert outcome.queue_seconds[-1] > 60


def test_little_memory_preempts_and_still_serves_everybody() -> None:
    small = resolve(Deployment("llama-3.1-8b", "h100-sxm", observed_kv_tokens=20_000))
    outcome = simulate(small, generate(500, 30.0, 800, 400, output_scv=0.5, seed=5))
    assert outcome.finished.all()
    assert outcome.preemptions.sum() > 0
    assert 0.95 * outcome.kv_blocks < outcome.most_kv_blocks_used <= outcome.kv_blocks == 1250


def test_what_can_never_fit_is_rejected_and_harms_nobody() -> None:
    small = resolve(Deployment("llama-3.1-8b", "h100-sxm", observed_kv_tokens=5000))
    outcome = simulate(small, Requests.of([0.0, 0.1, 0.2], [100, 9000, 100], 10))
    assert outcome.rejected.tolist() == [False, True, False]
    assert outcome.finished.tolist() == [True, False, True]
    assert outcome.replica.tolist() == [0, -1, 0]


@pytest.mark.parametrize("routing", ["round_robin", "least_outstanding", "random"])
def test_replicas_share_the_work(routing: str) -> None:
    requests = generate(2000, 40.0, 1000, 200, seed=6)
    outcome = simulate(H100, requests, replicas=4, routing=routing, seed=1)
    counts = np.bincount(outcome.replica, minlength=4)
    assert counts.min() > 400
    assert np.nanmean(outcome.tpot_seconds) < 0.8 * np.nanmean(simulate(H100, requests).tpot_seconds)


def test_lanes_of_data_parallel_ranks_are_used() -> None:
    requests = generate(1000, 40.0, 1000, 200, seed=6)
    wide = resolve(Deployment("llama-3.1-8b", "h100-sxm", data_parallel=2))
    two, pair = simulate(wide, requests), simulate(H100, requests, replicas=2)
    np.testing.assert_allclose(two.ttft_seconds, pair.ttft_seconds)
    assert two.replica.max() == 0
    assert pair.replica.max() == 1


def test_a_cold_start_is_waited_for_and_a_drained_replica_finishes_its_work() -> None:
    requests = Requests.of([0.0, 1.0, 200.0, 300.0], 1000, 1000)
    fleet = Fleet(H100, requests, replicas=0, cold_start_seconds=100.0)
    fleet.advance(10.0)
    assert (fleet.replicas, fleet.ready_replicas) == (0, 0)
    fleet.scale_to(2)
    assert (fleet.replicas, fleet.ready_replicas) == (2, 0)
    fleet.advance(201.0)
    assert fleet.ready_replicas == 2
    fleet.scale_to(1)
    fleet.advance()
    outcome = fleet.outcome()
    assert outcome.finished.all()
    assert outcome.queue_seconds[:2].tolist() == pytest.approx([110.0, 109.0])
    assert outcome.queue_seconds[2] < 0.1
    assert outcome.replica[3] == 0
    # Ordered at 10 s; one is paid to the end, the other until it is drained and done.
    gone = max(201.0, *(requests.arrival_seconds + outcome.e2e_seconds)[outcome.replica == 1])
    assert outcome.replica_seconds == pytest.approx(outcome.end_seconds - 10.0 + gone - 10.0, abs=0.1)


def test_a_replica_that_is_held_warm_skips_what_it_has_done() -> None:
    requests = Requests.of([0.0, 1.0, 700.0], 1000, 100)
    fleet = Fleet(H100, requests, replicas=1, cold_start_seconds=100.0, warm_replicas=1, warm_start_seconds=30.0)
    assert (fleet.replicas, fleet.warm_replicas) == (1, 1)
    fleet.advance(10.0)
    fleet.scale_to(3)  # the warm one is ready after 30 s, a new one after 100 s
    fleet.keep_warm(2)  # warm after 70 s
    assert (fleet.replicas, fleet.warm_replicas) == (3, 2)
    fleet.advance(50.0)
    assert fleet.ready_replicas == 2
    fleet.scale_to(4)  # it is not warm yet: at 80 s, and ready at 110 s
    fleet.keep_warm(0)
    fleet.advance(200.0)
    assert (fleet.replicas, fleet.ready_replicas, fleet.warm_replicas) == (4, 4, 0)
    lives = fleet.replica_times()
    assert [life.ready_seconds for life in lives] == [0.0, 40.0, 110.0, 110.0, math.inf]
    assert [life.ordered_seconds for life in lives] == [0.0, 0.0, 10.0, 10.0, 10.0]
    assert (lives[4].drained_seconds, lives[4].gone_seconds) == (50.0, 50.0)  # given back, and paid for until then
    fleet.advance()
    assert fleet.outcome().finished.all()


def test_stopping_early_leaves_the_rest_unfinished() -> None:
    fleet = Fleet(H100, generate(100, 10.0, 1000, 200, seed=1))
    fleet.advance(5.0)
    outcome = fleet.outcome()
    assert 0 < outcome.finished.sum() < 100
    assert not outcome.rejected.any()
    fleet.advance()
    assert fleet.outcome().finished.all()
    np.testing.assert_array_equal(
        fleet.outcome().e2e_seconds, simulate(H100, generate(100, 10.0, 1000, 200, seed=1)).e2e_seconds
    )


def test_requests_are_the_same_for_the_same_seed() -> None:
    first, again, other = (
        generate(5000, 8.0, 1000, 200, dispersion=3.0, input_scv=0.5, output_scv=1.0, seed=s) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.input_tokens, again.input_tokens)
    assert not np.array_equal(first.input_tokens, other.input_tokens)
    gaps = np.diff(first.arrival_seconds)
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.1)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(3.0, rel=0.25)
    assert first.output_tokens.mean() == pytest.approx(200, rel=0.1)


def test_requests_are_sorted_by_arrival() -> None:
    requests = Requests.of([2.0, 1.0], [10, 20], [1, 2], [50, 0])
    assert requests.arrival_seconds.tolist() == [1.0, 2.0]
    assert requests.input_tokens.tolist() == [20, 10]
    assert requests.cached_tokens.tolist() == [0, 9]


@pytest.mark.parametrize(
    "columns",
    [
        ([math.nan], 1, 1, 0),
        ([0.0], 0, 1, 0),
        ([0.0], 1, math.inf, 0),
        ([0.0, 1.0], [1, 2, 3], 1, 0),
        ([0.0], 1, 1, -1),
        ([[0.0]], 1, 1, 0),
    ],
)
def test_requests_that_cannot_be(columns: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInput):
        Requests.of(*columns)


def test_fleets_that_cannot_be() -> None:
    requests = Requests.of([0.0], 10, 10)
    with pytest.raises(InvalidInput, match="routing must be one of"):
        simulate(H100, requests, routing="best")
    with pytest.raises(InvalidInput):
        simulate(H100, requests, replicas=-1)
    with pytest.raises(InvalidInput):
        Fleet(H100, requests).scale_to(-1)
    with pytest.raises(InvalidInput):
        generate(0, 1.0, 10, 10)


def test_nothing_to_do() -> None:
    outcome = simulate(H100, Requests.of([], [], []))
    assert outcome.finished.size == 0
