"""Windows of one pool at any grain that closed ones add up to: planned by DuckDB in little time, added up here.

DuckDB takes longer to plan sums of many columns over a union of tables than to read the rows of an hour. So rows that
are windows already are selected as they are, and what little several tables say of one window is added up in Python.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.store import rollups
from pipeline.store.sql import is_key_of, parsed
from pipeline.windows.rollup import CLOSED_MEASURES

__all__ = ["TOLD", "closed_of_pool", "closed_rows", "fine_history", "history", "open_rows", "summed_rows"]

_NAMES = ", ".join(CLOSED_MEASURES)
_SUMS = ", ".join(f"sum({name})" for name in CLOSED_MEASURES)
#: Keys of a pool (one for each combination of its dimensions) of which rows are added up here.
_FEW_KEYS = 4
_OF_POOL = "model = $model AND pool = $pool AND window_start"
TOLD = ("completeness", "gap", "current_replicas", "ready_replicas")
_WITHIN = (
    "window_start >= $first AND window_start < $last AND window_start // $grain * $grain IN (SELECT unnest($starts))"
)
_ALL_CLOSED = (
    f"SELECT model, pool, grain_seconds <> $grain, window_start, {_NAMES}, 1, {', '.join(TOLD)} FROM closed_windows "
    f"WHERE {_WITHIN} UNION ALL SELECT model, pool, true, max(window_start), {_SUMS}, 0, NULL, NULL, NULL, NULL "
    f"FROM late_windows JOIN keys USING (key_id) WHERE {_WITHIN} GROUP BY model, pool, window_start // $grain"
)


def history(cursor: Any, where: dict[str, Any], closed_grain_seconds: int, closed: int) -> list[dict[str, Any]]:
    """Return the windows that begin in [start, end) and hold anything, ascending; see ``StoreReaders.history``.

    ``where`` has ``model``, ``pool``, ``start``, ``end`` (epoch seconds, multiples of ``grain``) and ``grain``.
    ``closed`` is the end of a step that has been recorded (0: none): one that is older than what the query sees tells
    the same, only that the windows after it count as open.
    """
    grain = where["grain"]
    coarse = next((seconds for seconds in rollups.GRAINS_SECONDS if grain % seconds == 0), None)
    rolled = 0 if coarse is None else closed // coarse * coarse
    query = parsed(cursor, _query(grain, closed_grain_seconds, coarse))
    return _together(cursor.execute(query, where | {"rolled": rolled, "closed": closed}).fetchall(), grain)


def fine_history() -> str:
    """Return the query of windows that closed ones cannot be added up to: base windows, and closed ones beyond them."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in CLOSED_MEASURES)
    merged = ", ".join(f"coalesce(b.{name}, c.{name}) AS {name}" for name in CLOSED_MEASURES)
    return f"""
        WITH b AS (
            SELECT window_start // $grain * $grain AS start, {sums} FROM windows JOIN keys USING (key_id)
            WHERE {_OF_POOL} >= $start AND window_start < $end GROUP BY 1
        ), c AS (
            SELECT window_start // $grain * $grain AS start, {sums}, count(*) AS closed,
                min(completeness) AS completeness, bool_or(gap) AS gap,
                arg_max(current_replicas, window_start) AS current_replicas,
                arg_max(ready_replicas, window_start) AS ready_replicas
            FROM closed_windows WHERE {_OF_POOL} >= $start AND window_start < $end GROUP BY 1
        )
        SELECT start, start + $grain AS "end", {merged}, coalesce(closed, 0) AS closed, completeness, gap,
            current_replicas, ready_replicas
        FROM b FULL JOIN c USING (start) ORDER BY start
    """


def open_rows(cursor: Any, where: dict[str, Any], key_ids: Collection[int]) -> list[dict[str, Any]]:
    """Return what ``history`` does of windows that are all open: one table in place of four to plan for.

    ``key_ids`` are those of the pool.
    """
    if not key_ids:
        return []
    told, keys = is_key_of(key_ids)
    within = f"FROM windows WHERE {told} AND window_start >= $start AND window_start < $end"
    if len(key_ids) > _FEW_KEYS:
        named = {name: where[name] for name in ("start", "end", "grain")}
        query = f"SELECT max(window_start), {_SUMS} {within} GROUP BY window_start // $grain"
    else:  # sums take longer to plan than a few rows to add up
        named = {name: where[name] for name in ("start", "end")}
        query = f"SELECT window_start, {_NAMES} {within}"
    rows = cursor.execute(parsed(cursor, query), named | keys).fetchall()
    return summed_rows(rows, where)


