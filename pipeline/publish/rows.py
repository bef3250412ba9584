"""Rows of the store as nouns again, so that history has the same JSON shape as what is live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from pipeline.alerts.types import Alert
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import Signal
from pipeline.publish.json import to_data
from pipeline.windows.latencies import LATENCIES, speaks_for
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window
from pipeline.windows.types import PoolKey
from sizing.types import Recommendation

__all__ = ["alert_data", "recommendation_data", "window_data"]

T = TypeVar("T")


def window_data(
    row: Any, key: PoolKey, grain_seconds: int, as_of: int | None, told: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a row of ``Reader.history`` as data, with its demand rates and latencies.

    The sums hold late events, too, so the rates are not corrected for completeness. They are None in a telemetry gap
    and in a window that is still filling (``as_of`` is the end of the newest closed window): half a count is no rate.
    ``told`` is what ``Reader.latencies`` says of the window (None: nothing is kept of it).
    """
    finished = row["end"] <= as_of if as_of is not None else bool(row.get("closed"))
    rates: dict[str, float | None] = dict.fromkeys(signal.value for signal in Signal)
    if finished and not row.get("gap"):
        sums = [int(row.get(name) or 0) for name in CLOSED_MEASURES]
        rates = signal_rates(closed_window(row["start"], grain_seconds, *key, sums))
    named = {"model": key.model, "pool": key.pool, "grain_seconds": grain_seconds, **row}
    return {**named, "finished": finished, "rates": rates, **_latencies(told or {}, int(row.get("ok") or 0))}


def _latencies(told: Mapping[str, Any], answered: int) -> dict[str, Any]:
    """TTFT and TPOT, means and percentiles in seconds; None where fewer than half of the answered requests told it."""
    data: dict[str, Any] = {"latency_statuses": told.get("statuses")}
    for name in LATENCIES:
        known = told.get(name)
        if known is not None and not speaks_for(known["told"], answered):
            known = None
        data[name] = None if known is None else known["mean"]
        percentiles = None if known is None else {p: v for p, v in known.items() if p not in ("told", "mean")}
        data[name.replace("_seconds", "_percentiles_seconds")] = percentiles
    return data


def recommendation_data(row: Any) -> Any:
    """Return a recommendation row as data."""
    return to_data(_noun(Recommendation, row))


def alert_data(row: Any) -> Any:
    """Return an alert row as data, with its ``active`` flag."""
    return to_data(_noun(Alert, row))


def _noun(kind: type[T], row: T | Mapping[str, Any]) -> Any:
    """A noun from a mapping; columns that the noun does not know are left out, a mapping that lacks one stays as it is.

    Such a row is of an older version: it is shown as far as it goes.
    """
    if not isinstance(row, Mapping):
        return row
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    required = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if required - row.keys():
        return row
    return kind(**{name: row[name] for name in known if name in row})
