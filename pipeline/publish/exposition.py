"""Prometheus' text format (0.0.4), written from samples of the catalogue's metrics.

A thousand pools are over a hundred thousand lines, of which only the values change from step to step: the labels that
come after model and pool are the same for all of them and are written once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress

import msgspec

from pipeline.publish.metric_catalogue import CATALOGUE, Metric
from pipeline.windows.types import PoolKey

__all__ = ["FAMILIES", "INTRODUCTIONS", "Group", "Sample", "Writer"]

#: One sample: metric name without the prefix, label values in catalogue order, value (None and non-finite: left out).
#: The labels ``model`` and ``pool`` are left out where the writer is told the pool.
Sample = tuple[str, tuple[str, ...], float | None]

#: Samples that always come together: what tells this set of names and labels from others, and the values.
Group = tuple[tuple[str, ...], Sequence[float | None]]

#: Position of a family in the catalogue, by metric name without the prefix.
FAMILIES = {metric.name.removeprefix("tokentide_"): i for i, metric in enumerate(CATALOGUE)}

#: What precedes the samples of a family, in catalogue order.
INTRODUCTIONS = tuple(f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.kind}\n".encode() for m in CATALOGUE)

_POOL_LABELS = ("model", "pool")
#: Metric name without the prefix, and what stands between the name (of a pool: its two labels) and the value.
_Head = tuple[str, bytes]
#: Sets of samples that are remembered: pools of some settings, in some states.
_MOST_FORMS = 256


class Writer:
    """Turns samples into lines, and remembers the labels that it has written; for one thread at a time.

    >>> Writer().blocks([("ready", (), 1), ("watermark_lag_seconds", (), None)])[FAMILIES["ready"]]
    b'tokentide_ready 1.0'
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[str, tuple[str, ...]], _Head] = {}
        self._groups: dict[tuple[str, ...], tuple[_Head, ...]] = {}
        self._forms: dict[tuple[int, ...], _Form] = {}

    def __len__(self) -> int:
        """How many sets of labels are remembered."""
        return len(self._ends)

    def forget(self) -> None:
        """Forget labels, of tenants and pools that went away among them."""
        self._ends, self._forms = {}, {}

    def blocks(
        self,
        samples: Iterable[Sample],
        pool: PoolKey | None = None,
        groups: Iterable[Group] = (),
        members: Callable[[tuple[str, ...]], Iterable[tuple[str, tuple[str, ...]]]] = lambda _: (),
    ) -> dict[int, bytes]:
        """Return the lines of samples by family (index in the catalogue), joined by newlines.

        With ``pool`` all of them are its samples, and their labels go without model and pool. ``groups`` are further
        samples of the pool, and ``members`` returns names and labels for what tells a group: asked once for each.
        """
        heads: list[_Head] = []
        numbers: list[float | None] = []
        ends, of_pool = self._ends, pool is not None
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
        named = b"" if pool is None else f'model="{_escape(pool.model)}",pool="{_escape(pool.pool)}"'.encode()
        written = _written(numbers)
        if b"null" in written:
            kept = [number != b"null" for number in written]
            heads, written = list(compress(heads, kept)), list(compress(written, kept))
        return self._form(heads, of_pool).filled(named, written) if heads else {}

    def _form(self, heads: list[_Head], of_pool: bool) -> _Form:
        """What is the same for all samples of these names and labels; most pools have the same ones."""
        key = (of_pool, *map(id, heads))
        found = self._forms.get(key)
        if found is None:
            if len(self._forms) >= _MOST_FORMS:
                self._forms = {}
            found = self._forms[key] = _Form(heads, of_pool)
        return found


class _Form:
    """The text of some samples, less the pool's labels and the values.

    It holds the ``heads`` that it is known by, so that no other object comes to stand where one of them was.
    """

    def __init__(self, heads: list[_Head], of_pool: bool) -> None:
        self._heads = heads
        of_family: dict[str, list[int]] = defaultdict(list)
        for at, (short, _) in enumerate(heads):
            of_family[short].append(at)
        self._order = [at for found in of_family.values() for at in found]
        # Of every line: what precedes it and the labels of the pool, these, what stands before the value, the value.
        self._pieces: list[bytes] = []
        self._families: list[tuple[int, int, int]] = []  # number, first piece, end
        for short, found in of_family.items():
            begin = (f"tokentide_{short}{{" if of_pool else f"tokentide_{short}").encode()
            first = len(self._pieces)
            for at in found:
                self._pieces += (begin if len(self._pieces) == first else b"\n" + begin, b"", heads[at][1], b"")
            self._families.append((FAMILIES[short], first, len(self._pieces)))

    def filled(self, named: bytes, written: Sequence[bytes]) -> dict[int, bytes]:
        """Return the lines by family, with the labels of a pool and the values as text, in the order of the heads."""
        pieces = self._pieces.copy()
        pieces[1::4] = [named] * len(self._order)
        pieces[3::4] = [written[at] for at in self._order]
        return {family: b"".join(pieces[first:end]) for family, first, end in self._families}


def _written(numbers: list[float | None]) -> list[bytes]:
    """Numbers as text, ``null`` where they are None or not finite; all at once, which takes a sixth of the time."""
    if not numbers:
        return []
    try:
        text = msgspec.json.encode(numbers)
    except TypeError:  # numpy's numbers
        text = msgspec.json.encode([None if number is None else float(number) for number in numbers])
    return text[1:-1].split(b",")


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
