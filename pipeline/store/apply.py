"""Applying deltas: rows, histograms, dead letters, ledger and positions in ONE transaction.

A delta's effect and the positions that remember it commit together, so a crash at any point leaves either both or
neither, and a record that is delivered again finds its position taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OffsetGap
from pipeline.store.base_writes import merge_rows
from pipeline.store.bridged import BridgedRows
from pipeline.store.frontier import Frontier, Touched
from pipeline.store.key_table import KeyTable
from pipeline.store.one_state import OneState
from pipeline.store.open_windows import OpenWindows
from pipeline.store.sql import parsed, run, texts
from pipeline.store.window_latencies import note_statuses
from pipeline.windows.delta import applies
from pipeline.windows.types import Delta

__all__ = ["ApplyResult", "DeltaApplier", "SourcePosition"]

Source = tuple[str, int]


_LEDGER = ("records", "events", "duplicates", "dead_letters", "late", "lost", "ignored", "event_records")
_LATE = _LEDGER.index("late")


class SourcePosition(NamedTuple):
    """How far one source partition has been folded: next offset wanted, its event time (epoch seconds), idle."""

    next_offset: int
    max_event_at: float | None
    idle: bool


@dataclass(slots=True)
class ApplyResult:
    """What one call of ``apply`` did.

    ``repeated`` records lay below the stored position of their delta partition, ``dropped`` ones repeated offsets of
    their source partition. ``gaps`` were not applied and their delta position was not moved past them; ``blocked`` are
    the delta partitions in which they lie. ``events`` were added to windows; ``late_events`` of them to windows that
    had closed. ``positions`` holds the source partitions that moved, ``clock_offsets`` those of ``Delta``.
    """

    applied: int = 0
    dropped: int = 0
    repeated: int = 0
    undecodable: int = 0
    events: int = 0
    late_events: int = 0
    gaps: list[OffsetGap] = field(default_factory=list)
    blocked: set[int] = field(default_factory=set)
    positions: dict[Source, SourcePosition] = field(default_factory=dict)
    delta_positions: dict[int, int] = field(default_factory=dict)
    clock_offsets: dict[str, float] = field(default_factory=dict)


class DeltaApplier:
    """Applies delta records; owns the in-memory copy of the positions. One per file, used by one thread at a time."""

    def __init__(
        self, connection: Any, keys: KeyTable, touched: Touched, opened: OpenWindows, states: OneState
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._touched = touched
        self._opened = opened
        self._states = states
        self._bridged = BridgedRows(connection, opened)
        self.all_before = 0  # see ``note_statuses``
        self.reload()

    def reload(self) -> None:
        """Read the positions that are committed."""
        rows = self._connection.execute("SELECT delta_partition, next_offset FROM delta_positions").fetchall()
        self.delta_positions: dict[int, int] = dict(rows)
        rows = self._connection.execute(
            "SELECT topic, source_partition, next_offset, max_event_at, idle FROM source_positions"
        ).fetchall()
        self.source_positions = {(topic, p): SourcePosition(*rest) for topic, p, *rest in rows}

    def apply(self, records: Sequence[tuple[int, int, Delta | None]], closed: Frontier) -> ApplyResult:
        """Apply records (delta partition, delta offset, delta or None) in order; see ``Store.apply``.

        The caller calls ``OneState.shown`` once readers know of rows of windows that have closed.
        """
        plan = _Plan(self.delta_positions, self.source_positions)
        for delta_partition, delta_offset, delta in records:
            plan.add(delta_partition, delta_offset, delta)
        if not plan.moved:
            return plan.result
        try:
            with self._states.transaction(self._connection):
                self._write(plan, closed)
        except BaseException:
            self._opened.undo()
            self._keys.reload()
            self._bridged.reload()
            raise
        self._keys.stored()
        self._opened.keep(self.all_before)
        self.delta_positions.update(plan.result.delta_positions)
        self.source_positions.update(plan.result.positions)
        return plan.result

    def _write(self, plan: _Plan, closed: Frontier) -> None:
        parts, bridge_notes = self._bridged.stored(plan.deltas, closed, self._touched)
        lates = merge_rows(self._connection, self._keys, parts, closed, self._touched, self._opened)
        for delta, late in zip(plan.deltas, lates, strict=True):
            plan.ledger[delta.topic, delta.partition][_LATE] += late
            plan.result.late_events += late
        self._write_dead_letters(plan.deltas)
        self._write_notes(plan.deltas, bridge_notes)
        self.all_before = max(self.all_before, note_statuses(self._connection, plan.deltas))
        ledger = {source: entry for source, entry in plan.ledger.items() if any(entry)}  # heartbeats add nothing
        _merge(
            self._connection,
            "ledger",
            ("topic", "source_partition"),
            {
                "topic": texts([topic for topic, _ in ledger]),
                "source_partition": _ints(p for _, p in ledger),
                **{name: _ints(entry[i] for entry in ledger.values()) for i, name in enumerate(_LEDGER)},
            },
            add=_LEDGER,
        )
        positions = plan.result.positions
        _merge(
            self._connection,
            "source_positions",
            ("topic", "source_partition"),
            {
                "topic": texts([topic for topic, _ in positions]),
                "source_partition": _ints(p for _, p in positions),
                "next_offset": _ints(p.next_offset for p in positions.values()),
                "max_event_at": np.array([p.max_event_at for p in positions.values()], np.float64),
                "idle": np.array([p.idle for p in positions.values()], np.bool_),
            },
            replace=("next_offset", "max_event_at", "idle"),
        )
        moved = plan.moved
        _merge(
            self._connection,
            "delta_positions",
            ("delta_partition",),
            {
                "delta_partition": _ints(moved),
                "next_offset": _ints(plan.result.delta_positions[p] for p in moved),
                "applied": _ints(counts[0] for counts in moved.values()),
                "dropped": _ints(counts[1] for counts in moved.values()),
                "undecodable": _ints(counts[2] for counts in moved.values()),
            },
            replace=("next_offset",),
            add=("applied", "dropped", "undecodable"),
        )

    def _write_notes(self, deltas: Sequence[Delta], notes: Counter[tuple[str, str]]) -> None:
        """Add what records hold besides their events, and ``notes``; most deltas have nothing of it."""
        for delta in deltas:
            for kind, count in (("ignored_part", delta.ignored_parts), ("reused_id", delta.reused_ids)):
                if count:
                    notes[kind, ""] += count
            by_name = (("refused_part", delta.refused_parts), ("unknown", delta.unknown), ("codec", delta.codecs))
            for kind, counts in by_name:
                for name, count in counts.items():
                    notes[kind, name] += count
        if notes:
            batch = {
                "kind": texts([kind for kind, _ in notes]),
                "name": texts([name for _, name in notes]),
                "n": _ints(notes.values()),
            }
            _merge(self._connection, "event_notes", ("kind", "name"), batch, add=("n",))

    def _write_dead_letters(self, deltas: Sequence[Delta]) -> None:
        dead = [(delta, letter) for delta in deltas for letter in delta.dead_letters]
        if dead:
            batch = {
                "topic": texts([delta.topic for delta, _ in dead]),
                "source_partition": _ints(delta.partition for delta, _ in dead),
                "source_offset": _ints(letter.offset for _, letter in dead),
                "reason": texts([letter.reason for _, letter in dead]),
                "detail": texts([letter.detail for _, letter in dead]),
            }
            run(
                self._connection,
                "INSERT INTO dead_letters SELECT topic, source_partition, source_offset, reason, detail FROM batch",
                batch,
            )


class _Plan:
    """Decides, without the database, what a sequence of records comes to."""

    def __init__(self, delta_positions: dict[int, int], source_positions: dict[Source, SourcePosition]) -> None:
        self._delta_positions = delta_positions
        self._source_positions = source_positions
        self.result = ApplyResult()
        self.deltas: list[Delta] = []
        self.ledger: dict[Source, list[int]] = {}
        self.moved: dict[int, list[int]] = {}  # delta partition: applied, dropped, undecodable

    def add(self, delta_partition: int, delta_offset: int, delta: Delta | None) -> None:
        result = self.result
        if delta_partition in result.blocked:
            return
        at = result.delta_positions.get(delta_partition, self._delta_positions.get(delta_partition, 0))
        if delta_offset < at:
            result.repeated += 1
            return
        if delta is None:
            self.moved.setdefault(delta_partition, [0, 0, 0])[2] += 1
            result.undecodable += 1
            result.delta_positions[delta_partition] = delta_offset + 1
            return
        source = (delta.topic, delta.partition)
        position = result.positions.get(source, self._source_positions.get(source))
        verdict = applies(None if position is None else position.next_offset, delta)
        if verdict == "gap":
            assert position is not None
            result.blocked.add(delta_partition)
            result.gaps.append(OffsetGap(*source, position.next_offset, delta.from_offset))
            return
        counts = self.moved.setdefault(delta_partition, [0, 0, 0])
        result.delta_positions[delta_partition] = delta_offset + 1
        if verdict == "drop":
            counts[1] += 1
            result.dropped += 1
            return
        counts[0] += 1
        result.applied += 1
        self._account(source, position, delta)

    def _account(self, source: Source, position: SourcePosition | None, delta: Delta) -> None:
        times = [t for t in (delta.max_event_at, position and position.max_event_at) if t is not None]
        self.result.positions[source] = SourcePosition(
            delta.through_offset + 1, max(times) if times else None, delta.idle
        )
        self.result.events += delta.events
        self.result.clock_offsets.update(delta.clock_offsets)
        entry = self.ledger.setdefault(source, [0] * len(_LEDGER))
        adds = (
            *(delta.records, delta.events, delta.duplicates, len(delta.dead_letters), 0, delta.lost),
            *(delta.ignored, delta.event_records),
        )
        for i, n in enumerate(adds):
            entry[i] += n
        self.deltas.append(delta)


#: Rows of a small table that are updated one by one: more are planned sooner together.
_FEW_ROWS = 3


def _merge(
    connection: Any,
    table: str,
    on: Sequence[str],
    batch: dict[str, NDArray[Any]],
    replace: Sequence[str] = (),
    add: Sequence[str] = (),
) -> None:
    """Update the rows of a small table by key, insert those that are missing. NaN is stored as NULL.

    Nearly always all rows are there. An update takes DuckDB a fraction of the time to plan that a MERGE takes, and one
    with parameters again a fraction.
    """
    size = len(batch[on[0]])
    if not size:
        return
    if size <= _FEW_ROWS:
        _merge_few(connection, table, on, batch, replace, add)
        return
    source = {n: f"nullif(s.{n}, 'NaN'::DOUBLE)" if c.dtype == np.float64 else f"s.{n}" for n, c in batch.items()}
    sets = [f"{n} = {source[n]}" for n in replace] + [f"{n} = t.{n} + s.{n}" for n in add]
    same = " AND ".join(f"t.{n} = s.{n}" for n in on)
    run(connection, f"UPDATE {table} AS t SET {', '.join(sets)} FROM batch AS s WHERE {same}", batch)
    (updated,) = connection.fetchone()
    if updated < size:
        run(
            connection,
            f"INSERT INTO {table} ({', '.join(batch)}) SELECT {', '.join(source.values())} FROM batch AS s "
            f"WHERE NOT EXISTS (FROM {table} AS t WHERE {same})",
            batch,
        )


def _merge_few(
    connection: Any,
    table: str,
    on: Sequence[str],
    batch: dict[str, NDArray[Any]],
    replace: Sequence[str],
    add: Sequence[str],
) -> None:
    sets = [f"{n} = ${n}" for n in replace] + [f"{n} = {n} + ${n}" for n in add]
    same = " AND ".join(f"{n} = ${n}" for n in on)
    update = parsed(connection, f"UPDATE {table} SET {', '.join(sets)} WHERE {same}")
    for values in zip(*(column.tolist() for column in batch.values()), strict=True):
        row = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in zip(batch, values, strict=True)
        }
        (updated,) = connection.execute(update, row).fetchone()
        if not updated:
            inserted = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f'${n}' for n in row)})"
            connection.execute(inserted, row)


def _ints(values: Any) -> NDArray[np.int64]:
    return np.asarray(values if isinstance(values, list | np.ndarray) else list(values), np.int64)
