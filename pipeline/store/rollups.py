"""Closed windows added up to coarser grains, and late events by closed window: a month's history, cheap to read.

A month of a hundred pools is millions of closed windows, in the order of time; reading one pool's means reading all. So
each step adds the buckets that it completes to a table per grain. Events that come after their window has closed are
noted apart: closed windows plus late events plus what is still open is everything, without a look at the base windows
of closed times.
"""

from __future__ import annotations

from typing import Any

from pipeline.windows.rollup import CLOSED_MEASURES

__all__ = ["GRAINS_SECONDS", "delete_rollups", "late_insert", "roll_up", "schema", "table"]

#: Coarsest first: a query takes the first that divides its grain.
GRAINS_SECONDS = (3_600, 300)

_SUMS = ", ".join(f"sum({name}) AS {name}" for name in CLOSED_MEASURES)


def table(grain_seconds: int) -> str:
    """Return the name of the table of a grain."""
    return f"closed_windows_{grain_seconds}"


def schema() -> tuple[str, ...]:
    """Return the statements that make the tables and fill them from what is stored."""
    measures = ", ".join(f"{name} HUGEINT NOT NULL" for name in CLOSED_MEASURES)
    late = ", ".join(f"b.{name} - coalesce(c.{name}, 0)" for name in CLOSED_MEASURES)
    return (
        *(
            f"CREATE TABLE {table(grain)} (window_start BIGINT NOT NULL, model VARCHAR NOT NULL, "
            f"pool VARCHAR NOT NULL, {measures}, closed BIGINT NOT NULL, completeness DOUBLE NOT NULL, "
            "gap BOOLEAN NOT NULL, current_replicas BIGINT, ready_replicas BIGINT)"
            for grain in GRAINS_SECONDS
        ),
        f"CREATE TABLE late_windows (window_start BIGINT NOT NULL, key_id INTEGER NOT NULL, {measures})",
        *(
            _insert(grain, f"window_start < (SELECT max(as_of) FROM steps) // {grain} * {grain}")
            for grain in GRAINS_SECONDS
        ),
        f"""
        INSERT INTO late_windows
        WITH g AS (SELECT max(grain_seconds) AS grain FROM closed_windows), b AS (
            SELECT window_start // grain * grain AS start, model, pool, min(key_id) AS key_id, {_SUMS}
            FROM windows JOIN keys USING (key_id), g WHERE window_start < (SELECT max(as_of) FROM steps)
            GROUP BY 1, 2, 3
        )
        SELECT b.start, b.key_id, {late}
        FROM b LEFT JOIN closed_windows c ON c.window_start = b.start AND c.model = b.model AND c.pool = b.pool
        WHERE b.requests > coalesce(c.requests, 0)
        """,
    )


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


def late_insert(last_closed: int) -> str:
    """Return the statement that notes the rows of ``batch`` whose windows end at or before ``last_closed``."""
    names = ", ".join(CLOSED_MEASURES)
    return (
        f"INSERT INTO late_windows SELECT window_start, key_id, {names} FROM batch WHERE window_start < {last_closed}"
    )


def delete_rollups(connection: Any, before: float) -> None:
    """Delete buckets that end before ``before`` (epoch seconds); call inside a transaction."""
    for grain in GRAINS_SECONDS:
        connection.execute(f"DELETE FROM {table(grain)} WHERE window_start + {grain} < ?", [before])
    connection.execute("DELETE FROM late_windows WHERE window_start < ?", [before])


def _insert(grain: int, where: str) -> str:
    return (
        f"INSERT INTO {table(grain)} "
        f"SELECT window_start // {grain} * {grain} AS start, model, pool, {_SUMS}, count(*), "
        "min(completeness), bool_or(gap), arg_max(current_replicas, window_start), "
        f"arg_max(ready_replicas, window_start) FROM closed_windows WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
