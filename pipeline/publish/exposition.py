"""Prometheus' text format (0.0.4), written from samples of the catalogue's metrics.

A thousand pools are over a hundred thousand lines, of which only the values change from step to step: the labels that
come after model and pool are the same for all of them and are written once. Of a pool only its values are kept between
two scrapes (``Written``), a tenth of the lines, which are made of them when they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import NamedTuple

import msgspec

from pipeline.publish.metric_catalogue import CATALOGUE, Metric
from pipeline.windows.types import PoolKey

__all__ = ["FAMILIES", "INTRODUCTIONS", "Group", "PoolText", "Sample", "Series", "Writer", "Written", "lines_of"]

#: One sample: metric name without the prefix, label values in catalogue order, value (None and non-finite: left out).
#: The labels ``model`` and ``pool`` are left out where the writer is told the pool.
Sample = tuple[str, tuple[str, ...], float | None]

#: Samples that always come together: what tells this set of names and labels from others, and the values.
Group = tuple[tuple[str, ...], Sequence[float | None]]

#: The metric name of a line, without the prefix, and what stands between the name (or the pool's two labels) and the
#: value.
Head = tuple[str, bytes]

#: Position of a family in the catalogue, by metric name without the prefix.
FAMILIES = {metric.name.removeprefix("tokentide_"): i for i, metric in enumerate(CATALOGUE)}

#: What precedes the samples of a family, in catalogue order.
INTRODUCTIONS = tuple(f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.kind}\n".encode() for m in CATALOGUE)

_POOL_LABELS = ("model", "pool")


class Series:
    """Names and labels of samples, in their order; pools that have the same share one object."""

    __slots__ = ("_families", "_order", "_pieces", "heads")

    def __init__(self, heads: tuple[Head, ...]) -> None:
        self.heads = heads
        found: dict[str, list[int]] = defaultdict(list)
        for place, (short, _) in enumerate(heads):
            found[short].append(place)
        #: Places of the samples by family.
        self._order = tuple(place for places in found.values() for place in places)
        #: Four of every line: how it begins, the labels of the pool, what stands before the value, and the value.
        self._pieces: list[bytes] = []
        #: Index in the catalogue, first piece and the one after the last.
        self._families: list[tuple[int, int, int]] = []
        for short, places in found.items():
            begin, first = f"tokentide_{short}".encode(), len(self._pieces)
            for place in places:
                self._pieces += (begin if len(self._pieces) == first else b"\n" + begin, b"", heads[place][1], b"")
            self._families.append((FAMILIES[short], first, len(self._pieces)))

    def lines(self, named: bytes, numbers: Sequence[bytes]) -> dict[int, bytes]:
        """Return the lines by family, with the labels of a pool and the numbers of the heads as text."""
        pieces = self._pieces.copy()
        pieces[1::4] = [named] * len(self._order)
        pieces[3::4] = [numbers[place] for place in self._order]
        return {family: b"".join(pieces[first:end]) for family, first, end in self._families}


class Written(NamedTuple):
    """Samples before they are lines: their series, and as many numbers as text, separated by commas."""

    series: Series
    numbers: bytes


class PoolText:
    """The values of a pool as text, and its lines by family where they are kept."""

    __slots__ = ("lines", "written")

    def __init__(self, written: Written) -> None:
        self.written = written
        self.lines: dict[int, bytes] | None = None


class Writer:
    """Turns samples into lines, and remembers the labels that it has written; for one thread at a time.

    >>> Writer().blocks([("ready", (), 1), ("watermark_lag_seconds", (), None)])[FAMILIES["ready"]]
    b'tokentide_ready 1.0'
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[str, tuple[str, ...]], Head] = {}
        self._series: dict[tuple[Head, ...], Series] = {}
        self._groups: dict[tuple[str, ...], tuple[Head, ...]] = {}

    def __len__(self) -> int:
        """How many sets of labels are remembered."""
        return len(self._ends)

    def forget(self) -> None:
        """Forget labels, of tenants and pools that went away among them."""
        self._ends = {}

    def share_no_more_than(self, sets: int) -> None:
        """Forget which series pools share once there are more sets than that: most are of pools as they were."""
        if len(self._series) > sets:
            self._series = {}

    def blocks(self, samples: Iterable[Sample]) -> dict[int, bytes]:
        """Return the lines of samples of no pool by family (index in the catalogue), joined by newlines."""
        return lines_of(self.written(samples, of_pool=False))

    def written(
        self,
        samples: Iterable[Sample],
        groups: Iterable[Group] = (),
        members: Callable[[tuple[str, ...]], Iterable[tuple[str, tuple[str, ...]]]] = lambda _: (),
        *,
        of_pool: bool = True,
    ) -> Written:
        """Return samples as they are kept; ``lines_of`` makes lines of them.

        Of a pool their labels go without model and pool. ``groups`` are further samples of the pool, and ``members``
        returns names and labels for what tells a group: asked once for each. What has the same names and labels
        shares them.
        """
        heads: list[Head] = []
        numbers: list[float | None] = []
        ends = self._ends
        for short, labels, value in samples:
            head = ends.get((short, labels))
            if head is None:
                head = ends[short, labels] = short, _end(CATALOGUE[FAMILIES[short]], labels, of_pool)
            heads.append(head)
            numbers.append(None if value is None else float(value))
        for name, values in groups:
            of_group = self._groups.get(name)
            if of_group is None:
                of_group = self._groups[name] = tuple(
                    (short, _end(CATALOGUE[FAMILIES[short]], labels, True)) for short, labels in members(name)
                )
            heads += of_group
            numbers += values
        text = _encoded(numbers)
        if b"null" in text:
            texts = text.split(b",")
            known = [value != b"null" for value in texts]
            heads, text = list(compress(heads, known)), b",".join(compress(texts, known))
        same = tuple(heads)
        series = self._series.get(same)
        if series is None:
            series = self._series[same] = Series(same)
        return Written(series, text)


def lines_of(written: Written, pool: PoolKey | None = None) -> dict[int, bytes]:
    """Return lines by family (index in the catalogue), joined by newlines; samples of a pool need its name."""
    named = b"" if pool is None else f'{{model="{_escape(pool.model)}",pool="{_escape(pool.pool)}"'.encode()
    return written.series.lines(named, written.numbers.split(b","))


def _encoded(numbers: list[float | None]) -> bytes:
    """Numbers as text, ``null`` where they are None or not finite; all at once, which takes a sixth of the time."""
    try:
        text = msgspec.json.encode(numbers)
    except TypeError:  # numpy's numbers
        text = msgspec.json.encode([None if number is None else float(number) for number in numbers])
    return text[1:-1]


def _end(metric: Metric, labels: tuple[str, ...], of_pool: bool) -> bytes:
    """What stands between the name (of a pool: its two labels) and the value."""
    names = metric.labels[len(_POOL_LABELS) :] if of_pool else metric.labels
    text = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, labels, strict=True))
    if of_pool:
        return (f",{text}}} " if text else "} ").encode()
    return (f"{{{text}}} " if text else " ").encode()


def _escape(label: str) -> str:
    """A label value between quotes, whatever a producer wrote as a model name: valid UTF-8, escaped."""
    text = label.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
