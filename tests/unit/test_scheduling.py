"""Which tests stay together on one worker."""

from __future__ import annotations

from tests.conftest import piece_of_work


def test_a_file_stays_together_and_a_fault_is_alone() -> None:
    one, other = "tests/unit/test_a.py::test_x[a::b]", "tests/unit/test_a.py::test_y"
    assert piece_of_work(one) == piece_of_work(other) == "tests/unit/test_a.py"
    assert (
        piece_of_work("sizing/replica/distributions.py::sizing.replica.distributions.f")
        == "sizing/replica/distributions.py"
    )
    one, other = "tests/faults/test_kill.py::test_x[1]", "tests/faults/test_kill.py::test_x[2]"
    assert piece_of_work(one) != piece_of_work(other)
