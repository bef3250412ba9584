"""Read-only queries for the API and the command line: plain dicts and lists, safe from any thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.store import rollups, series
from pipeline.store.one_state import OneState
from pipeline.store.open_windows import OpenWindows
from pipeline.store.recent_samples import recent_samples
from pipeline.store.recent_windows import Found, RecentWindows
from pipeline.store.sql import dict_rows
from pipeline.store.steps import QUANTILE_COLUMNS
from pipeline.store.window_history import closed_of_pool, fine_history, history, open_rows, summed_rows
from pipeline.store.window_latencies import PERCENTILES, counted_latencies, window_latencies
from pipeline.windows import histogram
from pipeline.windows.servers import SERVERS
from pipeline.windows.service import SERVICE
from pipeline.windows.types import HISTOGRAMS

__all__ = ["StoreReaders"]

T = TypeVar("T")

#: Pools whose samples are looked for in memory: of more DuckDB reads them sooner.
_FEW_POOLS = 8


def _whole_windows(model: str, pool: str, start: float, end: float, grain_seconds: int) -> dict[str, Any]:
    """Parameters for the windows of a pool that begin in [start, end)."""
    return {
        "model": model,
        "pool": pool,
        "start": int(-(-start // grain_seconds) * grain_seconds),
        "end": int(-(-end // grain_seconds) * grain_seconds),
        "grain": int(grain_seconds),
    }


class StoreReaders:
    """Queries over one store. Every thread reads through a cursor of its own and sees committed data only."""

    def __init__(
        self, connection: Any, closed_grain_seconds: int, key_ids: Callable[[str, str], Collection[int]]
    ) -> None:
        self._connection = connection
        self._closed_grain = closed_grain_seconds
        self._local = threading.local()
        self._last_closed: int | None = None  # set by the writer once the step is committed
        self._key_ids = key_ids  # of a pool
        self._recent = RecentWindows(closed_grain_seconds)
        self._opened = OpenWindows()
        self._states = OneState()

    def cursor(self) -> Any:
        """Return this thread's cursor."""
        cursor = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._connection.cursor()
        return cursor

    def one_state(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, all of whose reads of this store are of one state; it may be called again."""
        return self._states.read(self.cursor(), self._closed(), read)

    def _closed(self) -> int:
        """The end of the last step that this thread may know of; 0: there was none."""
        pinned = self._states.pinned()
        return (self._last_closed or 0) if pinned is None else pinned

    def history(self, model: str, pool: str, start: float, end: float, grain_seconds: int) -> list[dict[str, Any]]:
        """Return one row per window of ``grain_seconds`` that begins in [start, end) and holds anything, ascending.

        A row has ``start`` and ``end`` (epoch seconds) and the sums of ``CLOSED_MEASURES``; and, of the closed windows
        inside it, ``closed`` (how many), the least ``completeness``, ``gap`` (any), the last ``current_replicas`` and
        ``ready_replicas`` (None where nothing has closed). Beyond the retention of base windows, windows finer than the
        closed ones are those.
        """
        if grain_seconds <= 0:
            raise ValueError(f"grain_seconds must be positive, not {grain_seconds}")
        where = _whole_windows(model, pool, start, end, grain_seconds)
        if grain_seconds % self._closed_grain:
            return dict_rows(self.cursor().execute(fine_history(), where))
        # Before the query begins: it sees that step, and perhaps a later one.
        closed = self._closed()
        known = self._known(where)
        if known.until == where["end"]:
            return known.rows
        where["start"] = known.until
        return known.rows + self._unknown(where, closed)

    def _unknown(self, where: dict[str, Any], closed: int) -> list[dict[str, Any]]:
        """What ``history`` says of windows of which memory has not said it: a late one, and what comes after it."""
        key_ids = self._key_ids(where["model"], where["pool"])
        opens = max(where["start"], closed)
        # Closed windows that are younger than what memory has are in one table, whatever has been rolled up.
        oldest = self._recent.oldest() if where["grain"] == self._closed_grain else closed
        recent = where["start"] >= min(closed, oldest) and self._states.pinned() is None
        sums = self._opened.sums(key_ids, opens, where["end"], where["grain"]) if recent and closed > 0 else None
        if sums is not None:
            rows = summed_rows(sums, where)
            if where["start"] < closed:
                rows = closed_of_pool(self.cursor(), where | {"end": min(closed, where["end"])}, key_ids) + rows
            return rows
        if where["start"] >= closed > 0:
            return open_rows(self.cursor(), where, key_ids)
        return history(self.cursor(), where, self._closed_grain, closed)

    def _known(self, where: dict[str, Any]) -> Found:
        """What is kept in memory of the windows of ``_whole_windows``."""
        if where["grain"] != self._closed_grain or self._states.pinned() is not None:
            return Found(where["start"], [], {}, [])
        return self._recent.find(where["model"], where["pool"], where["start"], where["end"])

    def history_span(self) -> tuple[int, int] | None:
        """Return the start of the oldest window that is kept and the end of the newest; see ``rollups.span``."""
        return rollups.span(self.cursor(), self._closed_grain)

    def latencies(
        self, model: str, pool: str, start: float, end: float, grain_seconds: int
    ) -> dict[int, dict[str, Any]]:
        """Return {window start: TTFT and TPOT} of the windows of ``history``; see ``window_latencies``."""
        where = _whole_windows(model, pool, start, end, grain_seconds)
        known = self._known(where)
        if known.until == where["end"]:
            return known.latencies
        where["start"] = known.until
        key_ids = self._key_ids(model, pool)
        kept = self._opened.since(where["grain"]) if self._states.pinned() is None else math.inf
        since = max(where["start"], kept)
        counts = self._opened.counts(key_ids, since, where["end"], where["grain"]) if since < where["end"] else None
        if counts is None:
            return known.latencies | window_latencies(self.cursor(), where, key_ids)
        found = known.latencies
        if where["start"] < since:
            found = found | window_latencies(self.cursor(), where | {"end": since}, key_ids)
        return found | counted_latencies(counts)

    def forecasts(self, model: str, pool: str, signal: str, issued_at: float | None = None) -> list[dict[str, Any]]:
        """Return the forecasts of one series issued at ``issued_at`` (None: the newest), by horizon.

        A row has ``issued_at``, ``target_at``, ``horizon_seconds`` and ``quantiles`` (a list at ``LEVELS``).
        """
        series = {"model": model, "pool": pool, "signal": str(signal)}
        cursor = self.cursor()
        if issued_at is None:  # the newest step nearly always, which is quick to find; else wherever it is
            newest = "SELECT max(issued_at) FROM forecasts WHERE model = $model AND pool = $pool AND signal = $signal"
            (step,) = cursor.execute("SELECT max(as_of) FROM steps").fetchone()
            for since in (step, None):
                after = "" if since is None else f" AND issued_at >= {int(since)}"
                (issued_at,) = cursor.execute(newest + after, series).fetchone()
                if issued_at is not None:
                    break
        rows = cursor.execute(
            f"""
            SELECT issued_at, horizon_seconds, {", ".join(QUANTILE_COLUMNS)} FROM forecasts
            WHERE model = $model AND pool = $pool AND signal = $signal AND issued_at = $issued_at
            ORDER BY horizon_seconds
            """,
            {**series, "issued_at": issued_at},
        ).fetchall()
        return [
            {"issued_at": at, "target_at": at + horizon, "horizon_seconds": horizon, "quantiles": list(quantiles)}
            for at, horizon, *quantiles in rows
        ]

    def forecasts_at(
        self, model: str, pool: str, signal: str, horizon_seconds: int, start: float, end: float
    ) -> list[dict[str, Any]]:
        """Return what was forecast ``horizon_seconds`` ahead for times in [start, end] (epoch seconds), oldest first.

        A row has ``target_at``, ``q05``, ``q50`` and ``q95``.
        """
        return dict_rows(
            self.cursor().execute(
                "SELECT issued_at + horizon_seconds AS target_at, q05, q50, q95 FROM forecasts "
                "WHERE issued_at BETWEEN ? AND ? AND model = ? AND pool = ? AND signal = ? AND horizon_seconds = ? "
                "ORDER BY issued_at",
                [start - horizon_seconds, end - horizon_seconds, model, pool, str(signal), horizon_seconds],
            )
        )

    def recent_rates(self, seconds: float, step_seconds: int) -> list[tuple[str, str, int, float]]:
        """Return (model, pool, start, requests per second) of steps of the newest ``seconds`` of closed windows.

        Oldest first. Counts are divided by the completeness estimate; gaps are left out, and steps that hold only gaps.
        """
        return (  # type: ignore[no-any-return]
            self.cursor()
            .execute(
                "SELECT model, pool, (window_start // $step * $step)::BIGINT AS start, "
                "avg(requests / (coalesce(completeness, 1) * grain_seconds)) FROM closed_windows "
                "WHERE window_start >= (SELECT max(as_of) FROM steps) - $seconds AND NOT gap "
                "GROUP BY ALL ORDER BY start, model, pool",
                {"step": step_seconds, "seconds": int(seconds)},
            )
            .fetchall()
        )

    def recommendations(
        self, model: str, pool: str, limit: int = 100, before: tuple[float, int] | None = None
    ) -> list[dict[str, Any]]:
        """Return the newest recommendations of a pool, newest first, as dicts of ``Recommendation``'s fields.

        ``before`` is an (issued_at, generation): only what comes after it in that order.
        """
        earlier = "" if before is None else "AND (issued_at, generation) < (?, ?) "
        return self._bodies(
            f"SELECT body FROM recommendations WHERE model = ? AND pool = ? {earlier}"
            "ORDER BY issued_at DESC, generation DESC LIMIT ?",
            [model, pool, *(before or ()), max(limit, 0)],
        )

    def alerts(self, since: float) -> list[dict[str, Any]]:
        """Return the alerts raised or changed at or after ``since`` (epoch seconds), newest first."""
        return self._bodies("SELECT body FROM alerts WHERE changed_at >= ? ORDER BY raised_at DESC, alert_id", [since])

    def ledger(self) -> list[dict[str, Any]]:
        """Return one row per source partition: what became of its records.

        ``records`` = ``ignored`` + ``dead_letters`` + ``event_records``, and ``events`` + ``duplicates`` are the events
        that those gave; ``late`` of the events came after their window had closed; ``lost`` offsets had left the broker
        before they were read.
        """
        return dict_rows(
            self.cursor().execute(
                "SELECT topic, source_partition AS partition, records, events, duplicates, dead_letters, late, lost, "
                "ignored, event_records FROM ledger ORDER BY ALL"
            )
        )

    def event_notes(self) -> dict[str, dict[str, int]]:
        """Return what records held besides their events, by kind and name.

        ``unknown`` by field, ``refused_part`` by reason, ``codec`` by name of what read the records; ``ignored_part``
        and ``reused_id`` have one count under an empty name.
        """
        found: dict[str, dict[str, int]] = {}
        for kind, name, n in self.cursor().execute("SELECT kind, name, n FROM event_notes ORDER BY ALL").fetchall():
            found.setdefault(kind, {})[name] = n
        return found

    def delta_ledger(self) -> list[dict[str, Any]]:
        """Return one row per delta partition: next offset, and how many deltas were applied, dropped, undecodable."""
        return dict_rows(self.cursor().execute("SELECT * FROM delta_positions ORDER BY delta_partition"))

    def totals(self) -> dict[str, int]:
        """Return requests, input_tokens and output_tokens over everything ever stored."""
        names = ("requests", "input_tokens", "output_tokens")
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
        row = (
            self.cursor()
            .execute(
                f"SELECT {sums} FROM (SELECT {', '.join(names)} FROM windows UNION ALL "
                f"SELECT {', '.join(names)} FROM retired_totals)"
            )
            .fetchone()
        )
        return {name: int(value) for name, value in zip(names, row, strict=True)}

    def histograms(self, model: str, pool: str, start: float, end: float) -> dict[str, dict[int, int]]:
        """Return {histogram name: {bucket: n}} of a pool, merged over the base windows that begin in [start, end).

        Histograms of values only, so not those of servers and outcomes.
        """
        rows = (
            self.cursor()
            .execute(
                "SELECT metric, bucket, sum(n)::BIGINT FROM histograms JOIN keys USING (key_id) "
                "WHERE model = ? AND pool = ? AND window_start >= ? AND window_start < ? GROUP BY ALL",
                [model, pool, start, end],
            )
            .fetchall()
        )
        merged: dict[str, dict[int, int]] = {name: {} for name in HISTOGRAMS}
        for metric, bucket, n in rows:
            merged[HISTOGRAMS[metric]][bucket] = n
        del merged[SERVERS], merged[SERVICE]
        return merged

    def latency_quantiles(self, model: str, pool: str, start: float, end: float) -> dict[str, dict[str, float | None]]:
        """Return {histogram name: {p50, p90, p95, p99}} of a pool over [start, end); None where nothing is known.

        Values are within 1 % of an observed one; names and units are those of ``HISTOGRAMS``.
        """
        return {
            name: {label: histogram.quantile(counts, q) for label, q in PERCENTILES.items()}
            for name, counts in self.histograms(model, pool, start, end).items()
        }

    def e2e_histogram(self, since: float, until: float) -> dict[tuple[str, str], dict[int, int]]:
        """Return {(model, pool): {bucket: n}} of ``e2e_seconds`` over the base windows that begin in [since, until)."""
        rows = (
            self.cursor()
            .execute(
                "SELECT model, pool, bucket, sum(n)::BIGINT FROM histograms JOIN keys USING (key_id) "
                "WHERE metric = ? AND window_start >= ? AND window_start < ? GROUP BY ALL",
                [HISTOGRAMS.index("e2e_seconds"), since, until],
            )
            .fetchall()
        )
        merged: dict[tuple[str, str], dict[int, int]] = {}
        for model, pool, bucket, n in rows:
            merged.setdefault((model, pool), {})[bucket] = n
        return merged

    def dead_letters(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return refused records, by topic, partition and falling offset."""
        return dict_rows(
            self.cursor().execute(
                'SELECT topic, source_partition AS partition, source_offset AS "offset", reason, detail '
                "FROM dead_letters ORDER BY topic, source_partition, source_offset DESC LIMIT ?",
                [max(limit, 0)],
            )
        )

    def dead_letter_reasons(self) -> dict[str, int]:
        """Return {reason: how many} over everything ever refused."""
        rows = self.cursor().execute(
            "SELECT reason, sum(n)::BIGINT FROM (SELECT reason, count(*) AS n FROM dead_letters GROUP BY 1 "
            "UNION ALL FROM retired_dead_letters) GROUP BY 1 ORDER BY 1"
        )
        return dict(rows.fetchall())

    def samples(
        self,
        source: str,
        measure: str,
        pools: Collection[tuple[str, str]],
        grid: series.Grid,
        more: tuple[Sequence[int], str] | None = None,
    ) -> dict[tuple[str, str, int], series.Samples]:
        """Return samples of many pools for the times of a grid; see ``series.samples``."""
        if source == "windows" and len(pools) <= _FEW_POOLS and self._states.pinned() is None:
            known = recent_samples(self._recent, measure, pools, grid, self._closed_grain, self._closed())
            if known is not None:
                return known
        return series.samples(self.cursor(), source, measure, pools, grid, more)

    def forecast_paths(
        self, signal: str, pools: Collection[tuple[str, str]], as_of: float
    ) -> dict[tuple[str, str], list[tuple[float, list[float]]]]:
        """Return what was the newest forecast of pools at a time; see ``series.forecast_paths``."""
        return series.forecast_paths(self.cursor(), signal, pools, as_of)

    def full_matches(self, pattern: str, values: Collection[str]) -> set[str]:
        """Return the values that a regular expression matches; see ``series.full_matches``."""
        return series.full_matches(self.cursor(), pattern, values)

    def silent_pools(self, since: int) -> set[tuple[str, str]]:
        """Return the (model, pool) of which no request was counted in windows from ``since`` (epoch seconds) on."""
        cursor = self.cursor()
        hourly = max(rollups.GRAINS_SECONDS)
        rows = cursor.execute(
            f"""
            WITH closed AS (SELECT coalesce(max(as_of), 0) AS until FROM steps)
            SELECT model, pool FROM keys EXCEPT (
                SELECT model, pool FROM {rollups.table(hourly)} WHERE window_start + {hourly} > $since AND requests > 0
                UNION ALL
                SELECT model, pool FROM closed_windows, closed
                WHERE window_start >= greatest($since, until // {hourly} * {hourly}) AND requests > 0
                UNION ALL
                SELECT model, pool FROM late_windows JOIN keys USING (key_id) WHERE window_start >= $since
                UNION ALL
                SELECT model, pool FROM windows JOIN keys USING (key_id), closed
                WHERE window_start >= greatest($since, until)
            )
            """,
            {"since": since},
        ).fetchall()
        return set(rows)

    def _bodies(self, query: str, parameters: list[Any]) -> list[dict[str, Any]]:
        rows = self.cursor().execute(query, parameters).fetchall()
        return [msgspec.json.decode(body) for (body,) in rows]
