"""One Parquet or CSV file, read through DuckDB, with the checks that turn its faults into one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["Table", "quoted"]

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")
#: Numbers from here on are no seconds (the year 5138), but since 1973 a time in one of the finer units.
_SECONDS_END = 1e11
_FINER = ("milliseconds", "microseconds", "nanoseconds")


class Table:
    """A file as a DuckDB view. Use as a context manager; DuckDB keeps what does not fit into memory on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.types: dict[str, str] = {}
        self._connection = duckdb.connect(":memory:")
        self._numbers_as_text: dict[str, bool] = {}

    def is_number(self, column: str) -> bool:
        """Whether the file stores the column as numbers."""
        return self.types[column].startswith((*_NUMBERS, *_FLOATS, "DECIMAL"))

    def is_epoch(self, column: str) -> bool:
        """Whether the times of a column are numbers: stored as such, or as text that holds more numbers than times.

        One cell that is neither makes all the others text.
        """
        if self.types[column].startswith("VARCHAR") and column not in self._numbers_as_text:
            name = quoted(column)
            found = self.one(
                f"SELECT count(try_cast({name} AS DOUBLE)), count(try_cast({name} AS TIMESTAMPTZ)) FROM source"
            )
            self._numbers_as_text[column] = found is not None and float(found[0] or 0) > float(found[1] or 0)
        return self.is_number(column) or self._numbers_as_text.get(column, False)

    def __enter__(self) -> Table:
        path = self.path
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        if not path.stat().st_size:
            raise InputError(f"{path.name} is empty")
        suffixes = [s.lower() for s in path.suffixes]
        reader = "read_parquet" if suffixes[-1:] == [".parquet"] else "read_csv"
        if reader == "read_csv" and not {".csv", ".tsv", ".txt"} & set(suffixes):
            raise InputError(f"{path.name}: expected a .parquet, .csv, .csv.gz or .tsv file")
        # Without it, a file that holds nothing but its header reads as one row of data.
        options = ", header = true" if reader == "read_csv" else ""
        try:
            # Timestamps without a zone are UTC wherever this runs.
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET threads = 2")
            name = str(path).replace("'", "''")
            self._connection.execute(f"CREATE VIEW source AS SELECT * FROM {reader}('{name}'{options})")
            rows = self._connection.execute("DESCRIBE source").fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} cannot be read: {_first_line(error)}") from error
        self.types = {str(row[0]): str(row[1]).upper() for row in rows}
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def require(self, columns: Sequence[str]) -> None:
        """Check that the file has these columns and at least one row."""
        empty = self.one("SELECT 1 FROM source LIMIT 1") is None
        # DuckDB's name for the column that a file without a single word has; each blank line is a row.
        nameless = list(self.types) == ["column0"] and "column0" not in columns
        if nameless and self.one("SELECT 1 FROM source WHERE column0 IS NOT NULL LIMIT 1") is None:
            raise InputError(f"{self.path.name} is empty")
        for column in columns:
            if column not in self.types:
                raise InputError(f"{self.path.name} has no column {column!r}; it has: {', '.join(self.types)}")
        if empty:
            raise InputError(f"{self.path.name} is empty: it has no row below its header")

    def seconds(self, column: str) -> str:
        """SQL for a column of times as epoch seconds, NULL where a time cannot be read."""
        kind, name = self.types[column], quoted(column)
        if kind.startswith(("TIMESTAMP", "DATE")):
            # Microseconds as a whole number: a double of seconds would blur them.
            return f"(epoch_us({name}::TIMESTAMPTZ) / 1e6)"
        if self.is_number(column):
            return f"({name}::DOUBLE)"
        if self.is_epoch(column):
            # DuckDB moves a bare cast into its reader of CSV, which fails where try_cast gives NULL.
            return f"(try_cast(trim({name}) AS DOUBLE))"
        if kind.startswith("VARCHAR"):
            return f"(epoch_us(try_cast({name} AS TIMESTAMPTZ)) / 1e6)"
        raise InputError(f"{self.path.name}: column {column!r} is of type {kind}, which is no time")

    def number(self, column: str) -> str:
        """SQL for a column of numbers, NULL where a value is none."""
        return f"(try_cast({quoted(column)} AS DOUBLE))"

    def refuse_finer_times(self, column: str) -> None:
        """Raise when a column of times holds numbers that are milli-, micro- or nanoseconds since 1970, by their size.

        Numbers that count from a trace's own beginning do not tell their unit.
        """
        if not self.is_epoch(column):
            return
        seconds = self.seconds(column)
        for power, unit in enumerate(_FINER):
            low, high = _SECONDS_END * 1e3**power, _SECONDS_END * 1e3 ** (power + 1)
            # More than half of the rows: a single wrong time is another fault.
            found = self.one(
                f"SELECT 2 * count(*) FILTER ({seconds} >= {low} AND {seconds} < {high}) > count(*) FROM source"
            )
            if found is not None and found[0]:
                raise InputError(
                    f"{self.path.name}: the times in column {column!r} look like {unit} since 1970; seconds are read: "
                    f"divide them by {10 ** (3 * power + 3)}, or write them as ISO 8601"
                )

    def refuse_bad(self, column: str, condition: str, what: str) -> None:
        """Raise, with an example, when any row meets ``condition``."""
        found = self.one(f"SELECT count(*), any_value({quoted(column)}::VARCHAR) FROM source WHERE {condition}")
        if found is not None and found[0]:
            example = "nothing" if found[1] is None else repr(str(found[1])[:60])
            rows = "1 row has" if found[0] == 1 else f"{found[0]} rows have"
            raise InputError(f"{self.path.name}: {rows} {what} in column {column!r}, such as {example}")

    def numpy(self, query: str) -> dict[str, NDArray[np.generic]]:
        """Run a query and return its columns."""
        try:
            found: dict[str, NDArray[np.generic]] = self._connection.execute(query).fetchnumpy()
        except duckdb.Error as error:
            raise InputError(f"{self.path.name} cannot be read: {_first_line(error)}") from error
        return found

    def chunks(self, query: str) -> Iterator[dict[str, NDArray[np.generic]]]:
        """Run a query and yield its columns piece by piece (about 40,000 rows each), never all at once."""
        try:
            result = self._connection.execute(query)
            while True:
                frame = result.fetch_df_chunk(20)
                if not len(frame):
                    return
                yield {str(name): frame[name].to_numpy() for name in frame.columns}
        except duckdb.Error as error:
            raise InputError(f"{self.path.name} cannot be read: {_first_line(error)}") from error

    def one(self, query: str) -> tuple[int | str | float | None, ...] | None:
        """Run a query and return its first row."""
        try:
            row: tuple[int | str | float | None, ...] | None = self._connection.execute(query).fetchone()
        except duckdb.Error as error:
            raise InputError(f"{self.path.name} cannot be read: {_first_line(error)}") from error
        return row


def quoted(column: str) -> str:
    """Return a column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown error"])[0][:200]
