"""Values of records that lie in one buffer, with other bytes between them, cut out only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["SlicedValues"]

Ints = NDArray[np.int64]


class SlicedValues(Sequence[bytes]):
    """``starts`` and ``ends`` are the positions of the values in ``data``, one for each, in bytes.

    ``as_list`` is for who needs most of them: they are then kept.
    """

    __slots__ = ("_cut", "data", "ends", "starts")

    def __init__(self, data: bytes, starts: Ints, ends: Ints) -> None:
        self.data = data
        self.starts = starts
        self.ends = ends
        self._cut: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> SlicedValues: ...
    def __getitem__(self, at: int | slice) -> bytes | SlicedValues:
        if isinstance(at, slice):
            return SlicedValues(self.data, self.starts[at], self.ends[at])
        return self._cut[at] if self._cut is not None else self.data[self.starts[at] : self.ends[at]]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._cut) if self._cut is not None else map(self.__getitem__, range(len(self)))

    def as_list(self) -> list[bytes]:
        """All values, as objects of their own."""
        if self._cut is None:
            data = self.data
            self._cut = [data[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]
        return self._cut
