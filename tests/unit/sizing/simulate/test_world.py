from __future__ import annotations

import math

import numpy as np
import pytest

from sizing.errors import InvalidInput
from sizing.replica.memory import resolve
from sizing.replica.step_time import step_model
from sizing.simulate import Fleet, Frontend, Requests, World, generate, simulate
from sizing.simulate.world import NO_FATE
from sizing.types import Deployment

H100 = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
NONE = Frontend(0.0, 0.0)


def test_a_slow_world_takes_so_many_times_as_long() -> None:
    lone = Requests.of([0.0], 1000, 50)
    plain, slow = (simulate(H100, lone, frontend=NONE, world=world) for world in (None, World(slow=1.4)))
    assert slow.e2e_seconds[0] == pytest.approx(1.4 * plain.e2e_seconds[0])
    assert slow.ttft_seconds[0] == pytest.approx(1.4 * step_model(H100).step_seconds(0, 0, 1000, 500.0))


def test_fates_depend_on_the_number_and_the_seed_alone_and_follow_the_shares() -> None:
    world = World(noise=0.1, stragglers=0.25, straggler_slow=3.0, start_fail=0.5, crashes=2.0)
    fates = [world.fate(number, 1) for number in range(2_000)]
    assert fates[7] == world.fate(7, 1) != world.fate(7, 2)
    ratios, attempts, lives, interrupted = (np.array(column) for column in zip(*fates, strict=True))
    assert np.mean(ratios > 1.7) == pytest.approx(0.25, abs=0.03)
    assert np.log(ratios[ratios < 1.7]).std() == pytest.approx(0.1, rel=0.1)
    assert attempts.mean() == pytest.approx(2.0, rel=0.1)
    assert lives.mean() == pytest.approx(1_800.0, rel=0.1)
    assert np.isinf(interrupted).all()
    assert World().fate(3, 1) == NO_FATE == (1.0, 1, math.inf, math.inf)


def test_so_many_replicas_are_on_spot_and_interrupted_so_often() -> None:
    told = {"noise": 0.1, "start_fail": 0.5, "crashes": 2.0}
    plain, world = World(**told), World(**told, spot_interrupt=4.0, spot_share=0.25)
    fates = [world.fate(number, 1) for number in range(4_000)]
    assert [fate[:3] for fate in fates[:50]] == [plain.fate(number, 1)[:3] for number in range(50)]
    after = np.array([fate.interrupted_after_seconds for fate in fates])
    assert np.mean(np.isfinite(after)) == pytest.approx(0.25, abs=0.02)
    assert after[np.isfinite(after)].mean() == pytest.approx(900.0, rel=0.1)


def test_an_interrupted_replica_finishes_what_it_can_by_the_end_of_the_notice() -> None:
    requests = Requests.of(np.arange(0.0, 3_600.0, 2.0), 500, 200)
    lost, ends = {}, {}
    for notice in (0.0, 120.0):
        world = World(spot_interrupt=30.0, spot_notice=notice)
        fleet = Fleet(H100, requests, replicas=2, cold_start_seconds=60.0, world=world)
        fleet.advance(3_600.0)
        lives = fleet.replica_times()
        ends[notice] = [life.drained_seconds for life in lives if life.drained_seconds < math.inf]
        # Whoever is interrupted is replaced at once, by one that starts anew.
        assert fleet.replicas == 2
        assert len(ends[notice]) > 20
        assert sorted(life.ordered_seconds for life in lives)[2:] == sorted(ends[notice])
        assert all(life.gone_seconds <= life.drained_seconds + notice + 1.0 for life in lives[: len(ends[notice])])
        fleet.advance()
        lost[notice] = int((~fleet.outcome().finished).sum())
    assert ends[0.0] == ends[120.0]
    assert lost[0.0] > 0
    assert lost[120.0] == 0  # 200 tokens take seconds


def test_failed_starts_take_their_time_again() -> None:
    world = World(start_fail=0.9)
    attempts = world.fate(1, 0).attempts
    fleet = Fleet(H100, Requests.of([0.0], 10, 10), cold_start_seconds=60.0, world=world)
    fleet.scale_to(2)
    assert [life.ready_seconds for life in fleet.replica_times()] == [0.0, 60.0 * attempts]


def test_what_is_not_ready_is_drained_first() -> None:
    fleet = Fleet(H100, Requests.of([0.0, 100.0], 10, 10), replicas=1, cold_start_seconds=60.0)
    fleet.scale_to(3)
    fleet.scale_to(2)
    fleet.advance(80.0)
    assert fleet.ready_replicas == 2
    lives = fleet.replica_times()
    assert [life.drained_seconds for life in lives] == [math.inf, math.inf, 0.0]
    assert lives[2].gone_seconds == 0.0


def test_lanes_tell_what_they_hold() -> None:
    requests = generate(200, 200.0, 4000, 100, seed=2)
    fleet = Fleet(H100, requests)
    fleet.advance(float(requests.arrival_seconds[-1]) + 0.01)
    (lanes,) = fleet.loads()
    (load,) = lanes
    begun, ended = len(fleet.table.begun), len(fleet.table.ended)
    assert load.running + load.waiting == 200 - ended
    assert 0 < load.kv_used_ratio < 1
    assert load.context_tokens >= 4000 * (begun - ended)
    left = 200 - begun
    assert 4000 * (left - 1) <= load.queued_prompt_tokens <= 4000 * left
    fleet.advance()
    assert len(fleet.table.ended) == len(set(fleet.table.ended)) == 200
    ((load,),) = fleet.loads()
    assert load == (0, 0, 0.0, 0, 0)


@pytest.mark.parametrize(
    "text",
    ["slow", "slow=", "slow=0", "slow=nan", "noise=-1", "start-fail=1", "crashes=inf", "spot-share=2", "slow=1,slow=1"],
)
def test_worlds_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="world"):
        World.parse(text)
