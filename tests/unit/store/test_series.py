"""Values at one time and on a grid: how long a window stands for the present."""

from __future__ import annotations

import duckdb

from pipeline.store.series import Grid, samples

POOL = ("m", "chat")


def table(*gaps: bool) -> duckdb.DuckDBPyConnection:
    """Windows of 60 s from 0 on, with 60 requests each; those that are a gap have none."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE closed_windows (model VARCHAR, pool VARCHAR, window_start BIGINT, grain_seconds BIGINT, "
        "requests BIGINT, completeness DOUBLE, gap BOOLEAN)"
    )
    for i, gap in enumerate(gaps):
        row = [*POOL, 60 * i, 60, 0 if gap else 60, 1.0, gap]
        connection.execute("INSERT INTO closed_windows VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return connection


def at(connection: duckdb.DuckDBPyConnection, start: float, end: float) -> list[float | None]:
    grid = Grid(start, end, 30.0)
    found = samples(connection, "windows", "requests_per_second", [POOL], grid)
    values = found[*POOL, 0].on(grid).tolist() if found else [float("nan")] * len(grid.times)
    return [None if value != value else value for value in values]  # noqa: PLR0124 - what is no number equals nothing


def test_at_one_time_the_newest_window_stands_for_five_minutes() -> None:
    windows = table(False, False)
    assert at(windows, 119.0, 119.0) == at(windows, 120.0, 120.0) == at(windows, 419.0, 419.0) == [1.0]
    assert at(windows, 59.0, 59.0) == at(windows, 420.0, 420.0) == [None]


def test_on_a_grid_nothing_is_drawn_beyond_the_window() -> None:
    assert at(table(False, False), 60.0, 240.0) == [1.0, 1.0, 1.0, 1.0, None, None, None]


def test_a_gap_ends_the_window_before_it() -> None:
    windows = table(False, True)
    assert at(windows, 119.0, 119.0) == [1.0]
    assert at(windows, 120.0, 120.0) == at(windows, 150.0, 150.0) == [None], "known to be unknown"
    assert at(table(False, True, False), 185.0, 185.0) == [1.0]
