"""Keeps the file bounded: deletes what is older than its retention, compacts histograms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.config.settings import StoreSettings
from pipeline.store.rollups import delete_rollups
from pipeline.store.sql import run, texts

__all__ = ["delete_expired"]

#: Rows of ``dead_letters`` that outlive ``retain``: a flood of bad records must not fill the disk.
KEPT_DEAD_LETTERS = 100_000

#: How far back histograms are compacted; retention runs more often than this.
COMPACTED_SECONDS = 2 * 3_600

#: Keys that nothing tells of any more make room for new ones; of every pool that is not ``gone`` one stays.
_DELETE_KEYS = """
DELETE FROM keys WHERE key_id NOT IN (SELECT key_id FROM windows) AND key_id NOT IN (SELECT key_id FROM late_windows)
    AND (dims <> '' AND key_id NOT IN (SELECT min(key_id) FROM keys GROUP BY model, pool)
        OR EXISTS (FROM batch AS gone WHERE gone.model = keys.model AND gone.pool = keys.pool))
"""


def delete_expired(
    connection: Any, now: float, settings: StoreSettings, gone: Collection[tuple[str, str]] = ()
) -> None:
    """Delete by age against ``now`` (event time, epoch seconds); call inside a transaction.

    The newest step is always kept: it says how far windows have closed. ``gone`` are (model, pool) that need not be
    known any longer than something tells of them.
    """
    base = [now - settings.retention_base_seconds]
    closed = [now - settings.retention_closed_seconds]
    forecasts = [now - settings.retention_forecasts_seconds]
    (expired,) = connection.execute("SELECT count(*) FROM windows WHERE window_start < ?", base).fetchone()
    if expired:
        connection.execute(
            "INSERT INTO retired_totals SELECT sum(requests), sum(input_tokens), sum(output_tokens) FROM windows "
            "WHERE window_start < ?",
            base,
        )
        _rewrite(
            connection,
            "retired_totals",
            "SELECT sum(requests), sum(input_tokens), sum(output_tokens) FROM retired_totals",
        )
        connection.execute("DELETE FROM windows WHERE window_start < ?", base)
        connection.execute("DELETE FROM histograms WHERE window_start < ?", base)
        run(connection, _DELETE_KEYS, {"model": texts([m for m, _ in gone]), "pool": texts([p for _, p in gone])})
    _compact_histograms(connection, now - COMPACTED_SECONDS)
    _thin_dead_letters(connection)
    connection.execute("DELETE FROM closed_windows WHERE as_of < ?", closed)
    connection.execute("DELETE FROM closed_parts WHERE as_of < ?", closed)
    delete_rollups(connection, *closed)
    connection.execute("DELETE FROM steps WHERE as_of < ? AND as_of < (SELECT max(as_of) FROM steps)", closed)
    # A revision goes with the step that it follows: the engine refuses one that follows another step.
    connection.execute(
        "DELETE FROM readings WHERE CASE WHEN after_step IS NULL THEN as_of < ? "
        "ELSE after_step NOT IN (SELECT as_of FROM steps) END",
        closed,
    )
    connection.execute("DELETE FROM alerts WHERE changed_at < ?", closed)
    # A change outlives its step until the event itself is old: the steps that are left must be able to hear of it.
    connection.execute("DELETE FROM calendar_changes WHERE as_of < $1 AND ends_at < $1", closed)
    connection.execute("DELETE FROM exogenous_rows WHERE as_of < $1 AND about < $1", closed)
    connection.execute("DELETE FROM forecasts WHERE issued_at < ?", forecasts)
    connection.execute("DELETE FROM recommendations WHERE issued_at < ?", forecasts)


def _thin_dead_letters(connection: Any) -> None:
    """Keep the newest dead letters (insertion order) and the count by reason of the others."""
    expired = f"rowid NOT IN (SELECT rowid FROM dead_letters ORDER BY rowid DESC LIMIT {KEPT_DEAD_LETTERS})"
    (n,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    if n > KEPT_DEAD_LETTERS:
        connection.execute(
            f"INSERT INTO retired_dead_letters SELECT reason, count(*) FROM dead_letters WHERE {expired} GROUP BY 1"
        )
        connection.execute(f"DELETE FROM dead_letters WHERE {expired}")
        _rewrite(
            connection,
            "retired_dead_letters",
            "SELECT reason, sum(n)::BIGINT FROM retired_dead_letters GROUP BY 1",
        )


def _compact_histograms(connection: Any, since: float) -> None:
    """Merge the appended counts of each cell from ``since`` on, once at least half of those rows would go.

    Older cells were merged before; what late events append to them since is little.
    """
    recent = f"window_start >= {int(since)}"
    rows, cells = connection.execute(
        f"SELECT coalesce(sum(n), 0), count(*) FROM (SELECT count(*) AS n FROM histograms WHERE {recent} "
        "GROUP BY window_start, key_id, metric, bucket)"
    ).fetchone()
    if rows > 2 * cells:
        _rewrite(
            connection,
            "histograms",
            "SELECT window_start, key_id, metric, bucket, sum(n)::BIGINT AS n "
            f"FROM histograms WHERE {recent} GROUP BY ALL ORDER BY window_start",
            recent,
        )


def _rewrite(connection: Any, table: str, query: str, where: str = "true") -> None:
    """Put what ``query`` says into a table, in place of the rows that ``where`` tells."""
    connection.execute(f"CREATE TEMP TABLE rewritten AS {query}")
    connection.execute(f"DELETE FROM {table} WHERE {where}")
    connection.execute(f"INSERT INTO {table} SELECT * FROM rewritten")
    connection.execute("DROP TABLE rewritten")
