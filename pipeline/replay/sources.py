"""Reads demand from Parquet and CSV files: regular series per group, at one grain.

Two kinds of table are understood. With a value column each row is a count for the span up to the next row (a *count
table*): where the table has no row at all for a window, nothing is known, so the window is a gap. Without one each row
is one request (a *request table*): a window without rows had no requests, so it is zero. A row of a count table
without a value is as good as no row.

DuckDB reads the files, only the columns that are asked for, and sums in the scan: a file larger than memory is fine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.replay.table import Table, quoted

__all__ = ["DemandSeries", "own_step", "read_columns", "read_demand"]

#: More windows than this per series is a wrong time column or grain, not demand (19 years of minutes).
MAX_WINDOWS = 10_000_000
#: More series than this is a wrong group column.
MAX_SERIES = 10_000

#: A step has at most nine digits; no demand is that coarse.
_STEP_END_SECONDS = 1e9

#: A count window that holds less than this share of its instants is a gap: its sum would be too low.
_LEAST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class DemandSeries:
    """One regular series: ``values[i]`` is the sum over [start + i·step, start + (i + 1)·step); NaN is a gap.

    ``start`` is epoch seconds (a whole multiple of ``step_seconds``) and ``rows`` counts the rows that were read.
    """

    name: str
    start: float
    step_seconds: int
    values: NDArray[np.float64]
    rows: int

    def ends(self) -> NDArray[np.float64]:
        """Return the end of every window, epoch seconds."""
        return self.start + self.step_seconds * np.arange(1, len(self.values) + 1, dtype=np.float64)


def read_demand(
    path: Path,
    *,
    step_seconds: int,
    time_column: str = "timestamp",
    value_column: str | None = None,
    group_column: str | None = None,
    zeros_are_gaps: bool = False,
) -> list[DemandSeries]:
    """Read a file into one series per group (one named ``all`` without a group column), ordered by name.

    Times may be timestamps (without a zone: UTC), dates, text in ISO 8601, or numbers: seconds since the epoch, or
    since the trace's own beginning. Order of rows does not matter; rows of one instant add up. A window of a count
    table that holds fewer than 90 % of the instants that belong into it is a gap; gaps at either end are cut off. The
    first and the last window of a request table may be covered in part only; their counts stand as they are.

    Args:
        path: ``.parquet``, ``.csv``, ``.csv.gz`` or ``.tsv``.
        step_seconds: width of a window; for a count table a multiple of its own step.
        time_column: name of the column of times.
        value_column: name of the column of counts; None: each row is one request.
        group_column: name of the column that tells the series apart.
        zeros_are_gaps: in a count table, take a window that sums to zero as missing telemetry.

    Raises:
        InputError: the file is missing, empty or no table; a column is missing; a time cannot be read; a value is
            negative, infinite or no number; the result would be absurdly long.
    """
    if step_seconds <= 0:
        raise InputError(f"the step must be positive, not {step_seconds} s")
    with Table(path) as table:
        columns = [time_column, *([value_column] if value_column else []), *([group_column] if group_column else [])]
        table.require(columns)
        seconds = table.seconds(time_column)
        table.refuse_finer_times(time_column)
        table.refuse_bad(time_column, f"{seconds} IS NULL OR NOT isfinite({seconds})", "a time that cannot be read")
        value = "1.0"
        if value_column is not None:
            value = table.number(value_column)
            table.refuse_bad(
                value_column,
                f"{quoted(value_column)} IS NOT NULL AND coalesce(isinf({value}), true)",
                "a value that is not a number",
            )
            # NaN is how tables of floats say that there is no value; DuckDB orders it above every number.
            value = f"(CASE WHEN isnan({value}) THEN NULL ELSE {value} END)"
            table.refuse_bad(value_column, f"{value} < 0", "a negative value")
        group = f"coalesce({quoted(group_column)}::VARCHAR, 'unknown')" if group_column is not None else "'all'"
        native = own_step(table, seconds, group) if value_column is not None else None
        if native is not None and native > step_seconds:
            wide = math.ceil(native)
            remedy = f"ask for --step {wide}s or wider" if wide < _STEP_END_SECONDS else "is it the right column?"
            raise InputError(
                f"{path.name}: rows lie {native:.15g} s apart, more than the step of {step_seconds} s; {remedy}"
            )
        return _sums(table, seconds, value, group, step_seconds, value_column is not None, native, zeros_are_gaps)


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


def own_step(table: Table, seconds: str, group: str) -> float | None:
    """The commonest distance between neighbouring instants of one group; None for a single instant."""
    found = table.one(
        f"""SELECT median(d) FROM (
              SELECT t - lag(t) OVER (PARTITION BY g ORDER BY t) AS d
              FROM (SELECT DISTINCT {group} AS g, {seconds} AS t FROM source)) WHERE d > 0"""
    )
    return None if found is None or found[0] is None else float(found[0])


def _sums(
    table: Table,
    seconds: str,
    value: str,
    group: str,
    step_seconds: int,
    is_counts: bool,
    native_step: float | None,
    zeros_are_gaps: bool,
) -> list[DemandSeries]:
    """Sum the rows by group and window, and lay the sums out as regular series."""
    # Distinct instants tell how much of a count window is covered; for requests they would only cost memory.
    instants_of = f"count(DISTINCT {seconds}) FILTER (WHERE {value} IS NOT NULL)" if is_counts else "count(*)"
    found = table.numpy(
        f"""SELECT {group} AS g, floor({seconds} / {step_seconds})::BIGINT AS w,
                   coalesce(sum({value})::DOUBLE, 'nan'::DOUBLE) AS v, count(*) AS n,
                   {instants_of} AS k
            FROM source GROUP BY g, w ORDER BY g, w"""
    )
    groups = np.asarray(found["g"], dtype=object)
    windows, values, rows, instants = (np.asarray(found[c]) for c in ("w", "v", "n", "k"))
    if np.isinf(values.astype(np.float64)).any():
        raise InputError(f"{table.path.name}: the values of one window add up to more than a number can hold")
    cuts = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(groups)]
    if len(bounds) - 1 > MAX_SERIES:
        raise InputError(f"{table.path.name}: {len(bounds) - 1} groups, more than {MAX_SERIES}: a wrong column?")
    # All series of a request table span the table: silence before a group's first request is silence, too.
    whole = (int(windows.min()), int(windows.max()))
    full_rows = max(round(step_seconds / native_step), 1) if native_step else None
    series = []
    for low, high in itertools.pairwise(bounds):
        w, v, n = windows[low:high], values[low:high].astype(np.float64), rows[low:high]
        first, last = (int(w[0]), int(w[-1])) if is_counts else whole
        if last - first >= MAX_WINDOWS:
            raise InputError(
                f"{table.path.name}: {last - first + 1} windows of {step_seconds} s between the first time and the "
                f"last: a wrong time in the file?"
            )
        laid = np.full(last - first + 1, np.nan if is_counts else 0.0)
        laid[w - first] = v
        if is_counts and zeros_are_gaps:
            laid[laid == 0.0] = np.nan
        if full_rows is not None and full_rows > 1:
            laid[(w - first)[instants[low:high] < _LEAST_SHARE * full_rows]] = np.nan
        known = np.flatnonzero(~np.isnan(laid))
        if len(known) == 0:
            continue
        laid, first = laid[known[0] : known[-1] + 1], first + int(known[0])
        series.append(DemandSeries(str(groups[low]), float(first * step_seconds), step_seconds, laid, int(n.sum())))
    if not series:
        raise InputError(f"{table.path.name}: no window of {step_seconds} s is covered by rows")
    return series
