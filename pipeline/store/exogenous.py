"""Rows from outside as the engine was given them: what makes a restart exact."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from pipeline.forecast.exogenous.rows import ExogenousRow, ExternalForecast, parse_row, to_fields
from pipeline.store.sql import run, texts

__all__ = ["exogenous_since", "write_exogenous"]


def exogenous_since(cursor: Any, as_of: int) -> deque[tuple[int, ExogenousRow]]:
    """Return (step, row) of all that was given after the step of ``as_of``, in order."""
    rows = cursor.execute("SELECT as_of, body FROM exogenous_rows WHERE as_of > ? ORDER BY as_of, seq", [as_of])
    return deque((int(at), parse_row(msgspec.json.decode(body))) for at, body in rows.fetchall())


def write_exogenous(connection: Any, numbered: Sequence[tuple[int, int, ExogenousRow]]) -> None:
    """Write rows, given as (as_of, seq, row); call inside a transaction."""
    if not numbered:
        return
    rows = [row for _, _, row in numbered]
    about = [row.target_at if isinstance(row, ExternalForecast) else row.at for row in rows]
    batch: dict[str, Any] = {
        "as_of": np.array([as_of for as_of, _, _ in numbered], np.int64),
        "seq": np.array([seq for _, seq, _ in numbered], np.int64),
        "about": np.array(about, np.float64),
        "body": texts([msgspec.json.encode(to_fields(row)).decode() for row in rows]),
    }
    run(connection, f"INSERT INTO exogenous_rows SELECT {', '.join(batch)} FROM batch", batch)
