"""The schema of the DuckDB file: ordered, forward-only migrations, applied when a store is opened and at no other time.

No primary keys and no indexes: on hot tables DuckDB's indexes cost memory, file size and checkpoints, and have been
corrupted by upserts (duckdb/duckdb 23645, 24848, 25162); the single writer's MERGE keeps the keys unique instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.errors import InputError, StoreError, StoreLocked, StoreTooNew
from pipeline.store import parts, rollups
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.model import MEASURES
from pipeline.windows.rollup import CLOSED_MEASURES

__all__ = ["MIGRATIONS", "Migration", "connect", "connect_read_only"]


#: What a DuckDB file begins with, after a checksum of its header.
_MAGIC, _MAGIC_AT = b"DUCK", 8


class Migration(NamedTuple):
    """One step of the schema: ``statements`` run in one transaction."""

    version: int
    name: str
    statements: tuple[str, ...]


#: HUGEINT, since sums of squares over a busy window can pass 64 bits.
_MEASURE_COLUMNS = ", ".join(f"{name} HUGEINT NOT NULL" for name in MEASURES)
_CLOSED_COLUMNS = ", ".join(f"{name} HUGEINT NOT NULL" for name in CLOSED_MEASURES)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "first",
        (
            "CREATE TABLE keys (key_id INTEGER NOT NULL, model VARCHAR NOT NULL, pool VARCHAR NOT NULL, "
            "dims VARCHAR NOT NULL)",
            f"CREATE TABLE windows (window_start BIGINT NOT NULL, key_id INTEGER NOT NULL, {_MEASURE_COLUMNS}, "
            "max_completed_ms BIGINT NOT NULL)",
            # Append-only; merged by sum(n).
            "CREATE TABLE histograms (window_start BIGINT NOT NULL, key_id INTEGER NOT NULL, metric SMALLINT NOT NULL, "
            "bucket SMALLINT NOT NULL, n BIGINT NOT NULL)",
            "CREATE TABLE delta_positions (delta_partition INTEGER NOT NULL, next_offset BIGINT NOT NULL, "
            "applied BIGINT NOT NULL, dropped BIGINT NOT NULL, undecodable BIGINT NOT NULL)",
            "CREATE TABLE source_positions (topic VARCHAR NOT NULL, source_partition INTEGER NOT NULL, "
            "next_offset BIGINT NOT NULL, max_event_at DOUBLE, idle BOOLEAN NOT NULL)",
            "CREATE TABLE ledger (topic VARCHAR NOT NULL, source_partition INTEGER NOT NULL, records BIGINT NOT NULL, "
            "events BIGINT NOT NULL, duplicates BIGINT NOT NULL, dead_letters BIGINT NOT NULL, late BIGINT NOT NULL, "
            "lost BIGINT NOT NULL)",
            "CREATE TABLE dead_letters (topic VARCHAR NOT NULL, source_partition INTEGER NOT NULL, "
            "source_offset BIGINT NOT NULL, reason VARCHAR NOT NULL, detail VARCHAR NOT NULL)",
            # What retention took out, so that totals stay totals.
            "CREATE TABLE retired_dead_letters (reason VARCHAR NOT NULL, n BIGINT NOT NULL)",
            "CREATE TABLE retired_totals (requests HUGEINT NOT NULL, input_tokens HUGEINT NOT NULL, "
            "output_tokens HUGEINT NOT NULL)",
            "CREATE TABLE steps (as_of BIGINT NOT NULL)",
            "CREATE TABLE closed_windows (as_of BIGINT NOT NULL, seq INTEGER NOT NULL, window_start BIGINT NOT NULL, "
            f"grain_seconds INTEGER NOT NULL, model VARCHAR NOT NULL, pool VARCHAR NOT NULL, {_CLOSED_COLUMNS}, "
            "completeness DOUBLE NOT NULL, gap BOOLEAN NOT NULL, current_replicas BIGINT, ready_replicas BIGINT)",
            "CREATE TABLE forecasts (model VARCHAR NOT NULL, pool VARCHAR NOT NULL, signal VARCHAR NOT NULL, "
            "issued_at DOUBLE NOT NULL, horizon_seconds INTEGER NOT NULL, q05 DOUBLE, q10 DOUBLE, q25 DOUBLE, "
            "q50 DOUBLE, q75 DOUBLE, q90 DOUBLE, q95 DOUBLE, q99 DOUBLE)",
            "CREATE TABLE recommendations (model VARCHAR NOT NULL, pool VARCHAR NOT NULL, issued_at DOUBLE NOT NULL, "
            "generation BIGINT NOT NULL, body VARCHAR NOT NULL)",
            "CREATE TABLE alerts (alert_id VARCHAR NOT NULL, model VARCHAR NOT NULL, pool VARCHAR NOT NULL, "
            "raised_at DOUBLE NOT NULL, changed_at DOUBLE NOT NULL, body VARCHAR NOT NULL)",
            "CREATE TABLE snapshots (as_of BIGINT NOT NULL, body BLOB NOT NULL)",
        ),
    ),
    Migration(
        2,
        "calendar",
        (
            # Which announced events the engine was told of, and when: what makes a restart exact.
            "CREATE TABLE calendar_changes (as_of BIGINT NOT NULL, seq INTEGER NOT NULL, removed BOOLEAN NOT NULL, "
            "ends_at DOUBLE NOT NULL, body VARCHAR NOT NULL)",
        ),
    ),
    Migration(3, "rollups", rollups.schema()),
    Migration(4, "parts", (parts.schema(),)),
    Migration(
        5,
        "latencies",
        tuple(f"ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS {name} DOUBLE" for name in LATENCIES),
    ),
)


def connect(path: Path, memory_limit: str, migrations: Sequence[Migration] = MIGRATIONS) -> Any:
    """Open (or create) the file and bring its schema up to date; return the DuckDB connection.

    Before an existing file is changed it is copied to ``NAME.v<old version>.bak`` beside it.

    Raises:
        StoreLocked: another process owns the file.
        StoreTooNew: a newer version wrote it.
        StoreError: it is no store of ours, or it cannot be opened.
    """
    if path.is_file() and not _is_duckdb(path):
        raise StoreError(f"cannot open {path}: it is not a DuckDB file")
    connection = _open(path, memory_limit)
    try:
        version = _version(connection, path)
        newest = migrations[-1].version
        if version > newest:
            raise StoreTooNew(f"{path} has schema {version}; this version knows up to {newest}: upgrade Tokentide")
        if 0 < version < newest and str(path) != ":memory:":
            connection.execute("CHECKPOINT")
            connection.close()
            shutil.copy2(path, path.with_name(f"{path.name}.v{version}.bak"))
            connection = _open(path, memory_limit)
        for migration in migrations:
            if migration.version > version:
                _apply(connection, migration)
        if version < newest:
            # DDL left in the write-ahead log is what replays after a crash have tripped over (duckdb/duckdb 22044).
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        connection.close()
        raise StoreError(f"cannot prepare {path}: {error}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path, memory_limit: str) -> Any:
    """Open a store that no other process writes to, without changing it; return the DuckDB connection.

    Raises:
        StoreLocked: another process owns the file.
        StoreTooNew: a newer version wrote it.
        InputError: there is no such file, or it is no store of ours.
        StoreError: an older version wrote it, or it cannot be opened.
    """
    if not path.is_file():
        raise InputError(f"there is no store {path}")
    if not _is_duckdb(path):
        raise InputError(f"cannot open {path}: it is not a DuckDB file")
    connection = _open(path, memory_limit, read_only=True)
    try:
        version = _version(connection, path)
    except duckdb.Error as error:
        connection.close()
        raise StoreError(f"cannot read {path}: {error}") from error
    except StoreError as error:
        connection.close()
        raise InputError(str(error)) from error
    newest = MIGRATIONS[-1].version
    if version == newest:
        return connection
    connection.close()
    if version > newest:
        raise StoreTooNew(f"{path} has schema {version}; this version knows up to {newest}: upgrade Tokentide")
    raise StoreError(f"{path} has schema {version}, older than {newest}: start a controller on it once")


def _is_duckdb(path: Path) -> bool:
    """Whether a file begins as DuckDB's do; DuckDB takes any other .csv, .json or .parquet for a table of its own,
    and keeps what is written in memory only.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror or error}") from error


def _open(path: Path, memory_limit: str, read_only: bool = False) -> Any:
    config = {"memory_limit": memory_limit, "autoinstall_known_extensions": "false"}
    try:
        return duckdb.connect(str(path), read_only=read_only, config=config)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise StoreLocked(f"{path} is owned by another process: {str(error).splitlines()[0]}") from error
        raise StoreError(f"cannot open {path}: {str(error).splitlines()[0]}") from error
    except duckdb.Error as error:
        raise StoreError(f"cannot open {path}: {str(error).splitlines()[0]}") from error


def _version(connection: Any, path: Path) -> int:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_migrations" not in tables:
        if tables:
            raise StoreError(f"{path} is a DuckDB file, but not a Tokentide store")
        return 0
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()
    return int(version)


def _apply(connection: Any, migration: Migration) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL)"
        )
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", [migration.version, migration.name])
        connection.execute("COMMIT")
    except duckdb.Error:
        connection.execute("ROLLBACK")
        raise
