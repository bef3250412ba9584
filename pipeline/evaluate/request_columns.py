"""A trace of requests with what else it tells of each: cached and reasoning tokens, and dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.trace import read_trace
from pipeline.replay.table import Table, quoted
from sizing.demand_shape import RequestColumns

__all__ = ["read_request_columns"]

_CACHED = ("cached_input_tokens", "cached_tokens")
_REASONING = ("reasoning_output_tokens", "reasoning_tokens")


def read_request_columns(path: Path, dimensions: Sequence[str] = (), limit: int | None = None) -> RequestColumns:
    """Read a trace of requests as ``read_trace`` does, and the columns ``cached_input_tokens``,
    ``reasoning_output_tokens`` and ``dimensions`` as far as it has them.

    A cell without a value, or with one that cannot be (negative, more than the tokens it is part of), tells nothing.

    Raises:
        InputError: as ``read_trace``; the trace holds counts and no requests; there is no such dimension.
    """
    with Table(path) as table:
        table.require(list(dimensions))
        cached = next((name for name in _CACHED if name in table.types), None)
        reasoning = next((name for name in _REASONING if name in table.types), None)
        trace = read_trace(path, limit=limit)
        requests = trace.requests
        if trace.drawn:
            raise InputError(f"{path} holds counts; the shape of requests needs a row for each")
        rows = len(requests)
        given, got = requests.input_tokens.astype(np.float64), requests.output_tokens.astype(np.float64)
        return RequestColumns(
            at_seconds=requests.arrival_seconds,
            input_tokens=given,
            output_tokens=got,
            cached_tokens=_part_of(table, cached, given),
            reasoning_tokens=_part_of(table, reasoning, got),
            dimensions={name: _names(table, name, rows) for name in dimensions},
        )


def _part_of(table: Table, column: str | None, whole: np.ndarray) -> np.ndarray | None:
    if column is None:
        return None
    found = table.numpy(f"SELECT try_cast({quoted(column)} AS DOUBLE) AS v FROM source LIMIT {len(whole)}")["v"]
    values = np.ma.filled(np.ma.asarray(found).astype(np.float64), np.nan)
    return np.where((values >= 0) & (values <= whole), values, np.nan)


def _names(table: Table, column: str, rows: int) -> np.ndarray:
    query = f"SELECT coalesce({quoted(column)}::VARCHAR, 'unknown')[:64] AS v FROM source LIMIT {rows}"
    return np.asarray(table.numpy(query)["v"], dtype=np.str_)
