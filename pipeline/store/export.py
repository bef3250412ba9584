"""History as Parquet, one folder per table and UTC day, for DuckDB, Spark, Trino or pandas to read.

``FOLDER/TABLE/date=YYYY-MM-DD/STORE.parquet`` (Hive partitioning); tables without a time have one file. Every file is
written beside its place and renamed into it when whole, so a reader never sees half a file.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from pipeline.config.settings import StoreSettings
from pipeline.errors import InputError, StoreError
from pipeline.store.migrations import connect_read_only
from pipeline.windows.breakdown import PART_MEASURES
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import HISTOGRAMS, MEASURES

__all__ = ["TABLES", "Exported", "export_file", "export_parquet"]

_DAY = 86_400
#: How far event time may be ahead of the newest window that the store holds when retention runs, seconds.
_RETENTION_MARGIN = 7_200

#: Sums that pass 64 bits; Parquet has no 128-bit integer, every engine reads DECIMAL(38, 0).
_WIDE = {"input_tokens_squared", "output_tokens_squared", "input_output_product", "kv_token_milliseconds"}


@dataclass(frozen=True, slots=True)
class Exported:
    """One file that was written: its table, day (None: the table has no days), place and rows."""

    table: str
    date: str | None
    path: Path
    rows: int


@dataclass(frozen=True, slots=True)
class _Table:
    """``columns`` FROM ``source`` ORDER BY ``order``; ``time`` is its column of epoch seconds.

    ``retention`` names the setting after which rows disappear from the store.
    """

    columns: str
    source: str
    order: str
    time: str | None = None
    retention: str = ""


def _sums(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}::{'DECIMAL(38, 0)' if name in _WIDE else 'BIGINT'} AS {name}" for name in names)


_METRIC = f"{list(HISTOGRAMS)!r}[metric + 1]"

#: What is exported, in this order.
TABLES: dict[str, _Table] = {
    "windows": _Table(
        f"window_start, model, pool, dims, {_sums(MEASURES)}, max_completed_ms",
        "windows JOIN keys USING (key_id)",
        "window_start, model, pool, dims",
        "window_start",
        "retention_base_seconds",
    ),
    "histograms": _Table(
        f"window_start, model, pool, dims, {_METRIC} AS metric, bucket, sum(n)::BIGINT AS n",
        "histograms JOIN keys USING (key_id)",
        "window_start, model, pool, dims, metric, bucket",
        "window_start",
        "retention_base_seconds",
    ),
    "closed_windows": _Table(
        f"as_of, window_start, grain_seconds, model, pool, {_sums(CLOSED_MEASURES)}, completeness, gap, "
        "current_replicas, ready_replicas, ttft_seconds, tpot_seconds",
        "closed_windows",
        "as_of, seq",
        "window_start",
        "retention_closed_seconds",
    ),
    "closed_parts": _Table(
        "as_of, window_start, model, pool, dimension, distinct_values, value, "
        + ", ".join(f"parts.{name}::BIGINT AS {name}" for name in PART_MEASURES),
        "closed_parts AS parts JOIN closed_windows USING (as_of, seq)",
        "as_of, seq, part",
        "window_start",
        "retention_closed_seconds",
    ),
    "readings": _Table(
        "as_of, after_step, model, pool, current_replicas, ready_replicas, fleet",
        "readings",
        "as_of, seq",
        "as_of",
        "retention_closed_seconds",
    ),
    "forecasts": _Table(
        "*", "forecasts", "issued_at, model, pool, signal, horizon_seconds", "issued_at", "retention_forecasts_seconds"
    ),
    "recommendations": _Table(
        "*", "recommendations", "issued_at, model, pool", "issued_at", "retention_forecasts_seconds"
    ),
    "alerts": _Table("*", "alerts", "raised_at, alert_id", "raised_at", "retention_closed_seconds"),
    "dead_letters": _Table("*", "dead_letters", "topic, source_partition, source_offset"),
    "ledger": _Table("*", "ledger", "topic, source_partition"),
}


def export_file(path: Path, folder: Path, settings: StoreSettings, tables: Collection[str] = ()) -> list[Exported]:
    """Export a store file that no controller has open; see ``export_parquet``. The file is not changed.

    Raises:
        StoreLocked: a controller owns the file; it exports by itself when ``store.export_folder`` is set.
        StoreError: the store is of another version, or the folder cannot be written.
        InputError: there is no such store, or no such table.
    """
    with closing(connect_read_only(path, settings.memory_limit)) as connection:
        return export_parquet(connection, folder, settings, path.stem, tables)


def export_parquet(
    cursor: Any, folder: Path, settings: StoreSettings, name: str = "store", tables: Collection[str] = ()
) -> list[Exported]:
    """Write the tables (none named: all) into ``folder`` as they stand in one transaction; return what was written.

    ``name`` tells the files of several stores (shards) apart, so that they may share a folder. A day of which retention
    may have taken a part already does not replace the file of that day that was written before.

    Raises:
        StoreError: DuckDB refused, or the folder cannot be written.
        InputError: there is no such table.
    """
    unknown = sorted(set(tables) - TABLES.keys())
    if unknown:
        raise InputError(f"no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    wanted = [table for table in TABLES if not tables or table in tables]
    try:
        cursor.execute("BEGIN")
        try:
            newest = _newest(cursor)
            return [file for table in wanted for file in _export(cursor, table, folder, settings, name, newest)]
        finally:
            cursor.execute("ROLLBACK")  # nothing was changed
    except duckdb.Error as error:
        raise StoreError(f"cannot export to {folder}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise StoreError(f"cannot export to {folder}: {error.strerror or error}") from error


def _newest(cursor: Any) -> float:
    """Event time that the store has reached at least, epoch seconds."""
    query = "SELECT max(t) FROM (SELECT max(window_start) AS t FROM windows UNION ALL SELECT max(as_of) FROM steps)"
    return float(cursor.execute(query).fetchone()[0] or 0)


def _export(cursor: Any, table: str, folder: Path, settings: StoreSettings, name: str, newest: float) -> list[Exported]:
    spec = TABLES[table]
    if spec.time is None:
        return [_copy(cursor, table, None, folder / table / f"{name}.parquet", "")]
    whole_after = newest + _RETENTION_MARGIN - getattr(settings, spec.retention)
    days = cursor.execute(
        # Some times are DOUBLE, of which // keeps the fraction.
        f"SELECT DISTINCT floor({spec.time} / {_DAY})::BIGINT AS day FROM {spec.source} ORDER BY 1"
    ).fetchall()
    written = []
    for (day,) in days:
        start = day * _DAY
        date = datetime.fromtimestamp(start, UTC).date().isoformat()
        path = folder / table / f"date={date}" / f"{name}.parquet"
        if start < whole_after and path.exists():
            continue
        within = f"WHERE {spec.time} >= {start} AND {spec.time} < {start + _DAY}"
        written.append(_copy(cursor, table, date, path, within))
    return written


def _copy(cursor: Any, table: str, date: str | None, path: Path, where: str) -> Exported:
    spec = TABLES[table]
    group = "GROUP BY ALL " if "sum(" in spec.columns else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    target = str(partial).replace("'", "''")
    query = f"SELECT {spec.columns} FROM {spec.source} {where} {group}ORDER BY {spec.order}"
    cursor.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    (rows,) = cursor.fetchone()
    partial.replace(path)
    return Exported(table, date, path, int(rows))
