"""The way back to the level before."""

from __future__ import annotations

import pytest

from pipeline.alerts.spikes.returns import Returns


@pytest.mark.parametrize(
    ("rose", "value", "excused"),
    [(True, 9.0, True), (True, 8.0, False), (True, 0.0, False), (False, 12.0, True), (False, 12.5, False)],
)
def test_only_what_stays_near_the_level_before_is_excused(rose: bool, value: float, excused: bool) -> None:
    returns = Returns(3_600.0)
    returns.note(0.0, 10.0, falls=not rose)
    assert returns.excuse(60.0, value, 1.25, falls=rose) is excused


def test_more_of_the_same_is_not_excused_and_what_is_long_ago_is_forgotten() -> None:
    returns = Returns(3_600.0)
    assert not returns.excuse(0.0, 9.0, 1.25, falls=True)
    returns.note(0.0, 10.0, falls=False)
    assert not returns.excuse(60.0, 11.0, 1.25, falls=False)
    assert returns.excuse(3_600.0, 9.0, 1.25, falls=True)
    assert not returns.excuse(3_660.0, 9.0, 1.25, falls=True)


def test_of_rises_in_a_row_the_level_before_the_first_counts() -> None:
    returns = Returns(3_600.0)
    returns.note(0.0, 10.0, falls=False)
    returns.note(600.0, 40.0, falls=False)
    assert returns.excuse(660.0, 9.0, 1.25, falls=True)
    returns.note(700.0, 40.0, falls=True)
    assert not returns.excuse(760.0, 60.0, 1.25, falls=False)
    assert returns.excuse(760.0, 45.0, 1.25, falls=False)
