"""Small helpers around DuckDB: transactions, and numpy columns as the source of a statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError

__all__ = ["Columns", "dict_rows", "run", "texts", "transaction"]

Columns = Mapping[str, NDArray[Any]]


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    """Run the block in one transaction; any exception rolls it back.

    Raises:
        StoreError: DuckDB refused (disk full, conflict); nothing of the block remains.
    """
    try:
        connection.execute("BEGIN")
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
            connection.execute("ROLLBACK")
        if isinstance(error, duckdb.Error):
            raise StoreError(f"the store could not write: {str(error).splitlines()[0]}") from error
        raise


def run(connection: Any, statement: str, batch: Columns) -> None:
    """Execute a statement that reads the table ``batch``: equally long numpy columns by name.

    DuckDB finds the dict through the name of this function's argument (a replacement scan): the fastest way in.
    """
    assert batch is not None  # used by name, inside the statement
    connection.execute(statement)


def texts(values: Sequence[str]) -> NDArray[np.object_]:
    """Return a column of text."""
    column = np.empty(len(values), np.object_)
    column[:] = values
    return column


def dict_rows(cursor: Any) -> list[dict[str, Any]]:
    """Return the rows of an executed query as dicts."""
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
