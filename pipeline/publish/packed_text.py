"""The text of the metrics, put together by family; in gzip it is compressed anew only where it has changed.

Of a text of megabytes nothing but the lines of the process differs between two scrapes, unless a step has come. So what
lasts is compressed once, in the stretches that lie before, between and after those lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pipeline.publish.exposition import INTRODUCTIONS
from pipeline.publish.http.gzip_pieces import Piece, gzipped, piece

__all__ = ["PackedText", "text_of"]

#: What is kept, compressed, at most.
MOST_KEPT_BYTES = 16_000_000

#: Lines by family (index in the catalogue), in pieces that are joined by newlines.
Families = Mapping[int, Sequence[bytes]]


def text_of(lasting: Families, rest: Mapping[int, bytes], families: range = range(len(INTRODUCTIONS))) -> bytes:
    """Return the text of some families that have a sample, in catalogue order; ``rest`` where nothing lasts."""
    parts: list[bytes] = []
    for family in families:
        found = lasting.get(family) or ([rest[family]] if family in rest else ())
        if found:
            # The introduction ends its own line.
            parts.append(INTRODUCTIONS[family] + b"\n".join(found))
    return b"\n".join((*parts, b""))


class PackedText:
    """A text of which the ``lasting`` lines stay the same; for one thread at a time."""

    def __init__(self) -> None:
        self._families: frozenset[int] | None = None  # that last
        self._pieces: dict[range, Piece] = {}
        self._bytes = 0

    def packed(self, lasting: Callable[[], Families], rest: Mapping[int, bytes]) -> bytes:
        """Return ``text_of`` in gzip; ``lasting``, the same lines at each call, is asked only where it must be."""
        made: Families | None = None
        if self._families is None:
            made = lasting()
            self._families = frozenset(made)
        pieces: list[Piece] = []
        for families, lasts in _stretches(rest.keys() - self._families):
            found = self._pieces.get(families) if lasts else piece(text_of({}, rest, families))
            if found is None:
                made = lasting() if made is None else made
                found = piece(text_of(made, {}, families))
                if self._bytes + len(found.deflated) <= MOST_KEPT_BYTES:
                    self._bytes += len(found.deflated)
                    self._pieces[families] = found
            pieces.append(found)
        return gzipped(pieces)


def _stretches(alone: set[int]) -> Iterator[tuple[range, bool]]:
    """All families in their order: each of those ``alone`` by itself, and what lies between (True)."""
    begin = 0
    for family in (*sorted(alone), len(INTRODUCTIONS)):
        if begin < family:
            yield range(begin, family), True
        if family in alone:
            yield range(family, family + 1), False
        begin = family + 1
