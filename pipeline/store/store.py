"""The window store: one DuckDB file, one owner, one writer.

Calls that write (``apply``, ``close_windows``, ``record_step``, ``record_revision``,
``save_snapshots``, ``save_fleet_split``, ``backfill``, ``retain``) must not overlap; the caller serialises them,
usually in one writer thread. Everything else may be called from any thread at any time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import duckdb

from pipeline.config.settings import StoreSettings, WindowSettings
from pipeline.engine.types import RevisionInput, StepInput, StepOutput
from pipeline.errors import StoreError
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.store import base_rows, retention, steps
from pipeline.store.apply import ApplyResult, DeltaApplier, SourcePosition
from pipeline.store.backfill import BACKFILL_TOPIC, insert_missing
from pipeline.store.breakdowns import broken_down
from pipeline.store.exogenous import write_exogenous
from pipeline.store.export import Exported, export_parquet
from pipeline.store.frontier import Frontier, Touched
from pipeline.store.key_table import KeyTable
from pipeline.store.migrations import connect
from pipeline.store.readers import StoreReaders
from pipeline.store.revisions import inputs_since, newest_revision, revised_output, write_revision
from pipeline.store.rollups import roll_up
from pipeline.store.snapshots import Snapshots, read_snapshots, write_snapshots
from pipeline.store.sql import transaction
from pipeline.windows.rollup import closed_window
from pipeline.windows.types import ClosedWindow, Delta, DeltaRows, Histograms, PoolKey, WindowKey

__all__ = ["BACKFILL_TOPIC", "Store"]


class Store(StoreReaders):
    """One DuckDB file; see the module for who may call what. Open it with ``Store.open``."""

    def __init__(self, connection: Any, settings: StoreSettings, windows: WindowSettings) -> None:
        keys = KeyTable(connection, windows.max_pools)
        super().__init__(connection, windows.grain_seconds, keys.of_pool)
        self._settings = settings
        self._windows = windows
        self._keys = keys
        #: Which pools got rows of the windows that are being closed; see ``Touched``.
        self.touched = Touched()
        self._applier = DeltaApplier(connection, self._keys, self.touched, self._opened, self._states)
        self._frontier = Frontier()
        self._revised: int | None = None  # the newest revision
        self._read_frontier()

    @classmethod
    def open(cls, path: Path, settings: StoreSettings | None = None, windows: WindowSettings | None = None) -> Self:
        """Open or create a store; ``Path(":memory:")`` gives one that is never written down.

        Raises:
            StoreLocked: another process owns the file.
            StoreTooNew: a newer version of Tokentide wrote it.
            StoreError: it is no Tokentide store, or it cannot be opened.
        """
        settings = settings or StoreSettings()
        return cls(connect(path, settings.memory_limit), settings, windows or WindowSettings())

    def close(self) -> None:
        """Write the file out and release it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def apply(self, records: Sequence[tuple[int, int, Delta | None]]) -> ApplyResult:
        """Apply records of the delta topic, (delta partition, delta offset, delta), in ONE transaction.

        None stands for a record that is not a delta: it is counted and passed over. A delta that leaves a gap is not
        applied and stops its delta partition; the other partitions go on, and the gap is in the result.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        result = self._applier.apply(records, self._frontier)
        self._late_rows_came()
        self._load_open()
        return result

    def delta_positions(self) -> dict[int, int]:
        """Return {delta partition: next offset to read}."""
        return dict(self._applier.delta_positions)

    def source_positions(self) -> dict[tuple[str, int], SourcePosition]:
        """Return {(topic, partition): position} of the request topic as folded so far."""
        return dict(self._applier.source_positions)

    def last_closed(self) -> int | None:
        """Return the end of the last closed window, epoch seconds."""
        return self._last_closed

    def last_advised(self) -> int | None:
        """Return the time of the newest step or revision, epoch seconds."""
        known = [at for at in (self._last_closed, self._revised) if at is not None]
        return max(known, default=None)

    def first_open_window(self) -> int | None:
        """Return the start of the first window still open: after the last closed one, else the first with data.

        Where advice was revised before the first step, no window before that time is closed any more.
        """
        if self._last_closed is not None:
            return self._last_closed
        (first,) = self.cursor().execute("SELECT min(window_start) FROM windows").fetchone()
        grain = self._windows.grain_seconds
        return None if first is None else max(int(first) // grain * grain, self._frontier.until or 0)

    def next_counted(self, start: int) -> int | None:
        """Return the start of the first base window at or after ``start`` that holds events; None: there is none."""
        row = self.cursor().execute("SELECT min(window_start) FROM windows WHERE window_start >= ?", [start]).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def window_sums(self, start: int, end: int, pools: Collection[tuple[str, str]] | None = None) -> list[ClosedWindow]:
        """Return the sums over [start, end) of every (model, pool) with data in it, sorted; ``pools``: only of these.

        Dimensions are added up; what the heaviest of their values come to is in each window's ``breakdown``.
        """
        cursor = self.cursor()
        sums = base_rows.window_sums(cursor, self._keys_of(pools), start, end)
        windows = [closed_window(start, end - start, *pool, values) for pool, values in sums]
        return broken_down(cursor, windows, self._windows.dimensions)

    def latency_counts(
        self, start: int, end: int, pools: Collection[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], dict[str, dict[int, int]]]:
        """Return {(model, pool): {latency: {bucket: n}}} of ``TOLD`` over the base windows in [start, end).

        ``pools`` are the (model, pool) to read; None: all.
        """
        return base_rows.latency_counts(self.cursor(), self._keys_of(pools), start, end)

    def pools(self) -> list[tuple[str, str]]:
        """Return every (model, pool) that has been seen, sorted."""
        return list(self._keys.stored_pools)

    def _keys_of(self, pools: Collection[tuple[str, str]] | None) -> base_rows.PoolKeys:
        known = self._keys.stored_pools
        wanted = known if pools is None else pools
        return base_rows.PoolKeys(wanted, self._keys.of_pool, every_key=len(wanted) >= len(known))

    def close_windows(
        self,
        as_of: int,
        windows: Sequence[ClosedWindow],
        calendar: Sequence[CalendarChange],
        exogenous: Sequence[ExogenousRow] = (),
    ) -> None:
        """Close windows of some pools, all ending at ``as_of``, in ONE transaction; from now on they do not change.

        A step with many pools is closed in parts, so that the first of them need not wait for the last. The step is
        complete once ``record_step`` has been called; after a crash before that ``closing`` returns what there is.
        ``calendar`` and ``exogenous`` are what the step begins with, the same in each of its parts.

        Raises:
            StoreError: the step is not after the last one, or DuckDB refused; nothing has changed.
        """
        last = self.last_advised()
        if last is not None and as_of <= last:
            raise StoreError(f"step {as_of} is not after the last one, {last}")
        begun = len(self._frontier.pools)
        with self._states.transaction(self._connection):
            steps.write_windows(self._connection, [(as_of, i, w) for i, w in enumerate(windows, begun)])
            if not begun:
                steps.write_calendar(self._connection, [(as_of, i, c) for i, c in enumerate(calendar)])
                write_exogenous(self._connection, [(as_of, i, row) for i, row in enumerate(exogenous)])
        pools = self._frontier.pools.union(window.key for window in windows)
        self._frontier = Frontier(as_of - self._windows.grain_seconds, as_of, pools)
        self._states.shown()

    def closing(self) -> StepInput | None:
        """Return what ``close_windows`` has written of a step that is not recorded; None: there is no such step."""
        if self._frontier.closing is None:
            return None
        return steps.read_closing(self.cursor(), self._last_closed)

    def record_step(self, output: StepOutput) -> None:
        """Write one step (forecasts, recommendations, alerts, windows not closed before) in ONE transaction.

        Raises:
            StoreError: the step is not after the last one, or DuckDB refused; nothing has changed.
        """
        self.record_steps([output])

    def record_steps(self, outputs: Sequence[StepOutput], snapshot: bytes | None = None) -> None:
        """Write consecutive steps, and the whole engine's state after the last one, in ONE transaction.

        Cheaper than one by one.

        Raises:
            StoreError: a step is not after the one before it, or DuckDB refused; nothing has changed.
        """
        if not outputs:
            return
        last = self.last_advised()
        for output in outputs:
            if last is not None and output.as_of <= last:
                raise StoreError(f"step {output.as_of} is not after the last one, {last}")
            last = output.as_of
        if self._frontier.closing not in (None, outputs[0].as_of):
            raise StoreError(f"the step of {self._frontier.closing} is being closed, not that of {outputs[0].as_of}")
        with self._states.transaction(self._connection):
            steps.write_steps(self._connection, outputs, self._frontier.pools)
            roll_up(self._connection, self._last_closed, outputs[-1].as_of)
            if snapshot is not None:
                write_snapshots(self._connection, outputs[-1].as_of, snapshot, {}, outputs[-1].as_of)
        self._last_closed = last
        self._frontier = Frontier(last)
        self._states.shown()

    def record_revision(self, output: StepOutput) -> None:
        """Write advice that was raised since the last step, and the readings that raised it, in ONE transaction.

        Raises:
            StoreError: it is not after the last step and the last revision, a step is being closed, or DuckDB refused;
                nothing has changed.
        """
        last = self.last_advised()
        if last is not None and output.as_of <= last:
            raise StoreError(f"revision {output.as_of} is not after {last}")
        if self._frontier.closing is not None:
            raise StoreError(f"revision {output.as_of} while the step of {self._frontier.closing} is being closed")
        with self._states.transaction(self._connection):
            write_revision(self._connection, output, self._last_closed)
        self._revised = output.as_of
        self._frontier = Frontier.after(self._last_closed, self._revised, self._windows.grain_seconds)
        self._states.shown()

    def snapshots(self) -> Snapshots | None:
        """Return the engine's state as it was kept last; None: never."""
        return read_snapshots(self.cursor())

    def save_snapshots(
        self, as_of: int, shared: bytes, pools: Mapping[PoolKey, bytes], oldest: int, seen: int | None = None
    ) -> None:
        """Keep the engine's state after the step of ``as_of``; see ``write_snapshots``.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        with transaction(self._connection):
            write_snapshots(self._connection, as_of, shared, pools, oldest, seen)

    def fleet_split(self) -> str | None:
        """Return what ``save_fleet_split`` kept last; None: nothing yet."""
        row = self.cursor().execute("SELECT body FROM fleet_split").fetchone()
        return None if row is None else str(row[0])

    def save_fleet_split(self, body: str) -> None:
        """Keep how the stock that pools share is split, in place of what was kept.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        with transaction(self._connection):
            self._connection.execute("DELETE FROM fleet_split")
            self._connection.execute("INSERT INTO fleet_split VALUES (?)", [body])

    def last_output(self) -> StepOutput | None:
        """Return what the newest step said as far as it is kept: all but scores and errors (None: no step yet).

        Alerts are those that changed in it and all that still last; advice is the newest, with what revisions have
        raised since. Before the first step it is what revisions said.
        """
        if self._last_closed is not None:
            return steps.read_output(self.cursor(), self._last_closed)
        return None if self._revised is None else revised_output(self.cursor(), self._revised)

    def closed_since(self, as_of: int) -> Iterator[StepInput]:
        """Yield the steps after ``as_of``, in order, with the windows that they closed."""
        return steps.closed_since(self._connection.cursor(), as_of)

    def inputs_since(self, as_of: int) -> Iterator[StepInput | RevisionInput]:
        """Yield the steps and revisions after ``as_of``, in order: what the engine sees again after ``snapshots``."""
        return inputs_since(self._connection, as_of)

    def backfill(self, keys: Sequence[WindowKey], rows: DeltaRows, histograms: Histograms) -> int:
        """Store whole base rows that did not come through Kafka; return how many events they added.

        A row whose (window, key) is stored already is left out, so a second call changes nothing. The ledger counts
        the events under ``BACKFILL_TOPIC``.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        if not rows.window:
            return 0
        try:
            with self._states.transaction(self._connection):
                added = insert_missing(
                    *(self._connection, self._keys, self._frontier, self.touched, self._opened),
                    (keys, rows, histograms),
                )
            self._keys.stored()
            self._opened.keep()
            self._late_rows_came()
            return added
        except BaseException:
            self._opened.undo()
            self._keys.reload()
            raise

    def retain(self, now: float, gone: Collection[tuple[str, str]] = ()) -> None:
        """Delete what is older than its retention at ``now`` (event time, epoch seconds) and compact the file.

        ``gone`` are (model, pool) that are forgotten as soon as nothing stored tells of them.

        Raises:
            StoreError: DuckDB refused; nothing has changed.
        """
        with self._states.transaction(self._connection):
            retention.delete_expired(self._connection, now, self._settings, gone)
        kept = min(self._settings.retention_base_seconds, self._settings.retention_closed_seconds)
        if self._last_closed is not None and self._recent.oldest() < now - kept:
            self._recent.clear()
        self._opened.drop(math.ceil(now - self._settings.retention_base_seconds))
        self._keys.reload()  # those of expired values and forgotten pools are gone
        self._states.shown()
        with suppress(duckdb.Error):  # a reader is busy; DuckDB checkpoints by itself later
            self._connection.execute("CHECKPOINT")

    def export_parquet(self, folder: Path, tables: Collection[str] = ()) -> list[Exported]:
        """Write tables (none named: all) as partitioned Parquet; see ``pipeline.store.export``. Any thread may.

        Raises:
            StoreError: DuckDB refused, or the folder cannot be written.
            InputError: there is no such table.
        """
        with closing(self._connection.cursor()) as cursor:
            return export_parquet(cursor, folder, self._settings, self._settings.path.stem, tables)

    def keep_recent(self) -> None:
        """Bring the newest windows that are kept in memory up to the last step, for readers; any thread may call.

        Raises:
            StoreError: DuckDB refused; readers ask it for what is missing.
        """
        try:
            with closing(self._connection.cursor()) as cursor:
                closed = self._last_closed or 0
                self._recent.fill(cursor, closed)
                self._opened.drop(closed)
        except duckdb.Error as error:
            raise StoreError(f"the store could not read: {str(error).splitlines()[0]}") from error

    def _late_rows_came(self) -> None:
        """Let readers know, once they are committed, of rows of windows that have closed."""
        self._recent.note(self.touched.take_late(), self._applier.all_before)
        self._states.shown()

    def _load_open(self) -> None:
        try:
            self._opened.load(self._connection, self._last_closed)
        except duckdb.Error as error:
            raise StoreError(f"the store could not read: {str(error).splitlines()[0]}") from error

    def _read_frontier(self) -> None:
        (as_of,) = self._connection.execute("SELECT max(as_of) FROM steps").fetchone()
        self._last_closed = None if as_of is None else int(as_of)
        self._revised = newest_revision(self._connection)
        self._frontier = Frontier.after(self._last_closed, self._revised, self._windows.grain_seconds)
        begun = steps.read_closing(self._connection.cursor(), self._last_closed)
        if begun is not None:
            start = begun.as_of - self._windows.grain_seconds
            self._frontier = Frontier(start, begun.as_of, frozenset(w.key for w in begun.windows))
