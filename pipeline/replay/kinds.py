"""What the values of a series are (counts, a gauge, a counter, nothing but events), and what is odd about its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.replay.formats import SeriesKind
from pipeline.replay.table import Table, quoted

__all__ = ["dots_between_thousands", "guess_kind", "odd_rows", "own_step", "unnamed_values"]


#: Rows from the beginning of a file that a guess is made from.
_GUESS_ROWS = 200_000
#: A running total falls only when its process restarts, or at midnight: at most this share of its steps …
_MAX_RESET_SHARE = 0.05
#: … and then to less than this share of what it was.
_RESET_TO = 0.5
#: Fewer rises than this prove no running total.
_LEAST_RISES = 10
#: Rows are evenly spaced if this share of the distances is within 1 % of the commonest.
_EVEN_SHARE = 0.9
#: More instants than this share with several rows are a table of several series, whose rows are meant to add up.
_FEW_SHARE = 0.2

_COUNTER_NAME = re.compile(r"(_total|_count|_sum|counter|cumulative)$", re.IGNORECASE)
_GAUGE_NAME = re.compile(
    r"(?:^|[^a-z])(?:rps|qps|rpm|tps|reqps|rate|throughput|per[_ ]?sec\w*|per[_ ]?min\w*|pro[_ ](?:sekunde|minute)|"
    r"par[_ ](?:seconde|minute)|por[_ ](?:segundo|minuto)|al[_ ](?:secondo|minuto)|mean|avg|average|p50|p9\d|latency|"
    r"running|waiting|in[_ ]?flight|active|concurrent|concurrency|queue\w*|usage|util|utili[sz]ation|cpu|pct|percent|"
    r"gauge)(?:$|[^a-z])"
    r"|/ ?(?:s|sec|secs|second|m|min|minute|h|hr|hour)(?:$|[^a-z])|[/每毎]\s?[秒分]|в (?:секунду|минуту)",
    re.IGNORECASE,
)


def own_step(table: Table, seconds: str, group: str, known: str = "true") -> float | None:
    """The commonest distance between neighbouring instants of one group; None for a single instant.

    ``known`` is SQL for the rows that count: those with a value.
    """
    found = table.one(
        f"""SELECT median(d) FROM (
              SELECT t - lag(t) OVER (PARTITION BY g ORDER BY t) AS d
              FROM (SELECT DISTINCT {group} AS g, {seconds} AS t FROM source WHERE {known})) WHERE d > 0"""
    )
    return None if found is None or found[0] is None else float(found[0])


def guess_kind(table: Table, seconds: str, column: str, identity: str) -> tuple[SeriesKind, str]:
    """Return the kind of a value column and why, from its name and its first rows.

    ``seconds`` and ``identity`` are SQL for a row's time and for the series that it belongs to.
    """
    value = table.number(column)
    found = table.one(
        f"""WITH head AS (SELECT g, t, max(v) AS v  -- one row for each instant: an hour that comes twice is no reset
                          FROM (SELECT {identity} AS g, {seconds} AS t, {value} AS v FROM source
                                WHERE {value} IS NOT NULL LIMIT {_GUESS_ROWS}) GROUP BY g, t),
                 steps AS (SELECT v - lag(v) OVER w AS d, lag(v) OVER w AS p, v, t - lag(t) OVER w AS s
                           FROM head WINDOW w AS (PARTITION BY g ORDER BY t))
            SELECT count(d), count(*) FILTER (d < 0), count(*) FILTER (d < 0 AND v > {_RESET_TO} * p),
                   count(*) FILTER (d > 0), count(*) FILTER (v != floor(v)), count(*),
                   (SELECT median(s) FROM steps WHERE s > 0), count(*) FILTER (s > 0)
            FROM steps"""
    )
    steps, falls, partial, rises, fractions, rows, spacing, distances = (float(x or 0.0) for x in found or (0,) * 8)
    named_counter = bool(_COUNTER_NAME.search(column)) or bool(table.series_column and _all_counters(table))
    few_falls = falls <= max(_MAX_RESET_SHARE * steps, 1.0)
    named_gauge = bool(_GAUGE_NAME.search(column))
    if rises >= _LEAST_RISES and few_falls and (named_counter or (partial == 0 and not named_gauge)):
        resets = f" (resets: {falls:.0f})" if falls else ""
        return SeriesKind.COUNTER, f"its values only rise{resets}"
    if named_gauge:
        return SeriesKind.GAUGE, "its name says so"
    if table.series_column is not None:
        return SeriesKind.GAUGE, "samples of a Prometheus expression"
    if fractions > 0.5 * rows and distances and not _even(table, seconds, identity, spacing):
        return SeriesKind.GAUGE, "its values are fractions at uneven times"
    if fractions > 0.5 * rows:
        return SeriesKind.COUNTS, "one row for each span of time, though fractions; if they are rates, --kind gauge"
    return SeriesKind.COUNTS, "one row for each span of time"


def _all_counters(table: Table) -> bool:
    """Whether every series of a Prometheus answer has the name of a counter."""
    name = quoted(table.series_column or "")
    found = table.one(f"SELECT bool_and(regexp_matches({name}, '^[^{{]*(_total|_count|_sum)([{{]|$)')) FROM source")
    return bool(found and found[0])


def _even(table: Table, seconds: str, identity: str, spacing: float) -> bool:
    """Whether rows are evenly spaced (in the first rows of the file)."""
    found = table.one(
        f"""SELECT avg((abs(d - {spacing!r}) <= 0.01 * {spacing!r})::INT) FROM (
              SELECT t - lag(t) OVER (PARTITION BY g ORDER BY t) AS d
              FROM (SELECT DISTINCT {identity} AS g, {seconds} AS t FROM source LIMIT {_GUESS_ROWS})) WHERE d > 0"""
    )
    return bool(found and float(found[0] or 0.0) >= _EVEN_SHARE)


def dots_between_thousands(table: Table, column: str) -> str | None:
    """Return a warning where dots look like those between thousands ("1.026" beside "973"); None where they do not.

    Then what has a fraction is small, has three decimals, and is a tenth of what has none at most.
    """
    value = table.number(column)
    found = table.one(
        f"""WITH numbers AS (SELECT {value} AS v FROM source WHERE isfinite({value}) AND {value} != 0
                             LIMIT {_GUESS_ROWS}),
                 parts AS (SELECT v, v != floor(v) AS fraction FROM numbers)
            SELECT avg(fraction::INT), max(v), 10 * median(v) FILTER (fraction) < median(v) FILTER (NOT fraction),
                   bool_and(abs(v * 1000 - round(v * 1000)) < 1e-6) FILTER (fraction),
                   avg((abs(v * 100 - round(v * 100)) > 1e-6)::INT) FILTER (fraction)
            FROM parts"""
    )
    share, largest, apart, short, three = found or (None,) * 5
    if not apart or not short or not 0.05 < float(share or 0.0) < 0.95:
        return None
    if float(largest or 0.0) >= 1000.0 or float(three or 0.0) < 0.5:
        return None
    return (
        f"the values of {column} look as if dots stood between thousands (1.026 for 1026) and are read as fractions; "
        "--decimal comma reads such dots"
    )


def unnamed_values(table: Table, seconds: str, group: str, used: set[str]) -> str | None:
    """Return a warning where rows taken for single requests look like a table of counts; None where they do not."""
    step = own_step(table, seconds, group)
    numeric = [name for name in table.types if name not in used and table.is_number(name)]
    rows = table.one("SELECT count(*) FROM source")
    if step is None or not numeric or rows is None or int(rows[0] or 0) < 2 * _LEAST_RISES:
        return None
    if not _even(table, seconds, group, step):
        return None
    columns = ", ".join(numeric[:5])
    return (
        f"rows are {step:g} s apart and hold numbers ({columns}): they look like counts per {step:g} s, not like "
        "single requests; --value-column names the column to read, --kind events keeps this reading"
    )


def odd_rows(table: Table, time_column: str, seconds: str, group: str, *, adds_up: bool = True) -> Iterator[str]:
    """Yield a warning for rows that are there twice, and for instants that have several rows of one series.

    ``adds_up``: rows of one instant add up, else each counts by itself.
    """
    found = table.one(
        """SELECT (SELECT count(*) FROM source), (SELECT count(*) FROM (SELECT DISTINCT * FROM source))"""
    )
    rows, distinct = (int(x or 0) for x in found or (0, 0))
    twice = rows - distinct
    if twice:
        remedy = "; --drop-duplicates leaves them out" if adds_up else ""
        yield f"{twice} of {rows} rows are exact duplicates of others and count again{remedy}"
    found = table.one(
        f"""WITH instants AS (SELECT t, count(*) AS n FROM (SELECT DISTINCT {group} AS g, {seconds} AS t, * FROM source)
                              GROUP BY g, t)
            SELECT count(*), count(*) FILTER (n > 1), min(t) FILTER (n > 1), max(t) FILTER (n > 1) FROM instants"""
    )
    instants, several, first, last = found if found is not None else (0, 0, None, None)
    if not several or int(several) > _FEW_SHARE * int(instants or 0):
        return
    shown = table.one(f"SELECT any_value({quoted(time_column)}::VARCHAR) FROM source WHERE {seconds} = {first!r}")
    example = str(shown[0])[:40] if shown is not None else ""
    naive = not table.is_epoch(time_column) and "WITH TIME ZONE" not in table.types[time_column]
    change = naive and float(last or 0.0) - float(first or 0.0) <= 3 * 3600
    why = (
        ": the hour that is repeated when daylight saving time ends? Times without a zone are read as UTC; write them "
        "with their offset"
        if change
        else ""
    )
    instants_have = "1 instant has" if several == 1 else f"{several} instants have"
    sums = ", and these add up" if adds_up else ""
    yield f"{instants_have} more than one row of one series, such as {example}{sums}{why}"
