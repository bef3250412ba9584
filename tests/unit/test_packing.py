from __future__ import annotations

import numpy as np
import pytest

from pipeline.packing import pack, unpack


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
