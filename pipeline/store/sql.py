"""Small helpers around DuckDB: transactions, and numpy columns as the source of a statement."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError

__all__ = ["Columns", "dict_rows", "is_key_of", "keys_of", "parsed", "run", "texts", "transaction"]

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


def texts(values: Sequence[str] | Sequence[bytes]) -> NDArray[np.object_]:
    """Return a column of text, or of bytes."""
    column = np.empty(len(values), np.object_)
    column[:] = values
    return column


def keys_of(pools: Collection[tuple[str, str]] | None) -> tuple[str, dict[str, Any]]:
    """Return the window keys of some (model, pool) as a table expression and its parameters; None: all keys."""
    if pools is None:
        return "keys", {}
    wanted = "SELECT unnest($models) AS model, unnest($pools) AS pool"
    names = {"models": [model for model, _ in pools], "pools": [pool for _, pool in pools]}
    return f"(SELECT key_id, model, pool, dims FROM keys JOIN ({wanted}) USING (model, pool))", names


def is_key_of(key_ids: Collection[int]) -> tuple[str, dict[str, Any]]:
    """Return the condition that ``key_id`` is one of some (at least one), and its parameters.

    For a read of few rows a join with ``keys`` takes longer to plan than all the rest.
    """
    first, *others = key_ids
    if others:
        return "key_id IN (SELECT unnest($keys))", {"keys": [first, *others]}
    return "key_id = $key", {"key": first}


#: By text; what is asked often has few texts, since all that differs between two reads is in parameters.
_PARSED: dict[str, Any] = {}
_MOST_PARSED = 64


def parsed(cursor: Any, text: str) -> Any:
    """Return a statement ready to be executed, on any connection and in any thread, as often as one likes.

    Of a read of few rows parsing is up to a quarter; planning is done each time.
    """
    found = _PARSED.get(text)
    if found is None:
        (found,) = cursor.extract_statements(text)
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        _PARSED[text] = found
    return found


def dict_rows(cursor: Any) -> list[dict[str, Any]]:
    """Return the rows of an executed query as dicts."""
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
