"""Closed windows added up to coarser grains, and late events by closed window: a month's history, cheap to read.

A month of a hundred pools is millions of closed windows, in the order of time; reading one pool's means reading all. So
each step adds the buckets that it completes to a table per grain. Events that come after their window has closed are
noted apart: closed windows plus late events plus what is still open is everything, without a look at the base windows
of closed times.
"""

from __future__ import annotations

from typing import Any

from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import BASE_SECONDS

__all__ = ["GRAINS_SECONDS", "LATE_INSERT", "delete_rollups", "roll_up", "span", "table"]

#: Coarsest first: a query takes the first that divides its grain.
GRAINS_SECONDS = (3_600, 300)

_SUMS = ", ".join(f"sum({name}) AS {name}" for name in CLOSED_MEASURES)

#: Notes the rows of ``batch``, all of windows that have closed.
LATE_INSERT = f"INSERT INTO late_windows BY NAME SELECT window_start, key_id, {', '.join(CLOSED_MEASURES)} FROM batch"


def table(grain_seconds: int) -> str:
    """Return the name of the table of a grain."""
    return f"closed_windows_{grain_seconds}"


def span(cursor: Any, closed_grain_seconds: int) -> tuple[int, int] | None:
    """Return the start of the oldest window that is kept, of any pool and grain, and the end of the newest one.

    Epoch seconds; None where nothing is kept.
    """
    tables = {table(grain): grain for grain in GRAINS_SECONDS}
    tables |= {"closed_windows": closed_grain_seconds, "windows": BASE_SECONDS}
    spans = " UNION ALL ".join(
        f"SELECT min(window_start) AS first, max(window_start) + {grain} AS last FROM {name}"
        for name, grain in tables.items()
    )
    first, last = cursor.execute(f"SELECT min(first), max(last) FROM ({spans})").fetchone()
    return None if first is None else (int(first), int(last))


def roll_up(connection: Any, since: int | None, until: int) -> None:
    """Add the buckets that the steps after ``since`` (None: the first ones) up to ``until`` have completed.

    Call inside the transaction that writes those steps.
    """
    for grain in GRAINS_SECONDS:
        end = until // grain * grain
        start = None if since is None else since // grain * grain
        if start != end:
            after = "" if start is None else f"window_start >= {start} AND "
            connection.execute(_insert(grain, f"{after}window_start < {end}"))


def delete_rollups(connection: Any, before: float) -> None:
    """Delete buckets that end before ``before`` (epoch seconds); call inside a transaction."""
    for grain in GRAINS_SECONDS:
        connection.execute(f"DELETE FROM {table(grain)} WHERE window_start + {grain} < ?", [before])
    connection.execute("DELETE FROM late_windows WHERE window_start < ?", [before])


def _insert(grain: int, where: str) -> str:
    return (
        f"INSERT INTO {table(grain)} (window_start, model, pool, {', '.join(CLOSED_MEASURES)}, closed, completeness, "
        "gap, current_replicas, ready_replicas) "
        f"SELECT window_start // {grain} * {grain} AS start, model, pool, {_SUMS}, count(*), "
        "min(completeness), bool_or(gap), arg_max(current_replicas, window_start), "
        f"arg_max(ready_replicas, window_start) FROM closed_windows WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
