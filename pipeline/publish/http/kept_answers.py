"""Answers that are kept, encoded and compressed, for as long as what they were made of is there and the same."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["KeptAnswers"]

T = TypeVar("T")

#: Whoever asks for ever other small things, at length, would else have what was asked kept without a bound.
MOST_ANSWERS = 2_000


class KeptAnswers(Generic[T]):
    """Answers by what was asked, ``most_bytes`` and ``MOST_ANSWERS`` of them at most: the oldest go first.

    For one thread.

    What an answer was made of is not held by it: it may go, and so may the answer.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[weakref.ref[object], T, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def get(self, asked: Hashable, made_of: object) -> T | None:
        """Return the answer to ``asked`` if it was made of that very object; None: there is none."""
        found = self._kept.get(asked)
        return found[1] if found is not None and found[0]() is made_of else None

    def keep(self, asked: Hashable, made_of: object, answer: T, size: int) -> None:
        """Keep an answer of ``size`` bytes in place of an older one to the same."""
        before = self._kept.pop(asked, None)
        self._bytes += size - (0 if before is None else before[2])
        self._kept[asked] = weakref.ref(made_of), answer, size
        while self._bytes > self._most_bytes or len(self._kept) > MOST_ANSWERS:
            _, (_, _, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
