"""How one number of an explanation is written."""

from __future__ import annotations

import pytest

from sizing.explain.model import Fact


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (16_529.3, "$", "$16,529"),
        (-16_529.3, "$", "-$16,529"),
        (1.5, "$/GPU/h", "$1.5/GPU/h"),
        (-1.5, "$", "-$1.5"),
        (16_529.3, "tokens/s", "16,500 tokens/s"),
        (None, "$", "unknown"),
    ],
)
def test_dollars_stand_before_the_number_and_other_units_after_it(value: float | None, unit: str, text: str) -> None:
    assert Fact("what", value, unit, "given").text == text
