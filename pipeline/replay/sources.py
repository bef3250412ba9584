"""Reads demand from Parquet and CSV files: regular series per group, at one grain.

Two kinds of table are understood. With a value column each row is a count for the span up to the next row (a *count
table*): where the table has no row at all for a window, nothing is known, so the window is a gap. Without one each row
is one request (a *request table*): a window without rows had no requests, so it is zero.

DuckDB reads the files, only the columns that are asked for, and sums in the scan: a file larger than memory is fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["DemandSeries", "read_columns", "read_demand"]

#: More windows than this per series is a wrong time column or grain, not demand (a century of minutes).
MAX_WINDOWS = 60_000_000
#: More series than this is a wrong group column.
MAX_SERIES = 10_000

#: A count window that holds less than this share of its instants is a gap: its sum would be too low.
_LEAST_SHARE = 0.9

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")


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
    table that holds fewer than 90 % of the instants that belong into it is a gap; gaps at either end are cut off.

    Args:
        path: ``.parquet``, ``.csv``, ``.csv.gz`` or ``.tsv``.
        step_seconds: width of a window; for a count table a multiple of its own step.
        time_column: name of the column of times.
        value_column: name of the column of counts; None: each row is one request.
        group_column: name of the column that tells the series apart.
        zeros_are_gaps: in a count table, take a window that sums to zero as missing telemetry.

    Raises:
        InputError: the file is missing, empty or no table; a column is missing; a time cannot be read; a value is
            negative, not finite or missing; the result would be absurdly long.
    """
    if step_seconds <= 0:
        raise InputError(f"the step must be positive, not {step_seconds} s")
    with _Table(path) as table:
        columns = [time_column, *([value_column] if value_column else []), *([group_column] if group_column else [])]
        table.require(columns)
        seconds = table.seconds(time_column)
        table.refuse_bad(time_column, f"{seconds} IS NULL OR NOT isfinite({seconds})", "a time that cannot be read")
        value = "1.0"
        if value_column is not None:
            value = table.number(value_column)
            table.refuse_bad(
                value_column, f"{value} IS NULL OR NOT isfinite({value})", "a value that is missing or not a number"
            )
            table.refuse_bad(value_column, f"{value} < 0", "a negative value")
        group = f"coalesce({_quoted(group_column)}::VARCHAR, 'unknown')" if group_column is not None else "'all'"
        own_step = table.own_step(seconds, group) if value_column is not None else None
        if own_step is not None and own_step > step_seconds:
            raise InputError(
                f"{path.name}: rows lie {own_step:g} s apart, more than the step of {step_seconds} s; "
                f"ask for --step {own_step:g}s or wider"
            )
        return table.sums(seconds, value, group, step_seconds, value_column is not None, own_step, zeros_are_gaps)


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read numeric or time columns as float arrays (times: epoch seconds), in file order.

    Raises:
        InputError: as ``read_demand``; a missing value is refused as well.
    """
    with _Table(path) as table:
        table.require(columns)
        expressions = []
        for column in columns:
            kind = table.types[column]
            expression = table.number(column) if kind.startswith((*_NUMBERS, *_FLOATS, "DECIMAL")) else None
            expression = expression if expression is not None else table.seconds(column)
            table.refuse_bad(column, f"{expression} IS NULL OR NOT isfinite({expression})", "an unreadable value")
            expressions.append(f"{expression} AS c{len(expressions)}")
        found = table.numpy(f"SELECT {', '.join(expressions)} FROM source")
        return {column: np.asarray(found[f"c{i}"], dtype=np.float64) for i, column in enumerate(columns)}


class _Table:
    """One file as a DuckDB view, with the checks that turn its faults into one-line errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.types: dict[str, str] = {}
        self._connection = duckdb.connect(":memory:")

    def __enter__(self) -> _Table:
        path = self.path
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        suffixes = [s.lower() for s in path.suffixes]
        reader = "read_parquet" if suffixes[-1:] == [".parquet"] else "read_csv"
        if reader == "read_csv" and not {".csv", ".tsv", ".txt"} & set(suffixes):
            raise InputError(f"{path.name}: expected a .parquet, .csv, .csv.gz or .tsv file")
        try:
            # Timestamps without a zone are UTC wherever this runs.
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET threads = 2")
            name = str(path).replace("'", "''")
            self._connection.execute(f"CREATE VIEW source AS SELECT * FROM {reader}('{name}')")
            rows = self._connection.execute("DESCRIBE source").fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} cannot be read: {_first_line(error)}") from error
        self.types = {str(row[0]): str(row[1]).upper() for row in rows}
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def require(self, columns: Sequence[str]) -> None:
        """Check that the file has these columns and at least one row."""
        for column in columns:
            if column not in self.types:
                raise InputError(f"{self.path.name} has no column {column!r}; it has: {', '.join(self.types)}")
        if self._one("SELECT 1 FROM source LIMIT 1") is None:
            raise InputError(f"{self.path.name} is empty")

    def seconds(self, column: str) -> str:
        """SQL for a column of times as epoch seconds, NULL where a time cannot be read."""
        kind, name = self.types[column], _quoted(column)
        if kind.startswith(("TIMESTAMP", "DATE")):
            # Microseconds as a whole number: a double of seconds would blur them.
            return f"(epoch_us({name}::TIMESTAMPTZ) / 1e6)"
        if kind.startswith((*_NUMBERS, *_FLOATS, "DECIMAL")):
            return f"({name}::DOUBLE)"
        if kind.startswith("VARCHAR"):
            return f"(epoch_us(try_cast({name} AS TIMESTAMPTZ)) / 1e6)"
        raise InputError(f"{self.path.name}: column {column!r} is of type {kind}, which is no time")

    def number(self, column: str) -> str:
        """SQL for a column of numbers, NULL where a value is none."""
        return f"(try_cast({_quoted(column)} AS DOUBLE))"

    def refuse_bad(self, column: str, condition: str, what: str) -> None:
        """Raise, with an example, when any row meets ``condition``."""
        found = self._one(f"SELECT count(*), first({_quoted(column)}::VARCHAR) FROM source WHERE {condition}")
        if found is not None and found[0]:
            example = "nothing" if found[1] is None else repr(found[1][:60])
            raise InputError(f"{self.path.name}: {found[0]} rows have {what} in column {column!r}, such as {example}")

    def own_step(self, seconds: str, group: str) -> float | None:
        """The commonest distance between neighbouring instants of one group; None for a single instant."""
        found = self._one(
            f"""SELECT median(d) FROM (
                  SELECT t - lag(t) OVER (PARTITION BY g ORDER BY t) AS d
                  FROM (SELECT DISTINCT {group} AS g, {seconds} AS t FROM source)) WHERE d > 0"""
        )
        return None if found is None or found[0] is None else float(found[0])

    def sums(
        self,
        seconds: str,
        value: str,
        group: str,
        step_seconds: int,
        is_counts: bool,
        own_step: float | None,
        zeros_are_gaps: bool,
    ) -> list[DemandSeries]:
        """Sum the rows by group and window, and lay the sums out as regular series."""
        found = self.numpy(
            f"""SELECT {group} AS g, floor({seconds} / {step_seconds})::BIGINT AS w,
                       sum({value})::DOUBLE AS v, count(*) AS n,
                       count(DISTINCT {seconds}) AS k
                FROM source GROUP BY g, w ORDER BY g, w"""
        )
        groups = np.asarray(found["g"], dtype=object)
        windows, values, rows, instants = (np.asarray(found[c]) for c in ("w", "v", "n", "k"))
        if not np.isfinite(values.astype(np.float64)).all():
            raise InputError(f"{self.path.name}: the values of one window add up to more than a number can hold")
        cuts = np.flatnonzero(groups[1:] != groups[:-1]) + 1
        bounds = [0, *cuts.tolist(), len(groups)]
        if len(bounds) - 1 > MAX_SERIES:
            raise InputError(f"{self.path.name}: {len(bounds) - 1} groups, more than {MAX_SERIES}: a wrong group column?")
        # All series of a request table span the table: silence before a group's first request is silence, too.
        whole = (int(windows.min()), int(windows.max()))
        full_rows = max(round(step_seconds / own_step), 1) if own_step else None
        series = []
        for low, high in zip(bounds[:-1], bounds[1:], strict=True):
            w, v, n = windows[low:high], values[low:high].astype(np.float64), rows[low:high]
            first, last = (int(w[0]), int(w[-1])) if is_counts else whole
            if last - first >= MAX_WINDOWS:
                raise InputError(
                    f"{self.path.name}: {last - first + 1} windows of {step_seconds} s between the first time and the "
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
            series.append(
                DemandSeries(str(groups[low]), float(first * step_seconds), step_seconds, laid, int(n.sum()))
            )
        if not series:
            raise InputError(f"{self.path.name}: no window of {step_seconds} s is covered by rows")
        return series

    def numpy(self, query: str) -> dict[str, NDArray[np.generic]]:
        """Run a query and return its columns."""
        try:
            found: dict[str, NDArray[np.generic]] = self._connection.execute(query).fetchnumpy()
        except duckdb.Error as error:
            raise InputError(f"{self.path.name} cannot be read: {_first_line(error)}") from error
        return found

    def _one(self, query: str) -> tuple[int | str | float | None, ...] | None:
        try:
            row: tuple[int | str | float | None, ...] | None = self._connection.execute(query).fetchone()
        except duckdb.Error as error:
            raise InputError(f"{self.path.name} cannot be read: {_first_line(error)}") from error
        return row


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown error"])[0][:200]
