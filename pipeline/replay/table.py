"""One table (Parquet, CSV, a Prometheus answer), read through DuckDB; its faults become one-line errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.replay.formats import ENCODINGS, CsvFormat, DateOrder, Decimal, Rows
from pipeline.replay.head import LINE_BYTES, endless_line, is_utf16, separator_line
from pipeline.replay.text_faults import format_hint, other_content, uneven_line

__all__ = ["Table", "quoted"]

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")
#: Numbers from here on are no seconds (the year 5138), but since 1973 a time in one of the finer units.
_SECONDS_END = 1e11
#: Dates as digits only, by their number of digits.
_DIGITS = {8: ("%Y%m%d", "YYYYMMDD"), 12: ("%Y%m%d%H%M", "YYYYMMDDhhmm"), 14: ("%Y%m%d%H%M%S", "YYYYMMDDhhmmss")}
#: Days that spreadsheets write for the years 2000 to 2099.
_EXCEL_DAYS = (36_526, 73_051)
_CONVERT = "convert it to UTF-8, such as with iconv -f {} -t UTF-8"
_FINER = ("milliseconds", "microseconds", "nanoseconds")


class Table:
    """A table as a DuckDB view. Use as a context manager; DuckDB keeps what does not fit into memory on disk.

    ``notes`` say what was assumed about the file, one sentence each. ``csv`` None: nobody can say how it is written,
    and its faults name no options.

    Raises:
        InputError: on entering, if the file is missing, empty or no table.
    """

    def __init__(self, source: Path | Rows, csv: CsvFormat | None = None) -> None:
        self.types: dict[str, str] = {}
        self.notes: list[str] = []
        self._csv = csv or CsvFormat()
        self._is_told_csv = csv is not None
        self._source = _rows_of(source) if isinstance(source, Path) and source.suffix.lower() == ".json" else source
        self.name = self._source.name
        self.series_column = self._source.series_column if isinstance(self._source, Rows) else None
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
        try:
            # Timestamps without a zone are UTC wherever this runs.
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET threads = 2")
            if isinstance(self._source, Rows):
                self.notes.extend(self._source.notes)
                self._connection.register("rows", self._source.frame)
                self._connection.execute("CREATE VIEW source AS SELECT * FROM rows")
            else:
                self._connection.execute(f"CREATE VIEW source AS SELECT * FROM {self._reader(self._source)}")
            rows = self._connection.execute("DESCRIBE source").fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise InputError(f"{self.name} cannot be read: {self._why(error)}") from error
        self.types = {str(row[0]): str(row[1]).upper() for row in rows}
        return self

    def _reader(self, path: Path) -> str:
        """SQL that reads a file."""
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        if not path.stat().st_size:
            raise InputError(f"{path.name} is empty")
        name = str(path).replace("'", "''")
        suffixes = [s.lower() for s in path.suffixes]
        other = other_content(path)
        if other is not None:
            raise InputError(f"{path.name} {other}")
        if suffixes[-1:] == [".parquet"]:
            return f"read_parquet('{name}')"
        if not {".csv", ".tsv", ".txt"} & set(suffixes):
            raise InputError(
                f"{path.name}: expected a .parquet, .csv, .csv.gz or .tsv file, or a Prometheus answer as .json"
            )
        if endless_line(path):
            raise InputError(f"{path.name}, line 1: more than {LINE_BYTES:,} bytes; expected a table with a row a line")
        # Without it, a file that holds nothing but its header reads as one row of data.
        # Types are told from all rows: the first fraction may come after thousands of whole numbers.
        options = ", header = true, sample_size = -1"
        encoding = None if self._csv.encoding is None else ENCODINGS[self._csv.encoding.lower()]
        separator = separator_line(path)
        if separator is not None:
            options += f", skip = 1, delim = '{separator}'"
        if encoding is None and is_utf16(path, marked=False):
            way = "name the encoding, --encoding utf-16" if self._is_told_csv else _CONVERT.format("UTF-16LE")
            raise InputError(f"{path.name} looks like UTF-16 without its mark: {way}")
        if encoding is None and is_utf16(path):
            encoding = "utf-16"
            self.notes.append("is UTF-16 text, read as such")
        if encoding not in (None, "utf-8"):
            options += f", encoding = '{encoding}'"
        if self._csv.decimal is Decimal.COMMA or self._csv.dates is not DateOrder.ISO:
            return f"read_csv('{name}'{options}, all_varchar = true)"
        if self._sniffs_other_dates(name, options):
            # DuckDB takes 01/02/2026 for a date, and decides by later rows which number is the month.
            options += ", auto_type_candidates = ['BIGINT', 'DOUBLE', 'VARCHAR']"
        return f"read_csv('{name}'{options})"

    def _sniffs_other_dates(self, name: str, options: str) -> bool:
        """Whether DuckDB would read dates that do not begin with the year."""
        try:
            found = self._connection.execute(
                f"SELECT DateFormat, TimestampFormat FROM sniff_csv('{name}'{options})"
            ).fetchone()
        except (duckdb.Error, UnicodeDecodeError):  # what cannot be sniffed is reported when it is read
            return False
        return found is not None and any(text and not str(text).startswith("%Y") for text in found)

    def _why(self, error: Exception) -> str:
        """Why the file cannot be read: the line that is uneven, where one is, else what DuckDB says of it."""
        said = str(error).lower()
        if "not utf-8" in said or "invalid unicode" in said:
            way = "name its encoding, such as --encoding latin-1" if self._is_told_csv else _CONVERT.format("LATIN1")
            return f"{_first_line(error)} (not UTF-8 text: {way})"
        if "not latin-1" in said:
            return "it is neither UTF-8 nor latin-1 text; convert it to UTF-8, such as with iconv"
        uneven = uneven_line(self._source) if isinstance(self._source, Path) and "sniffing" in said else None
        return uneven or _first_line(error)

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def require(self, columns: Sequence[str]) -> None:
        """Check that the file has these columns and at least one row."""
        empty = self.one("SELECT 1 FROM source LIMIT 1") is None
        # DuckDB's name for the column that a file without a single word has; each blank line is a row.
        nameless = list(self.types) == ["column0"] and "column0" not in columns
        if nameless and self.one("SELECT 1 FROM source WHERE column0 IS NOT NULL LIMIT 1") is None:
            raise InputError(f"{self.name} is empty")
        for column in columns:
            if column not in self.types:
                near = next((name for name in self.types if name.strip().lower() == column.strip().lower()), None)
                hint = f"; did you mean {near!r}?" if near else ""
                raise InputError(f"{self.name} has no column {column!r}; {self.shown_columns()}{hint}")
        if empty:
            uneven = uneven_line(self._source) if isinstance(self._source, Path) else None
            if uneven:
                raise InputError(f"{self.name}: {uneven}")
            raise InputError(f"{self.name} is empty: it has no row below its header")

    def shown_columns(self) -> str:
        """Say which columns the file has, and which line is uneven, where one is, since it then has a single one."""
        uneven = uneven_line(self._source) if isinstance(self._source, Path) else None
        return f"it has: {', '.join(name[:60] for name in list(self.types)[:40])}{f'; {uneven}' if uneven else ''}"

    def drop_duplicates(self) -> None:
        """Leave out rows that repeat another one exactly."""
        try:
            self._connection.execute("CREATE TABLE kept AS SELECT DISTINCT * FROM source")
            self._connection.execute("CREATE OR REPLACE VIEW source AS SELECT * FROM kept")
        except duckdb.Error as error:
            raise InputError(f"{self.name} cannot be read: {_first_line(error)}") from error

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
        if kind.startswith("VARCHAR") and self._csv.dates is not DateOrder.ISO:
            # Browsers put narrow spaces before AM and PM.
            text, order = f"trim(regexp_replace({name}, '[\\x{{A0}}\\x{{202F}}]', ' ', 'g'))", self._csv.dates
            # Apart, since %Y reads two digits as a year of the first century.
            long = f"regexp_matches({text}, '^\\d{{1,2}}[./-]\\d{{1,2}}[./-]\\d{{4}}')"
            of_four, of_two = (f"try_strptime({text}, {_formats(order, year)})" for year in "Yy")
            return f"(epoch_us(if({long}, {of_four}, {of_two})::TIMESTAMPTZ) / 1e6)"
        if kind.startswith("VARCHAR"):
            return f"(epoch_us(try_cast({name} AS TIMESTAMPTZ)) / 1e6)"
        raise InputError(f"{self.name}: column {column!r} is of type {kind}, which is not a time")

    def number(self, column: str) -> str:
        """SQL for a column of numbers, NULL where a value is none."""
        name = quoted(column)
        if self.types[column] == "BOOLEAN":
            raise InputError(f"{self.name}: column {column!r} holds true and false, no numbers")
        if self._csv.decimal is Decimal.COMMA and self.types[column].startswith("VARCHAR"):
            text = f"trim({name})"
            plain = f"regexp_full_match({text}, '[+-]?(\\d{{1,3}}(\\.\\d{{3}})+|\\d+)(,\\d+)?')"
            return f"(CASE WHEN {plain} THEN try_cast(replace(replace({text}, '.', ''), ',', '.') AS DOUBLE) END)"
        return f"(try_cast({name} AS DOUBLE))"

    def refuse_finer_times(self, column: str) -> None:
        """Raise when a column of times holds numbers that are milli-, micro- or nanoseconds since 1970, by their size.

        Numbers that count from a trace's own beginning do not tell their unit.
        """
        if not self.is_epoch(column):
            return
        seconds = self.seconds(column)
        bounds = self.one(f"SELECT min({seconds}), max({seconds}) FROM source")
        least, most = (float(bound or 0.0) for bound in bounds or (0.0, 0.0))
        for digits, (form, shown) in _DIGITS.items():
            if not 10.0 ** (digits - 1) <= least < most < 10.0**digits:
                continue
            dates = f"try_strptime({seconds}::BIGINT::VARCHAR, '{form}')"
            found = self.one(f"SELECT bool_and(coalesce(year({dates}) BETWEEN 1990 AND 2100, false)) FROM source")
            if found is not None and found[0]:
                raise InputError(
                    f"{self.name}: the times in column {column!r} look like dates written as digits ({shown}); write "
                    "them as ISO 8601, such as 2026-02-01T13:00:00Z"
                )
        first, end = _EXCEL_DAYS
        found = self.one(
            f"SELECT min({seconds}) >= {first} AND max({seconds}) < {end} AND bool_or({seconds} != floor({seconds})) "
            "FROM source"
        )
        if found is not None and found[0]:
            raise InputError(
                f"{self.name}: the times in column {column!r} look like a spreadsheet's days since 1899-12-30; format "
                "the column as a date and time (yyyy-mm-dd hh:mm:ss) before saving"
            )
        for power, unit in enumerate(_FINER):
            low, high = _SECONDS_END * 1e3**power, _SECONDS_END * 1e3 ** (power + 1)
            # More than half of the rows: a single wrong time is another fault.
            found = self.one(
                f"SELECT 2 * count(*) FILTER ({seconds} >= {low} AND {seconds} < {high}) > count(*) FROM source"
            )
            if found is not None and found[0]:
                raise InputError(
                    f"{self.name}: the times in column {column!r} look like {unit} since 1970; seconds are read: "
                    f"divide them by {10 ** (3 * power + 3)}, or write them as ISO 8601"
                )
        if 1e8 <= least < _SECONDS_END <= most < _SECONDS_END * 1e3:
            raise InputError(
                f"{self.name}: the times in column {column!r} are seconds in some rows and milliseconds in others, by "
                f"their size ({least:.15g}, {most:.15g}); write them all alike"
            )

    def refuse_bad(self, column: str, condition: str, what: str) -> None:
        """Raise, with an example, when any row meets ``condition``."""
        found = self.one(f"SELECT count(*) FROM source WHERE {condition}")
        if found is None or not found[0]:
            return
        first = self.one(
            f"SELECT {quoted(column)}::VARCHAR, __place FROM (SELECT *, row_number() OVER () AS __place FROM source) "
            f"WHERE {condition} ORDER BY {quoted(column)} IS NULL, __place LIMIT 1"
        )
        cell, place = first if first is not None else (None, None)
        example = "nothing" if cell is None else repr(str(cell)[:60])
        rows = "1 row has" if found[0] == 1 else f"{found[0]} rows have"
        hint = format_hint(str(cell or ""), self._csv, is_time="time" in what) if self._is_told_csv else ""
        raise InputError(f"{self.name}: {rows} {what} in column {column!r}, such as {example} (row {place}){hint}")

    def numpy(self, query: str) -> dict[str, NDArray[np.generic]]:
        """Run a query and return its columns."""
        try:
            found: dict[str, NDArray[np.generic]] = self._connection.execute(query).fetchnumpy()
        except duckdb.Error as error:
            raise InputError(f"{self.name} cannot be read: {_first_line(error)}") from error
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
            raise InputError(f"{self.name} cannot be read: {_first_line(error)}") from error

    def one(self, query: str) -> tuple[int | str | float | None, ...] | None:
        """Run a query and return its first row."""
        try:
            row: tuple[int | str | float | None, ...] | None = self._connection.execute(query).fetchone()
        except duckdb.Error as error:
            raise InputError(f"{self.name} cannot be read: {_first_line(error)}") from error
        return row


def _formats(order: DateOrder, year: str) -> str:
    """SQL list of the formats that dates of an order are written in; ``year`` Y: four digits, y: two."""
    date = "%d{0}%m{0}%" if order is DateOrder.DAY_FIRST else "%m{0}%d{0}%"
    times = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S",
             ", %I:%M %p", ", %I:%M:%S %p")  # fmt: skip
    return "[" + ", ".join(f"'{date.format(mark)}{year}{time}'" for mark in "./-" for time in times) + "]"


def _rows_of(path: Path) -> Rows:
    from pipeline.replay.prometheus import read_range_file

    return read_range_file(path)


def quoted(column: str) -> str:
    """Return a column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    """Return what DuckDB says in one line; a cell that is no value of its column by its line."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    cell = re.search(r"Error when converting column \"(.+?)\"\. Could not convert string \"(.*)\" to '(\w+)'", text)
    if line is not None and cell is not None:
        what = "time" if cell[3].startswith(("TIME", "DATE")) else "number"
        return f"CSV Error on Line: {line[1]}: {cell[2][:60]!r} in column {cell[1][:60]!r} is no {what}"
    return (str(error).splitlines() or ["unknown error"])[0][:200]
