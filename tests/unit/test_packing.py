from __future__ import annotations

import pickle
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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


class _Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class _Point:
    x: float
    y: _Colour | None


@dataclass(frozen=True, slots=True)
class _Alone:
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Itself:
    x: float

    def __reduce__(self) -> tuple[Any, ...]:
        return _Itself, (self.x + 1.0,)


def test_dataclasses_classes_and_what_is_shared_come_back() -> None:
    point, alone = _Point(1.5, _Colour.RED), _Alone((1, 2))
    state = [point, alone, point, _Point, _Colour, _Itself(1.0), {"of": alone}]

    found = unpack(pack(state))

    assert found[:5] == [point, alone, point, _Point, _Colour]
    assert found[0] is found[2]
    assert found[1] is found[6]["of"]
    assert found[0].y is _Colour.RED
    assert found[5] == _Itself(2.0)  # as its class says, not by its fields


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0)[::2],
        np.array(7, dtype=np.int64),
        np.zeros((0, 3), dtype=np.float32),
        np.array([True, False]),
        np.array([1.0, np.nan, -0.0], dtype=np.float16),
        np.arange(3, dtype=">f8"),
        np.array(["a", None], dtype=object),
        np.array(["2026-12-01"], dtype="datetime64[D]"),
    ],
    ids=lambda values: f"{values.dtype.str}{values.shape}",
)
def test_arrays_come_back_as_pickle_restores_them(values: NDArray[Any]) -> None:
    expected = pickle.loads(pickle.dumps(values, protocol=4))

    first, second = unpack(pack([values, values]))

    assert first is second
    assert (first.dtype, first.shape) == (expected.dtype, expected.shape)
    assert first.strides == expected.strides or not first.size
    assert first.flags.writeable
    assert first.flags.owndata
    assert first.tolist() == expected.tolist() or np.isnan(values).any()
    assert first.dtype == object or first.tobytes() == expected.tobytes()


def test_what_was_packed_is_of_the_same_size_as_a_pickle() -> None:
    """Nothing is written twice because it is written in another way."""
    state = [np.full(3, float(number)) for number in range(200)]

    assert len(pickle.dumps(unpack(pack(state)), protocol=4)) == len(pickle.dumps(state, protocol=4))
