"""Store files as older versions of Tokentide would have written them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from pipeline.store.migrations import MIGRATIONS, connect

__all__ = ["NOT_COPIED", "columns", "make_old_store"]

#: Of no use to another version, or not to be had from what older versions kept.
NOT_COPIED = {"schema_migrations", "snapshots", "pool_snapshots", "latency_statuses"}


def columns(connection: Any, database: str) -> list[tuple[str, str, str, bool]]:
    """Return (table, column, type, nullable) of everything in an attached database, sorted."""
    rows = connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE database_name = ?",
        [database],
    ).fetchall()
    return sorted(rows)


def make_old_store(new: Path, old: Path, version: int) -> set[str]:
    """Write the rows of the store ``new`` into a new file ``old`` with the tables and columns of ``version``.

    Returns the tables that only later versions have.
    """
    connect(old, "1GB", MIGRATIONS[:version]).close()
    with duckdb.connect(str(old)) as connection:
        connection.execute(f"ATTACH '{new}' AS new (READ_ONLY)")
        there = columns(connection, "new")
        here = columns(connection, old.stem)
        for table in {name for name, *_ in here} - NOT_COPIED:
            names = ", ".join(name for owner, name, *_ in here if owner == table)
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM new.{table}")
        return {name for name, *_ in there} - {name for name, *_ in here}
