"""Reads demand from tables: regular series per group, at one grain.

What a row means is its ``SeriesKind``. A row of *counts* counts the span up to the next row: where the table has no row
at all for a window, nothing is known, so the window is a gap. A row of *events* is one request: a window without rows
had no requests, so it is zero. A *gauge* is averaged over the window, a *counter* differenced. A row without a value is
as good as no row.

DuckDB reads the files, only the columns that are asked for, and sums in the scan: a file larger than memory is fine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.replay.formats import CsvFormat, Rows, SeriesKind
from pipeline.replay.grid import DemandSeries, Grid
from pipeline.replay.kinds import dots_between_thousands, guess_kind, odd_rows, own_step, unnamed_values
from pipeline.replay.oddities import (
    mixed_gauges,
    refuse_changed_step,
    refuse_far_times,
    refuse_mixed_counters,
    told_apart,
)
from pipeline.replay.table import Table, quoted

__all__ = ["DemandSeries", "read_columns", "read_demand"]

#: A step has at most nine digits; no demand is that coarse.
_STEP_END_SECONDS = 1e9
#: More windows than this share without rows are told.
_MOSTLY = 0.75


def read_demand(
    source: Path | Rows,
    *,
    step_seconds: int,
    time_column: str = "timestamp",
    value_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    zeros_are_gaps: bool = False,
    kind: SeriesKind | None = None,
    csv: CsvFormat | None = None,
    drop_duplicates: bool = False,
    notice: Callable[[str], None] = lambda _: None,
) -> list[DemandSeries]:
    """Read a table into one series per group and value column, ordered by name.

    Times may be timestamps (without a zone: UTC), dates, text in ISO 8601 (other dates by ``csv``), or numbers: seconds
    since the epoch, or since the trace's own beginning. Order of rows does not matter; rows of one instant add up. A
    window of counts that holds fewer than 90 % of the instants that belong into it is a gap; gaps at either end are cut
    off. The first and the last window of events may be covered in part only; their counts stand as they are.

    Args:
        source: ``.parquet``, ``.csv``, ``.csv.gz``, ``.tsv``, a Prometheus answer as ``.json``, or rows in memory.
        step_seconds: width of a window; for counts a multiple of the table's own step.
        time_column: name of the column of times.
        value_column: name of the column of values, or of several, each a series of its own; None: rows are events.
        group_column: name of the column that distinguishes series.
        zeros_are_gaps: take a window of value zero as missing telemetry.
        kind: what the values are; None: counts with a value column, events without one.
        csv: how a CSV file is written.
        drop_duplicates: leave out rows that repeat another one exactly.
        notice: called with what was guessed and what is odd about the table, a sentence at a time.

    Raises:
        InputError: the file is missing, empty or no table; a column is missing; a time cannot be read; a value is
            negative, infinite or no number; the result would be absurdly long.
    """
    if step_seconds <= 0:
        raise InputError(f"the step must be positive, not {step_seconds} s")
    values = [value_column] if isinstance(value_column, str) else list(value_column or ())
    if kind is SeriesKind.EVENTS:
        values = []
    elif kind not in (None, SeriesKind.AUTO) and not values:
        raise InputError(f"{kind} need a value column (--value-column)")
    with Table(source, csv or CsvFormat()) as table:
        table.require([time_column, *values, *([group_column] if group_column else [])])
        for text in table.notes:
            notice(f"{table.name}: {text}")
        seconds = table.seconds(time_column)
        table.refuse_finer_times(time_column)
        table.refuse_bad(time_column, f"{seconds} IS NULL OR NOT isfinite({seconds})", "a time that cannot be read")
        refuse_far_times(table, seconds, time_column)
        if drop_duplicates:
            table.drop_duplicates()
        group = f"coalesce({quoted(group_column)}::VARCHAR, 'unknown')" if group_column is not None else "'all'"
        grid = Grid(table, seconds, group, step_seconds, zeros_are_gaps, notice)
        if not values:
            used = {time_column, group_column or ""}
            warning = None if kind is SeriesKind.EVENTS else unnamed_values(table, seconds, group, used)
            if warning:
                notice(f"{table.name}: {warning}")
            return grid.sums("1.0", None)
        for text in odd_rows(table, time_column, seconds, group):
            notice(f"{table.name}: {text}")
        found: list[DemandSeries] = []
        labels = _labels(table, {time_column, group_column or "", *values})
        for column in values:
            read = _read_values(grid, column, kind, labels, alone=len(values) == 1)
            _tell_of_gaps(table.name, read, notice)
            found += [replace(s, name=_name(s.name, column, len(values) > 1, group_column)) for s in read]
        return sorted(found, key=lambda series: series.name)


def _tell_of_gaps(name: str, found: Sequence[DemandSeries], notice: Callable[[str], None]) -> None:
    """Tell of series that are mostly gaps: telemetry seldom is, dates read in a wrong order are."""
    windows = sum(len(series.values) for series in found)
    gaps = sum(int(np.isnan(series.values).sum()) for series in found)
    if gaps > _MOSTLY * windows:
        notice(
            f"{name}: {gaps} of {windows} windows have no rows; are the times read as they are meant (--dates, "
            "--time-column)?"
        )


def _name(group: str, column: str, several: bool, group_column: str | None) -> str:
    if not several:
        return group
    return column if group_column is None else f"{group}/{column}"


def _labels(table: Table, used: set[str]) -> list[str]:
    """Columns of text that may tell several series of one table apart; a Prometheus answer names its series itself."""
    if table.series_column is not None:
        return []
    return [name for name, stored in table.types.items() if stored.startswith("VARCHAR") and name not in used]


def _read_values(
    grid: Grid, column: str, kind: SeriesKind | None, labels: Sequence[str], *, alone: bool
) -> list[DemandSeries]:
    table = grid.table
    value = table.number(column)
    table.refuse_bad(
        column,
        f"{quoted(column)} IS NOT NULL AND coalesce(isinf({value}), true)",
        "a value that is not a number",
    )
    dots = dots_between_thousands(table, column)
    if dots is not None:
        grid.notice(f"{table.name}: {dots}")
    identity = grid.group if table.series_column is None else quoted(table.series_column)
    if kind is SeriesKind.AUTO:
        kind, why = guess_kind(table, grid.seconds, column, identity)
        apart = told_apart(table, grid.seconds, column, grid.group, labels, kind)
        if apart is not None:
            kind, (identity, names) = SeriesKind.COUNTER, apart
            why = f"its values only rise within each {names}"
        grid.notice(f"{table.name}: {column} is read as {kind} ({why}); --kind says otherwise")
    elif kind is SeriesKind.COUNTER:
        apart = told_apart(table, grid.seconds, column, grid.group, labels, kind)
        identity = identity if apart is None else apart[0]
    if kind is SeriesKind.COUNTER:
        refuse_mixed_counters(table, grid.seconds, column, identity, "--group-column")
    # NaN is how tables of floats say that there is no value; DuckDB orders it above every number.
    value = f"(CASE WHEN isnan({value}) THEN NULL ELSE {value} END)"
    table.refuse_bad(column, f"{value} < 0", "a negative value")
    # In a wide table each column may have rows of its own.
    known = "true" if alone else f"{value} IS NOT NULL"
    native = own_step(table, grid.seconds, identity, known)
    # Scrapes are jittered: samples a little more than a step apart still cover nearly every window.
    slack = 1.25 if kind in (SeriesKind.GAUGE, SeriesKind.COUNTER) else 1.0
    if native is not None and native > slack * grid.step:
        wide = math.ceil(native)
        remedy = f"ask for --step {wide}s or wider" if wide < _STEP_END_SECONDS else "is it the right column?"
        raise InputError(f"{table.name}: rows lie {native:.15g} s apart, more than the step of {grid.step} s; {remedy}")
    if kind is SeriesKind.GAUGE:
        mixed = mixed_gauges(table, grid.seconds, grid.group, labels)
        if mixed is not None:
            grid.notice(f"{table.name}: {mixed}")
        return grid.means(value, native)
    if kind is SeriesKind.COUNTER:
        return grid.increases(value, native, identity)
    if native is not None and kind is not None:
        refuse_changed_step(table, grid.seconds, grid.group, native, grid.step, known)
    return grid.sums(value, native)


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read numeric or time columns as float arrays (times: epoch seconds), in file order.

    Raises:
        InputError: as ``read_demand``; a missing value is refused as well.
    """
    with Table(path) as table:
        table.require(columns)
        expressions: list[str] = []
        for column in columns:
            expression = table.number(column) if table.is_number(column) else table.seconds(column)
            table.refuse_bad(column, f"{expression} IS NULL OR NOT isfinite({expression})", "an unreadable value")
            expressions.append(f"{expression} AS c{len(expressions)}")
        found = table.numpy(f"SELECT {', '.join(expressions)} FROM source")
        return {column: np.asarray(found[f"c{i}"], dtype=np.float64) for i, column in enumerate(columns)}
