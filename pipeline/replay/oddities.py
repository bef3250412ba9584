"""What makes a table of values unreadable as demand: counters that are mixed, times far off, steps that change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipeline.errors import InputError
from pipeline.replay.formats import SeriesKind
from pipeline.replay.kinds import guess_kind, own_step
from pipeline.replay.table import Table, quoted

__all__ = ["mixed_gauges", "refuse_changed_step", "refuse_far_times", "refuse_mixed_counters", "told_apart"]

#: Rows that are looked at.
_ROWS = 200_000
#: One counter has one value at an instant; more instants than this share with several are several counters.
_FEW_SHARE = 0.2
#: Wrong times lie further from all others than so many of their spans, and are few.
_FAR_SPANS = 10.0
_FAR_ROWS = 3
_FAR_SHARE = 1e-4
#: So many rows in a row that lie equally far apart are a step of their own, not missing rows.
_RUN = 5
_LEAST_RUNS = 10


def refuse_far_times(table: Table, seconds: str, column: str) -> None:
    """Raise where a few times lie so far from all others that they can only be wrong (1970, a year mistyped)."""
    quantiles = f"approx_quantile({seconds}, 0.01), approx_quantile({seconds}, 0.99)"
    found = table.one(f"SELECT {quantiles}, count(*) FROM source")
    if found is None or found[0] is None:
        return
    low, high, rows = (float(value or 0.0) for value in found)
    reach = _FAR_SPANS * (high - low)
    if rows < 100 or reach <= 0:
        return
    far = f"({seconds} < {low - reach!r} OR {seconds} > {high + reach!r})"
    found = table.one(
        f"SELECT count(*) FILTER ({far}), any_value({quoted(column)}::VARCHAR) FILTER ({far}), "
        f"min({seconds}) FILTER (NOT {far}), max({seconds}) FILTER (NOT {far}) FROM source"
    )
    count, example, first, last = found if found is not None else (0, None, 0.0, 0.0)
    if not count or int(count) > max(_FAR_ROWS, _FAR_SHARE * rows):
        return
    have = "1 row has a time" if count == 1 else f"{count} rows have a time"
    raise InputError(
        f"{table.name}: {have} far from all others in column {column!r}, such as {str(example)[:40]!r}, while the "
        f"others lie between {_shown(float(first or 0.0))} and {_shown(float(last or 0.0))}; correct or remove it"
    )


def _shown(seconds: float) -> str:
    if abs(seconds) < 1e8 or abs(seconds) > 2e11:
        return f"{seconds:.15g}"
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def told_apart(
    table: Table, seconds: str, column: str, group: str, labels: Sequence[str], kind: SeriesKind
) -> tuple[str, str] | None:
    """Return SQL for the single counters of a group, and the names of the columns that tell them apart.

    Rows of several counters in one column go up and down, or share their instants; within each value of the text
    columns ``labels`` they only rise. None where that is not so.
    """
    if not labels or kind not in (SeriesKind.COUNTS, SeriesKind.COUNTER):
        return None
    if kind is SeriesKind.COUNTER and not _several_values(table, seconds, column, group):
        return None
    identity = " || '|' || ".join([group, *(f"coalesce({quoted(name)}::VARCHAR, '')" for name in labels)])
    if guess_kind(table, seconds, column, f"({identity})")[0] is not SeriesKind.COUNTER:
        return None
    return f"({identity})", ", ".join(labels)


def refuse_mixed_counters(table: Table, seconds: str, column: str, identity: str, option: str) -> None:
    """Raise where a counter has several values at many instants; ``option`` names the column that tells them apart."""
    if _several_values(table, seconds, column, identity):
        raise InputError(
            f"{table.name}: {column} is a running total with several values at the same instants, so of several "
            f"counters; {option} names the column that tells them apart"
        )


def _several_values(table: Table, seconds: str, column: str, identity: str) -> bool:
    value = table.number(column)
    found = table.one(
        f"""SELECT avg((n > 1)::INT) FROM (
              SELECT count(DISTINCT v) AS n
              FROM (SELECT {identity} AS i, {seconds} AS t, {value} AS v FROM source
                    WHERE {value} IS NOT NULL LIMIT {_ROWS}) GROUP BY i, t)"""
    )
    return bool(found and float(found[0] or 0.0) > _FEW_SHARE)


def mixed_gauges(table: Table, seconds: str, group: str, labels: Sequence[str]) -> str | None:
    """Return a warning where samples of several things lie at different instants: their mean is of one, not of all."""
    for name in labels:
        identity = f"({group} || '|' || coalesce({quoted(name)}::VARCHAR, ''))"
        single, mixed = own_step(table, seconds, identity), own_step(table, seconds, group)
        if single is not None and mixed is not None and single >= 1.5 * mixed:
            return (
                f"samples of different {name} lie at different instants, so a window is their mean, not their sum; "
                f"--group-column {name} keeps them apart"
            )
    return None


def refuse_changed_step(table: Table, seconds: str, group: str, native: float, step: int, known: str) -> None:
    """Raise where a part of the counts is coarser than a window: each such row would be the demand of one window."""
    same = " AND ".join(f"d = lag(d, {i}) OVER w" for i in range(1, _RUN))
    found = table.one(
        f"""WITH instants AS (SELECT DISTINCT {group} AS g, {seconds} AS t FROM source WHERE {known}),
                 steps AS (SELECT g, t, t - lag(t) OVER (PARTITION BY g ORDER BY t) AS d FROM instants),
                 runs AS (SELECT t, d, {same} AS run FROM steps WINDOW w AS (PARTITION BY g ORDER BY t))
            SELECT d, min(t), count(*), (SELECT count(*) FROM instants) FROM runs
            WHERE run AND d > {max(1.5 * native, float(step))!r} GROUP BY d ORDER BY count(*) DESC, d LIMIT 1"""
    )
    if found is None or int(found[2] or 0) < max(_LEAST_RUNS, 0.01 * int(found[3] or 0)):
        return
    raise InputError(
        f"{table.name}: rows lie {native:.15g} s apart, but {float(found[0] or 0.0):.15g} s around "
        f"{_shown(float(found[1] or 0.0))}: a count of so long does not belong into one window of {step} s; read the "
        "parts by themselves"
    )
