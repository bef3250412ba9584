"""Rows of the store as nouns again, so that history has the same JSON shape as what is live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from pipeline.alerts.types import Alert
from pipeline.forecast.rates import summed_rates
from pipeline.forecast.types import Signal
from pipeline.publish.json import to_data
from pipeline.windows.latencies import LATENCIES, speaks_for
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
    if finished and not row.get("gap"):
        rates = summed_rates(grain_seconds, *(row.get(name) or 0 for name in _OF_RATES))
    else:
        rates = dict.fromkeys(_SIGNALS)
    named = {"model": key.model, "pool": key.pool, "grain_seconds": grain_seconds, **row}
    latencies = _latencies(told, row.get("ok") or 0) if told else _NO_LATENCIES
    return {**named, "finished": finished, "rates": rates, **latencies}


#: What the rates are made of, as ``summed_rates`` takes it.
_OF_RATES = ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "kv_token_milliseconds")
_SIGNALS = tuple(signal.value for signal in Signal)


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


_NO_LATENCIES = _latencies({}, 0)


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
