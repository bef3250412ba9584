from __future__ import annotations

import numpy as np
import pytest

from pipeline.packing import pack, pack_single, unpack


def test_what_was_packed_comes_back() -> None:
    state = {"numbers": np.arange(1_000.0), "nothing": None, "names": ("a", "b")}

    packed = pack(state)
    found = unpack(packed)

    assert found.keys() == state.keys()
    assert found["names"] == ("a", "b")
    assert found["numbers"].tolist() == list(range(1_000))
    assert len(packed) < 8_000


@pytest.mark.parametrize("at", [0, 4, 50, -1])
def test_damage_is_noticed(at: int) -> None:
    damaged = bytearray(pack(list(range(1_000))))
    damaged[at] ^= 1

    with pytest.raises(ValueError, match="checksum"):
        unpack(bytes(damaged))


def test_a_part_of_it_is_damage_too() -> None:
    for part in (b"", b"abc", pack([1, 2, 3])[:-1]):
        with pytest.raises(ValueError, match="checksum"):
            unpack(part)


def test_arrays_in_double_precision_come_back_rounded_to_single_and_as_double() -> None:
    state = [np.arange(1_000) / 7.0, np.array([1, 2]), np.array([np.nan, 0.0, np.inf, 0.1])]

    halved, counts, odd = unpack(pack_single(state))

    assert halved.dtype == np.float64
    assert halved.tolist() == state[0].astype(np.float32).tolist()
    assert counts.dtype == state[1].dtype
    assert counts.tolist() == [1, 2]
    assert str(odd.tolist()) == str(state[2].astype(np.float32).astype(np.float64).tolist())
    assert len(pack_single(state)) < 0.7 * len(pack(state))


@pytest.mark.parametrize("number", [1e300, -1e39, 1e-300])
def test_an_array_beyond_single_precision_stays_as_it_is(number: float) -> None:
    state = np.array([0.1, number])

    assert unpack(pack_single(state)).tolist() == state.tolist()
