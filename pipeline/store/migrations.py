"""The schema of the DuckDB file: ordered, forward-only migrations, applied when a store is opened and at no other time.

No primary keys and no indexes: on hot tables DuckDB's indexes cost memory, file size and checkpoints, and have been
corrupted by upserts (duckdb/duckdb 23645, 24848, 25162); the single writer's MERGE keeps the keys unique instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.errors import InputError, StoreError, StoreLocked, StoreTooNew

__all__ = ["MIGRATIONS", "Migration", "connect", "connect_read_only", "read_migration"]


#: What a DuckDB file begins with, after a checksum of its header.
_MAGIC, _MAGIC_AT = b"DUCK", 8


class Migration(NamedTuple):
    """One step of the schema: ``statements`` run in one transaction."""

    version: int
    name: str
    statements: tuple[str, ...]


def read_migration(path: Path) -> Migration:
    """Return the migration in a file named ``<version>_<name>.sql``: statements that end with ``;``, ``--`` comments.

    The statements hold no semicolon, and no ``--`` but that of a comment on a line of its own.
    """
    version, _, name = path.stem.partition("_")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
    statements = (statement.strip() for statement in "\n".join(lines).split(";"))
    return Migration(int(version), name, tuple(statement for statement in statements if statement))


#: Literal SQL, never edited once released: a file made today and one that was brought up to date have one schema.
MIGRATIONS: tuple[Migration, ...] = tuple(
    read_migration(path) for path in sorted((Path(__file__).parent / "schema").glob("*.sql"))
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
        _leave_a_core(connection)
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
        connection = duckdb.connect(str(path), read_only=read_only, config=config)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise StoreLocked(f"{path} is owned by another process: {str(error).splitlines()[0]}") from error
        raise StoreError(f"cannot open {path}: {str(error).splitlines()[0]}") from error
    except duckdb.Error as error:
        raise StoreError(f"cannot open {path}: {str(error).splitlines()[0]}") from error
    # DuckDB's allocator else gives freed pages back only when it is asked for memory again: up to 90 MB after a step.
    # A build with another allocator may refuse.
    with suppress(duckdb.Error):
        connection.execute("SET allocator_background_threads = true")
    return connection


def _leave_a_core(connection: Any) -> None:
    """Let DuckDB take one core fewer than it would: readers wait for the interpreter, which needs one as well."""
    (threads,) = connection.execute("SELECT current_setting('threads')").fetchone()
    connection.execute(f"SET threads = {max(1, int(threads) - 1)}")


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
