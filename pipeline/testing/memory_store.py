"""A store in memory that does with deltas what the DuckDB store does: the model that both are held against."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from pipeline.errors import OffsetGap
from pipeline.store.apply import ApplyResult, SourcePosition
from pipeline.testing.oracle import COMPARED, COMPARED_HISTOGRAMS, Contents
from pipeline.windows.delta import applies
from pipeline.windows.types import MEASURES, Delta

__all__ = ["MemoryStore"]

_COLUMNS = [MEASURES.index(name) for name in COMPARED]


class MemoryStore:
    """Positions, rows, histograms and ledger in dictionaries; atomic because nothing in ``apply`` can fail."""

    def __init__(self) -> None:
        self._deltas: dict[int, int] = {}
        self._sources: dict[tuple[str, int], int] = {}
        self._rows: dict[tuple[int, str, str], list[int]] = {}
        self._cells: dict[tuple[int, str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
        self._ledger: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._closed_until: int | None = None
        self._as_closed = 0

    def delta_positions(self) -> dict[int, int]:
        """Return {delta partition: next offset to read}."""
        return dict(self._deltas)

    def apply(self, records: Sequence[tuple[int, int, Delta | None]]) -> ApplyResult:
        """Apply records of the delta topic, as ``Store.apply`` does."""
        result = ApplyResult()
        blocked: set[int] = set()
        for partition, offset, delta in records:
            if partition in blocked:
                continue
            if offset < self._deltas.get(partition, 0):
                result.repeated += 1
                continue
            if delta is None:
                result.undecodable += 1
                self._deltas[partition] = offset + 1
                continue
            source = (delta.topic, delta.partition)
            position = self._sources.get(source)
            verdict = applies(position, delta)
            if verdict == "gap":
                assert position is not None
                blocked.add(partition)
                result.gaps.append(OffsetGap(*source, position, delta.from_offset))
                continue
            self._deltas[partition] = offset + 1
            if verdict == "drop":
                result.dropped += 1
                continue
            result.applied += 1
            self._sources[source] = delta.through_offset + 1
            result.positions[source] = SourcePosition(delta.through_offset + 1, delta.max_event_at, delta.idle)
            self._add(delta)
        return result

    def close_until(self, end: int) -> None:
        """Close every window that begins before ``end`` (epoch seconds); it must not lie before the last one."""
        before = self._closed_until
        self._as_closed += sum(
            row[0] for (start, _, _), row in self._rows.items() if (before is None or start >= before) and start < end
        )
        self._closed_until = end

    def contents(self) -> Contents:
        """Return what is stored."""
        until = self._closed_until
        now = sum(row[0] for (start, _, _), row in self._rows.items() if until is not None and start < until)
        return Contents(
            {key: tuple(row) for key, row in self._rows.items()},
            {key: +cells for key, cells in self._cells.items() if +cells},
            dict(self._ledger),
            dict(self._dead),
            now - self._as_closed,
        )

    def _add(self, delta: Delta) -> None:
        keys = [
            (window, delta.keys[key].model, delta.keys[key].pool)
            for window, key in zip(delta.rows.window, delta.rows.key, strict=True)
        ]
        for i, key in enumerate(keys):
            row = self._rows.setdefault(key, [0] * len(_COLUMNS))
            for j, column in enumerate(_COLUMNS):
                row[j] += delta.rows.measures[column][i]
            if self._closed_until is not None and key[0] < self._closed_until:
                self._ledger["late"] += delta.rows.measures[0][i]
        h = delta.histograms
        for r, metric, bucket, n in zip(h.row, h.metric, h.bucket, h.n, strict=True):
            if metric in COMPARED_HISTOGRAMS:
                self._cells[keys[r]][metric, bucket] += n
        for name in ("records", "events", "duplicates", "lost", "ignored", "event_records"):
            self._ledger[name] += getattr(delta, name)
        self._ledger["dead_letters"] += len(delta.dead_letters)
        self._dead.update(letter.reason for letter in delta.dead_letters)
