"""What each step of the engine leaves behind: closed windows, forecasts, recommendations, alerts."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.alerts.types import Alert
from pipeline.engine.types import StepInput, StepOutput
from pipeline.forecast.calendar.effects import parse_record, to_fields
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.forecast.types import Forecast, SeriesKey, Signal
from pipeline.store.breakdowns import StoredParts, write_parts
from pipeline.store.exogenous import exogenous_since, write_exogenous
from pipeline.store.sql import parsed, run, texts
from pipeline.windows.fleet import FleetReport
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.service import Service
from pipeline.windows.types import ClosedWindow
from sizing.types import Recommendation

__all__ = [
    "closed_since",
    "newest_advice",
    "read_closing",
    "read_output",
    "write_calendar",
    "write_recommendations",
    "write_steps",
    "write_windows",
]

T = TypeVar("T")

QUANTILE_COLUMNS = ("q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")

_NAN = "'NaN'::DOUBLE"

_CLOSED_FIELDS = (
    "window_start",
    "grain_seconds",
    "model",
    "pool",
    *CLOSED_MEASURES,
    "completeness",
    "gap",
    "current_replicas",
    "ready_replicas",
    *LATENCIES,
    "closed_after_seconds",
    "servers",
    "fleet",
    "service",
)
#: The columns that hold NULL for an unknown number.
_NUMBERS = (*LATENCIES, "closed_after_seconds")
_MAX_BIGINT = (1 << 63) - 1
_FLEET = msgspec.json.Decoder(FleetReport | None)
_SERVICE = msgspec.json.Decoder(Service | None)


def write_steps(connection: Any, outputs: Sequence[StepOutput], closed: Collection[tuple[str, str]] = ()) -> None:
    """Write everything that steps say; call inside a transaction.

    ``closed`` are the pools of which the first step's windows are written already, with its calendar and its rows from
    outside.
    """
    connection.execute(parsed(connection, "INSERT INTO steps SELECT unnest(?)"), [[o.as_of for o in outputs]])
    first, *others = outputs
    left = (w for w in first.windows if w.key not in closed)
    numbered = [(first.as_of, i, w) for i, w in enumerate(left, len(closed))]
    write_windows(connection, numbered + [(o.as_of, i, w) for o in others for i, w in enumerate(o.windows)])
    _write_forecasts(connection, [f for o in outputs for f in o.forecasts])
    write_recommendations(connection, [r for o in outputs for r in o.recommendations])
    _write_alerts(connection, [(o.as_of, a) for o in outputs for a in o.alerts])
    changed = others if closed else outputs
    write_calendar(connection, [(o.as_of, i, c) for o in changed for i, c in enumerate(o.calendar)])
    write_exogenous(connection, [(o.as_of, i, row) for o in changed for i, row in enumerate(o.exogenous)])


def write_windows(connection: Any, numbered: Sequence[tuple[int, int, ClosedWindow]]) -> None:
    """Write closed windows with their breakdowns, given as (as_of, seq, window); call inside a transaction."""
    _write_windows(connection, numbered)
    write_parts(connection, numbered)


def read_output(cursor: Any, as_of: int) -> StepOutput:
    """Return what the step of ``as_of`` said, less its scores and errors, with every alert that still lasts.

    Advice that revisions have raised since is told in place of the step's. What an older version wrote in another shape
    is left out.
    """
    fields = ", ".join(_CLOSED_FIELDS)
    windows = cursor.execute(f"SELECT {fields} FROM closed_windows WHERE as_of = ? ORDER BY seq", [as_of]).fetchall()
    forecasts = cursor.execute(
        f"SELECT model, pool, signal, issued_at, horizon_seconds, {', '.join(QUANTILE_COLUMNS)} FROM forecasts "
        "WHERE issued_at = ? ORDER BY model, pool, signal, horizon_seconds",
        [as_of],
    ).fetchall()
    alerts = cursor.execute(
        "SELECT body FROM alerts WHERE changed_at = ? OR body LIKE ? ORDER BY raised_at, alert_id",
        [as_of, '%"ended_at":null%'],
    ).fetchall()
    return StepOutput(
        as_of=as_of,
        windows=StoredParts(cursor, as_of - 1, as_of).add(as_of, [_closed_window(row) for row in windows]),
        forecasts=tuple(
            Forecast(SeriesKey(model, pool, Signal(signal)), issued_at, horizon, tuple(quantiles))
            for model, pool, signal, issued_at, horizon, *quantiles in forecasts
            if signal in set(Signal)
        ),
        recommendations=newest_advice(cursor, as_of),
        alerts=tuple(_decoded(alerts, Alert)),
    )


def newest_advice(cursor: Any, since: int) -> tuple[Recommendation, ...]:
    """Return the newest recommendation of each pool that has one since a time (epoch seconds), sorted by pool."""
    bodies = cursor.execute(
        "SELECT body FROM recommendations WHERE issued_at >= ? "
        "QUALIFY row_number() OVER (PARTITION BY model, pool ORDER BY issued_at DESC) = 1 ORDER BY model, pool",
        [since],
    ).fetchall()
    return tuple(_decoded(bodies, Recommendation))


def _decoded(bodies: Sequence[tuple[str]], kind: type[T]) -> Iterator[T]:
    for (body,) in bodies:
        with suppress(msgspec.ValidationError):
            yield msgspec.json.decode(body, type=kind)


def read_closing(cursor: Any, last_closed: int | None) -> StepInput | None:
    """Return what was written of a step after ``last_closed`` that was not finished; None: nothing."""
    since = -1 if last_closed is None else last_closed
    fields = ", ".join(_CLOSED_FIELDS)
    rows = cursor.execute(
        f"SELECT as_of, {fields} FROM closed_windows WHERE as_of > ? ORDER BY as_of, seq", [since]
    ).fetchall()
    if not rows:
        return None
    as_of = int(rows[0][0])
    windows = StoredParts(cursor.cursor(), since, as_of).add(as_of, [_closed_window(row[1:]) for row in rows])
    changes, given = _calendar_since(cursor, since), exogenous_since(cursor, since)
    return StepInput(as_of, windows, tuple(change for _, change in changes), tuple(row for _, row in given))


def closed_since(cursor: Any, as_of: int, chunk_rows: int = 10_000) -> Iterator[StepInput]:
    """Yield the steps after ``as_of`` in order, each with its windows in the order in which they were recorded.

    Changes of the calendar and rows from outside come with the step that they were recorded with, or with the first one
    where that is gone.
    """
    changes, given = _calendar_since(cursor, as_of), exogenous_since(cursor.cursor(), as_of)
    parts = StoredParts(cursor.cursor(), as_of)
    fields = ", ".join(f"w.{name}" for name in _CLOSED_FIELDS)
    cursor.execute(
        f"SELECT s.as_of, {fields} FROM steps s LEFT JOIN closed_windows w ON w.as_of = s.as_of "
        "WHERE s.as_of > ? ORDER BY s.as_of, w.seq",
        [as_of],
    )
    rows = iter(lambda: cursor.fetchmany(chunk_rows), [])
    for step, group in groupby((row for chunk in rows for row in chunk), key=lambda row: row[0]):
        windows = parts.add(int(step), [_closed_window(row[1:]) for row in group if row[1] is not None])
        yield StepInput(int(step), windows, _due(changes, int(step)), _due(given, int(step)))


def _due(waiting: deque[tuple[int, T]], step: int) -> tuple[T, ...]:
    """Take what was recorded with steps until ``step``."""
    due = []
    while waiting and waiting[0][0] <= step:
        due.append(waiting.popleft()[1])
    return tuple(due)


def _calendar_since(cursor: Any, as_of: int) -> deque[tuple[int, CalendarChange]]:
    rows = cursor.execute(
        "SELECT as_of, removed, body FROM calendar_changes WHERE as_of > ? ORDER BY as_of, seq", [as_of]
    ).fetchall()
    return deque(
        (int(at), CalendarChange(parse_record(msgspec.json.decode(body)), removed)) for at, removed, body in rows
    )


def write_calendar(connection: Any, numbered: Sequence[tuple[int, int, CalendarChange]]) -> None:
    """Write changes of the calendar, given as (as_of, seq, change); call inside a transaction."""
    if not numbered:
        return
    changes = [change for _, _, change in numbered]
    batch: dict[str, Any] = {
        "as_of": np.array([as_of for as_of, _, _ in numbered], np.int64),
        "seq": np.array([seq for _, seq, _ in numbered], np.int64),
        "removed": np.array([change.removed for change in changes], np.bool_),
        "ends_at": np.array([change.record.ends_at for change in changes], np.float64),
        "body": texts([msgspec.json.encode(to_fields(change.record)).decode() for change in changes]),
    }
    run(connection, f"INSERT INTO calendar_changes SELECT {', '.join(batch)} FROM batch", batch)


def _closed_window(row: tuple[Any, ...]) -> ClosedWindow:
    values = dict(zip(_CLOSED_FIELDS, row, strict=True))
    fleet = _FLEET.decode(values.pop("fleet") or "null")
    service = _SERVICE.decode(values.pop("service") or "null")
    return ClosedWindow(start=values.pop("window_start"), fleet=fleet, service=service, **values)


def _write_windows(connection: Any, numbered: Sequence[tuple[int, int, ClosedWindow]]) -> None:
    if not numbered:
        return
    windows = [window for _, _, window in numbered]
    batch: dict[str, Any] = {
        "as_of": np.array([as_of for as_of, _, _ in numbered], np.int64),
        "seq": np.array([seq for _, seq, _ in numbered], np.int64),
        "window_start": np.array([w.start for w in windows], np.int64),
        "grain_seconds": np.array([w.grain_seconds for w in windows], np.int64),
        "model": texts([w.model for w in windows]),
        "pool": texts([w.pool for w in windows]),
        **{name: _sums(windows, name) for name in CLOSED_MEASURES},
        "completeness": np.array([w.completeness for w in windows], np.float64),
        "gap": np.array([w.gap for w in windows], np.bool_),
        **{
            name: np.array([-1 if getattr(w, name) is None else getattr(w, name) for w in windows], np.int64)
            for name in ("current_replicas", "ready_replicas", "servers")
        },
        **{
            name: np.array([np.nan if getattr(w, name) is None else getattr(w, name) for w in windows], np.float64)
            for name in _NUMBERS
        },
        **{
            name: texts([msgspec.json.encode(told).decode() if told else "" for told in map(attrgetter(name), windows)])
            for name in ("fleet", "service")
        },
    }
    sums = ", ".join(name if batch[name].dtype == np.int64 else f"{name}::HUGEINT" for name in CLOSED_MEASURES)
    run(
        connection,
        f"INSERT INTO closed_windows (as_of, seq, {', '.join(_CLOSED_FIELDS)}) "
        "SELECT as_of, seq, window_start, grain_seconds, model, pool, "
        f"{sums}, completeness, gap, nullif(current_replicas, -1), nullif(ready_replicas, -1), "
        f"{', '.join(f'nullif({name}, {_NAN})' for name in _NUMBERS)}, nullif(servers, -1), "
        "nullif(fleet, ''), nullif(service, '') FROM batch",
        batch,
    )


def _sums(windows: Sequence[ClosedWindow], name: str) -> NDArray[Any]:
    """A column of sums: numbers, which DuckDB reads several times as fast as text, unless one passes 64 bits."""
    sums = [getattr(window, name) for window in windows]
    return np.array(sums, np.int64) if max(sums) <= _MAX_BIGINT else texts([str(value) for value in sums])


def _write_forecasts(connection: Any, forecasts: Sequence[Forecast]) -> None:
    if not forecasts:
        return
    quantiles = np.array([f.quantiles for f in forecasts], np.float64)
    batch: dict[str, Any] = {
        "model": texts([f.series.model for f in forecasts]),
        "pool": texts([f.series.pool for f in forecasts]),
        "signal": texts([str(f.series.signal) for f in forecasts]),
        "issued_at": np.array([f.issued_at for f in forecasts], np.float64),
        "horizon_seconds": np.array([f.horizon_seconds for f in forecasts], np.int64),
        **{name: np.ascontiguousarray(quantiles[:, i]) for i, name in enumerate(QUANTILE_COLUMNS)},
    }
    run(connection, f"INSERT INTO forecasts SELECT {', '.join(batch)} FROM batch", batch)


def write_recommendations(connection: Any, advice: Sequence[Recommendation]) -> None:
    """Write the advice of steps or of a revision; call inside a transaction."""
    if not advice:
        return
    batch: dict[str, Any] = {
        "model": texts([r.model for r in advice]),
        "pool": texts([r.pool for r in advice]),
        "issued_at": np.array([r.issued_at for r in advice], np.float64),
        "generation": np.array([r.generation for r in advice], np.int64),
        "body": texts([msgspec.json.encode(r).decode() for r in advice]),
    }
    run(connection, f"INSERT INTO recommendations SELECT {', '.join(batch)} FROM batch", batch)


def _write_alerts(connection: Any, told: Sequence[tuple[int, Alert]]) -> None:
    if not told:
        return
    last = {alert.alert_id: (as_of, alert) for as_of, alert in told}  # the last word on an episode wins
    alerts = [alert for _, alert in last.values()]
    batch: dict[str, Any] = {
        "alert_id": texts([a.alert_id for a in alerts]),
        "model": texts([a.model for a in alerts]),
        "pool": texts([a.pool for a in alerts]),
        "raised_at": np.array([a.raised_at for a in alerts], np.float64),
        "changed_at": np.array([as_of for as_of, _ in last.values()], np.float64),
        "body": texts([msgspec.json.encode(a).decode() for a in alerts]),
    }
    run(connection, "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM batch)", batch)
    run(connection, f"INSERT INTO alerts SELECT {', '.join(batch)} FROM batch", batch)
