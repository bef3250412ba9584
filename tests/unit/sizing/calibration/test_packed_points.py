"""Points as rows of numbers."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.packed_points import PackedPoints

NUMBERS = st.floats(1e-6, 1e6)
POINTS = st.builds(
    ObservedPoint,
    input_tokens=NUMBERS,
    output_tokens=NUMBERS,
    tpot_seconds=NUMBERS,
    ttft_seconds=st.none() | NUMBERS,
    requests_per_second=st.none() | NUMBERS,
    concurrency=st.none() | NUMBERS,
    closed_loop=st.booleans(),
    cached_share=st.floats(0, 1),
)


@given(st.lists(POINTS, min_size=1, max_size=8), st.data())
def test_points_come_back_equal_whatever_was_removed(points: list[ObservedPoint], data: st.DataObject) -> None:
    packed = pickle.loads(pickle.dumps(PackedPoints(points)))
    copy = PackedPoints(packed)
    at = data.draw(st.integers(0, len(points) - 1))
    packed.remove(at)
    assert list(packed) == points[:at] + points[at + 1 :]
    assert list(copy) == points
    assert copy[-1] == points[-1]
    assert list(copy[1:]) == points[1:]
    assert copy.tpot_seconds().tolist() == [point.tpot_seconds for point in points]
    assert copy.ttft_seconds() == [point.ttft_seconds for point in points]
    with pytest.raises(IndexError):
        copy[len(points)]