def summed_rows(sums: Collection[tuple[int, ...]], where: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what ``open_rows`` does of rows of (a start in the window, sums of ``CLOSED_MEASURES``)."""
    return _together([(*row, 0, None, None, None, None) for row in sums], where["grain"])


def closed_of_pool(cursor: Any, where: dict[str, Any], key_ids: Collection[int]) -> list[dict[str, Any]]:
    """Return what ``history`` does of windows that have all closed, where ``grain`` is that of closed windows.

    Two tables, one after the other and without a join: a third of the planning. ``key_ids`` are those of the pool.
    """
    named = {name: where[name] for name in ("model", "pool", "start", "end")}
    within = "window_start >= $start AND window_start < $end"
    query = f"SELECT window_start, {_NAMES}, 1, {', '.join(TOLD)} FROM closed_windows "
    query += f"WHERE model = $model AND pool = $pool AND {within}"
    rows = cursor.execute(parsed(cursor, query), named).fetchall()
    if key_ids:
        told, keys = is_key_of(key_ids)
        named = {name: where[name] for name in ("start", "end")}
        query = f"SELECT window_start, {_NAMES} FROM late_windows WHERE {told} AND {within}"
        late = cursor.execute(parsed(cursor, query), named | keys).fetchall()
        rows += [(*row, 0, None, None, None, None) for row in late]
    return _together(rows, where["grain"])


def closed_rows(
    cursor: Any, starts: Collection[int], grain_seconds: int
) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], set[tuple[str, str, int]]]:
    """Return what ``history`` does of closed windows of all pools, by (model, pool): those that begin at ``starts``.

    ``grain_seconds`` is that of closed windows. Also returned are the (model, pool, start) of those that are more than
    one closed window of that grain: they hold late events, or closed when windows were shorter.
    """
    where = {"starts": sorted(starts), "grain": grain_seconds}
    where |= {"first": min(starts), "last": max(starts) + grain_seconds}
    rows: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    more = set()
    for model, pool, is_more, newest, *told in cursor.execute(parsed(cursor, _ALL_CLOSED), where).fetchall():
        rows.setdefault((model, pool), []).append((newest, *told))
        if is_more:
            more.add((model, pool, newest // grain_seconds * grain_seconds))
    return {key: _together(of_pool, grain_seconds) for key, of_pool in rows.items()}, more


def _together(rows: list[tuple[Any, ...]], grain: int) -> list[dict[str, Any]]:
    """Add up what several rows say of one window. Each has the newest start in it: replicas are those told last."""
    found: dict[int, dict[str, Any]] = {}
    for newest, *sums_and_told in sorted(rows, key=_newest):
        row = dict(zip((*CLOSED_MEASURES, "closed", *TOLD), sums_and_told, strict=True))
        start = newest // grain * grain
        window = found.get(start)
        if window is None:
            found[start] = {"start": start, "end": start + grain, **row}
        else:
            _add(window, row)
    return list(found.values())


def _newest(row: tuple[int, ...]) -> int:
    return row[0]


def _add(window: dict[str, Any], row: dict[str, Any]) -> None:
    """Add a row to a window that holds older ones or others of its time."""
    for name in (*CLOSED_MEASURES, "closed"):
        window[name] += row[name]
    for name, both in (("completeness", min), ("gap", max), ("current_replicas", _second), ("ready_replicas", _second)):
        if row[name] is not None:
            window[name] = row[name] if window[name] is None else both(window[name], row[name])


def _second(_: int, newer: int) -> int:
    return newer


def _query(grain: int, closed_grain: int, coarse: int | None) -> str:
    """Rolled up as far as a grain allows, then as closed, late, and still open: each thing once.

    A column per ``CLOSED_MEASURES``, then how many closed windows, and what is told of those only.
    """
    parts = []
    if coarse is not None:
        within = f"{_OF_POOL} >= $start AND window_start < least($rolled, $end)"
        parts.append(_windows(rollups.table(coarse), "closed", within, grouped=coarse != grain))
    within = f"{_OF_POOL} >= greatest($rolled, $start) AND window_start < least($closed, $end)"
    parts.append(_windows("closed_windows", "1", within, grouped=closed_grain != grain))
    counted = (
        f"SELECT window_start, {_NAMES} FROM late_windows JOIN keys USING (key_id) "
        f"WHERE {_OF_POOL} >= $start AND window_start < least($closed, $end) UNION ALL "
        f"SELECT window_start, {_NAMES} FROM windows JOIN keys USING (key_id) "
        f"WHERE {_OF_POOL} >= greatest($closed, $start) AND window_start < $end"
    )
    parts.append(
        f"SELECT max(window_start), {_SUMS}, 0, NULL, NULL, NULL, NULL FROM ({counted}) GROUP BY window_start // $grain"
    )
    return " UNION ALL ".join(parts)


def _windows(table: str, closed: str, within: str, *, grouped: bool) -> str:
    """Closed windows of a table; ``grouped``: added up to the grain, as several of them are in one of its windows."""
    if not grouped:
        return f"SELECT window_start, {_NAMES}, {closed}, {', '.join(TOLD)} FROM {table} WHERE {within}"
    return (
        f"SELECT max(window_start), {_SUMS}, sum({closed})::BIGINT, min(completeness), bool_or(gap), "
        "arg_max(current_replicas, window_start), arg_max(ready_replicas, window_start) "
        f"FROM {table} WHERE {within} GROUP BY window_start // $grain"
    )
