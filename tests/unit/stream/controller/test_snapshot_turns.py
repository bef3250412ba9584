from __future__ import annotations

import pytest

from pipeline.stream.controller.snapshot_turns import RELEARNED_SECONDS, SnapshotTurns
from pipeline.windows.types import PoolKey

GRAIN = 60


def pools(count: int) -> list[PoolKey]:
    return [PoolKey("m", f"p{number}") for number in range(count)]


def kept_after(turns: SnapshotTurns, count: int, steps: int, step_seconds: float, *, behind: bool = False) -> list[int]:
    """How many pools are kept after each of so many steps, when keeping one takes 2 ms."""
    found = []
    for step in range(1, steps + 1):
        due = turns.due(pools(count), step * GRAIN, step_seconds, behind=behind)
        if due:
            turns.took(0.002 * len(due), len(due))
        found.append(len(due))
    return found


def restored(count: int) -> SnapshotTurns:
    turns = SnapshotTurns(30, GRAIN)
    turns.restored(dict.fromkeys(pools(count), 0))
    return turns


def test_a_pool_that_the_store_does_not_have_is_kept_at_once() -> None:
    assert kept_after(SnapshotTurns(30, GRAIN), 50, 1, 0.002) == [50]


def test_few_pools_have_their_turn_in_the_steps_that_are_set() -> None:
    kept = kept_after(restored(60), 60, 60, 0.002)

    assert sum(kept) == pytest.approx(120, abs=16)  # a thirtieth a step, sixteen or more at a time
    assert {count for count in kept if count} <= set(range(16, 20))


def test_what_a_crash_makes_learned_again_is_bounded() -> None:
    turns, count, step_seconds = restored(1_000), 1_000, 0.002
    kept_after(turns, count, 12, step_seconds)
    kept = kept_after(turns, count, 12, step_seconds)

    steps_of_a_round = count / (sum(kept) / len(kept))
    assert count * steps_of_a_round / 2 * step_seconds == pytest.approx(RELEARNED_SECONDS, rel=0.01)


def test_keeping_takes_no_more_than_its_share_of_a_core() -> None:
    turns = restored(5_000)
    kept_after(turns, 5_000, 3, 0.002)

    assert kept_after(turns, 5_000, 1, 0.002) == [300]  # 1 % of a minute at 2 ms each


def test_with_no_time_to_spare_no_more_is_kept_than_must_be() -> None:
    turns = restored(900)
    kept_after(turns, 900, 3, 0.002)

    assert kept_after(turns, 900, 3, 0.002, behind=True) == pytest.approx([30, 30, 30], abs=1)


def test_the_oldest_snapshots_have_their_turn_first_and_pools_that_are_gone_none() -> None:
    turns = SnapshotTurns(2, GRAIN)
    first, second, gone, third = pools(4)
    turns.restored({third: 180, first: 60, gone: 0, second: 120})

    assert turns.due([first, second, third], 240, 0.0, behind=False) == []  # a credit of 1.5
    assert turns.due([first, second, third], 300, 0.0, behind=False) == [first, second, third]
    assert turns.oldest == 300
