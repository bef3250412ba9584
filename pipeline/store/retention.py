"""Keeps the file bounded: deletes what is older than its retention, compacts histograms, exports to Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.settings import StoreSettings

__all__ = ["delete_expired", "export_parquet"]

#: Rows of ``dead_letters`` that outlive ``retain``: a flood of bad records must not fill the disk.
KEPT_DEAD_LETTERS = 100_000

_EXPORTS = {
    "windows": "SELECT * EXCLUDE (key_id) FROM keys JOIN windows USING (key_id) "
    "ORDER BY window_start, model, pool, dims",
    "histograms": "SELECT window_start, model, pool, dims, metric, bucket, sum(n)::BIGINT AS n "
    "FROM histograms JOIN keys USING (key_id) GROUP BY ALL ORDER BY ALL",
    "closed_windows": "SELECT * EXCLUDE (seq) FROM closed_windows ORDER BY as_of, seq",
    "forecasts": "SELECT * FROM forecasts ORDER BY issued_at, model, pool, signal, horizon_seconds",
    "recommendations": "SELECT * FROM recommendations ORDER BY issued_at, model, pool",
    "alerts": "SELECT * FROM alerts ORDER BY raised_at, alert_id",
    "dead_letters": "SELECT * FROM dead_letters ORDER BY topic, source_partition, source_offset",
    "ledger": "SELECT * FROM ledger ORDER BY topic, source_partition",
}


def delete_expired(connection: Any, now: float, settings: StoreSettings) -> None:
    """Delete by age against ``now`` (event time, epoch seconds); call inside a transaction.

    The newest step is always kept: it says how far windows have closed.
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
        connection.execute("DELETE FROM windows WHERE window_start < ?", base)
        connection.execute("DELETE FROM histograms WHERE window_start < ?", base)
    _compact_histograms(connection)
    _thin_dead_letters(connection)
    connection.execute("DELETE FROM closed_windows WHERE as_of < ?", closed)
    connection.execute("DELETE FROM steps WHERE as_of < ? AND as_of < (SELECT max(as_of) FROM steps)", closed)
    connection.execute("DELETE FROM alerts WHERE changed_at < ?", closed)
    connection.execute("DELETE FROM forecasts WHERE issued_at < ?", forecasts)
    connection.execute("DELETE FROM recommendations WHERE issued_at < ?", forecasts)


def export_parquet(cursor: Any, folder: Path) -> list[Path]:
    """Write one Parquet file per table into ``folder``, each renamed into place when whole; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, query in _EXPORTS.items():
        path = folder / f"{name}.parquet"
        partial = folder / f".{name}.parquet.partial"
        quoted = str(partial).replace("'", "''")
        cursor.execute(f"COPY ({query}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
        partial.replace(path)
        paths.append(path)
    return paths


def _thin_dead_letters(connection: Any) -> None:
    """Keep the newest dead letters (insertion order) and the count by reason of the others."""
    expired = f"rowid NOT IN (SELECT rowid FROM dead_letters ORDER BY rowid DESC LIMIT {KEPT_DEAD_LETTERS})"
    (n,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    if n > KEPT_DEAD_LETTERS:
        connection.execute(
            f"INSERT INTO retired_dead_letters SELECT reason, count(*) FROM dead_letters WHERE {expired} GROUP BY 1"
        )
        connection.execute(f"DELETE FROM dead_letters WHERE {expired}")


def _compact_histograms(connection: Any) -> None:
    """Merge the appended counts of each cell once at least half of the rows would go."""
    (rows,) = connection.execute("SELECT count(*) FROM histograms").fetchone()
    (cells,) = connection.execute(
        "SELECT count(*) FROM (SELECT DISTINCT window_start, key_id, metric, bucket FROM histograms)"
    ).fetchone()
    if rows > 2 * cells:
        connection.execute(
            "CREATE TEMP TABLE compacted AS SELECT window_start, key_id, metric, bucket, sum(n)::BIGINT AS n "
            "FROM histograms GROUP BY ALL ORDER BY window_start"
        )
        connection.execute("DELETE FROM histograms")
        connection.execute("INSERT INTO histograms SELECT * FROM compacted")
        connection.execute("DROP TABLE compacted")
